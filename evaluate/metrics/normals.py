"""Normals: by how many degrees the predicted direction of a surface is off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, median, ratio, same_shape, scene_means, take

THRESHOLDS = (11.25, 22.5, 30.0)
"""Degrees below which a normal counts as found (Fouhey, Gupta & Hebert 2013, "Data-driven 3D primitives")."""
_PIXELS = 1 << 14
"""Pixels at a time: they stay in the processor's cache."""


def normal_angles(
    prediction: Float[np.ndarray, "pixel 3"], target: Float[np.ndarray, "pixel 3"]
) -> Float[np.ndarray, " pixel"]:
    """Return the angle in degrees, 0 .. 180, between two directions; 180 where the prediction has none.

    2 arcsin(||a - b|| / 2) of the unit vectors, which unlike the arc cosine of their product stays exact for small
    angles.
    """
    return _angles(_by_axis(prediction), _by_axis(target))


def _by_axis(vectors: Shaped[np.ndarray, "pixel 3"]) -> Float[np.ndarray, "3 pixel"]:
    """Return x, y and z each in one piece: numpy is slow along an axis of three."""
    return np.ascontiguousarray(vectors.T, np.float64)


def _angles(p: Float[np.ndarray, "3 pixel"], g: Float[np.ndarray, "3 pixel"]) -> Float[np.ndarray, " pixel"]:
    length = _length(p)
    apart = p / np.where(length > 0, length, 1)
    apart -= g / _length(g)
    angle = np.degrees(2 * np.arcsin(np.minimum(_length(apart) / 2, 1.0)))
    return np.where(length > 0, angle, 180.0)


def _length(vectors: Float[np.ndarray, "3 pixel"]) -> Float[np.ndarray, " pixel"]:
    x, y, z = vectors
    length: NDArray[np.float64] = np.sqrt(x * x + y * y + z * z)
    return length


class NormalsProtocol(Protocol):
    """Every metric is the mean over scenes of the value over all valid pixels of the scene."""

    task = "normals"
    primary = "mean_angle"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        "mean_angle": MetricInfo("mean angle", "°", False, "mean angle between predicted and true normal"),
        "median_angle": MetricInfo("median angle", "°", False, "median over a scene's pixels of that angle"),
        "rmse_angle": MetricInfo("RMSE", "°", False, "root of the mean squared angle of a scene"),
        **{
            f"within{limit:g}": MetricInfo(
                f"within {limit:g}°", "%", True, f"share of pixels with an angle below {limit:g} degrees"
            )
            for limit in THRESHOLDS
        },
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pixels": (),
        "angle": (),
        "square": (),
        "median": (),
        "found": ("threshold",),
    }

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return sums over valid pixels of `normals` (frame, y, x, 3), and their median; the zero vector = invalid."""
        p = take(prediction, "normals", "frame y x 3", "prediction")
        g = take(target, "normals", "frame y x 3", "target")
        same_shape(p, g, "normals")
        angles = [np.zeros(0)]
        flat = p.reshape(-1, 3), g.reshape(-1, 3)
        for start in range(0, len(flat[0]), _PIXELS):
            guess, truth = (_by_axis(side[start : start + _PIXELS]) for side in flat)
            valid = truth.any(axis=0)
            if not np.isfinite(guess).all() and not np.isfinite(guess[:, valid]).all():
                raise InputError("predicted normals hold NaN or infinity at valid pixels")
            # To work out angles of all pixels is quicker than to pick the valid ones of six numbers each.
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                angles.append(_angles(guess, truth)[valid])
        angle = np.concatenate(angles)
        return {
            "pixels": np.asarray(len(angle), np.int64),
            "angle": np.asarray(angle.sum()),
            "square": np.asarray(angle @ angle),
            "median": np.asarray(median(angle)),
            "found": np.array([np.count_nonzero(angle < limit) for limit in THRESHOLDS], np.int64),
        }

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return the metrics for each row of scene weights; scenes without a valid pixel are left out."""
        pixels = np.asarray(statistics["pixels"], np.float64)
        found = ratio(np.asarray(statistics["found"]), pixels[:, None])
        per_scene = {
            "mean_angle": ratio(statistics["angle"], pixels),
            "median_angle": np.asarray(statistics["median"], np.float64),
            "rmse_angle": np.sqrt(ratio(statistics["square"], pixels)),
            **{f"within{limit:g}": found[:, index] for index, limit in enumerate(THRESHOLDS)},
        }
        return scene_means({name: per_scene[name] for name in self.metrics}, weights)
