"""Camera: how well the pose of a view relative to the first one was found, as angles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, ratio, same_shape, take

THRESHOLDS = (5, 15, 30)
"""Degrees below which a rotation or a direction counts as found."""
AUC_LIMIT = 30
MIN_BASELINE = 1e-3
"""Metres. A camera that moved less has no direction of translation that one could find."""


def rotation_angle(
    first: Float[np.ndarray, "*batch 3 3"], second: Float[np.ndarray, "*batch 3 3"]
) -> Float[np.ndarray, "*batch"]:
    """Return the angle in degrees, 0 .. 180, of the rotation between two rotations.

    From ||R1 - R2||_F = 2 sqrt(2) sin(angle / 2) (Hartley et al. 2013, Rotation Averaging, section 4), which unlike
    the arc cosine of the trace stays exact for small angles.
    """
    chord = np.linalg.norm(first - second, axis=(-2, -1)) / (2 * np.sqrt(2))
    angle: NDArray[np.float64] = np.degrees(2 * np.arcsin(np.clip(chord, 0.0, 1.0)))
    return angle


def direction_angle(
    prediction: Float[np.ndarray, "*batch 3"], target: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch"]:
    """Return the angle in degrees, 0 .. 180, between two translations; 180 where the prediction has no direction.

    The sign counts: forwards is not backwards. (VGGT's evaluation folds the angle at 90 degrees.)
    """
    across = np.linalg.norm(np.cross(prediction, target), axis=-1)
    along = np.sum(prediction * target, axis=-1)
    angle = np.degrees(np.arctan2(across, along))
    return np.where(np.linalg.norm(prediction, axis=-1) > 0, angle, 180.0)


def auc(
    histogram: Float[np.ndarray, "*batch degree"], pairs: Float[np.ndarray, "*batch"]
) -> Float[np.ndarray, "*batch"]:
    """Return the area under the recall curve up to `degree` degrees, from counts of errors in bins of one degree.

    As in VGGT (Wang et al. 2025) and PoseDiffusion: the mean over bins of the share of all pairs whose error lies in
    that bin or an earlier one. Pairs with larger errors are in `pairs` but in no bin.
    """
    return ratio(np.cumsum(histogram, axis=-1).mean(axis=-1), pairs)


def pair_counts(
    rotation_error: Float[np.ndarray, " pair"],
    direction_error: Float[np.ndarray, " pair"],
    moved: Bool[np.ndarray, " pair"],
) -> dict[str, NDArray[np.int64]]:
    """Return the counts of pairs that all camera metrics follow from; errors in degrees.

    `rotation_found` and `direction_found` count errors below each of `THRESHOLDS`. `histogram` counts the larger of
    both errors in bins of one degree up to `AUC_LIMIT`. Pairs that did not move count for rotation only.
    """
    found = {
        "rotation_found": [np.sum(rotation_error < limit) for limit in THRESHOLDS],
        "direction_found": [np.sum(direction_error[moved] < limit) for limit in THRESHOLDS],
    }
    worse = np.maximum(rotation_error, direction_error)[moved]
    histogram, _ = np.histogram(worse, bins=np.arange(AUC_LIMIT + 1))
    counts = {"pairs": len(moved), "moved_pairs": moved.sum(), "histogram": histogram, **found}
    return {name: np.asarray(count, np.int64) for name, count in counts.items()}


class CameraProtocol(Protocol):
    """Pairs (first view, other view) of all windows and scenes are pooled."""

    task = "camera"
    primary = "auc30"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        "auc30": MetricInfo(
            "AUC@30°", "%", True, "area under the recall of max(rotation, direction) error up to 30 degrees"
        ),
        **{
            f"rra{limit}": MetricInfo(
                f"RRA@{limit}°", "%", True, f"share of pairs with rotation error below {limit} degrees"
            )
            for limit in THRESHOLDS
        },
        **{
            f"rta{limit}": MetricInfo(
                f"RTA@{limit}°", "%", True, f"share of pairs with direction error below {limit} degrees"
            )
            for limit in THRESHOLDS
        },
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pairs": (),
        "moved_pairs": (),
        "rotation_found": ("threshold",),
        "direction_found": ("threshold",),
        "histogram": ("degree",),
    }

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return pair counts of `rotation` (window, pair, 3, 3), `translation` (window, pair, 3); x_0 = R x_j + t."""
        arrays = {}
        for name, dims in (("rotation", "window pair 3 3"), ("translation", "window pair 3")):
            guess, truth = (take(source, name, dims, role).astype(np.float64) for source, role in
                            ((prediction, "prediction"), (target, "target")))  # fmt: skip
            same_shape(guess, truth, name)
            if not np.isfinite(guess).all():
                raise InputError(f"predicted {name} holds NaN or infinity")
            arrays[name] = guess.reshape(-1, *guess.shape[2:]), truth.reshape(-1, *truth.shape[2:])
        moved = np.linalg.norm(arrays["translation"][1], axis=-1) >= MIN_BASELINE
        return dict(pair_counts(rotation_angle(*arrays["rotation"]), direction_angle(*arrays["translation"]), moved))

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return AUC@30 and the recalls of the pooled pairs."""
        total = {name: weights @ np.asarray(statistics[name], np.float64) for name in self.dims}
        result = {"auc30": auc(total["histogram"], total["moved_pairs"])}
        for index, limit in enumerate(THRESHOLDS):
            result[f"rra{limit}"] = ratio(total["rotation_found"][:, index], total["pairs"])
        for index, limit in enumerate(THRESHOLDS):
            result[f"rta{limit}"] = ratio(total["direction_found"][:, index], total["moved_pairs"])
        return result
