"""Normals by the rules of Probe3D (arXiv 2404.08636): image by image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, ratio, same_shape, take
from evaluate.metrics.normals import THRESHOLDS, normal_angles

NOWHERE = 90.0
"""Degrees by which a prediction without a direction is off: its cosine with anything is 0."""


class Probe3dNormalsProtocol(Protocol):
    """Every metric is the mean over all images of all scenes of the image's own value.

    It differs from the code in which pixels are valid: those with a target normal, there those with a depth of 10 m at
    most. An image without a valid pixel is left out; there it counts as 0. The code takes the arc cosine in float32,
    which cannot tell angles below 0.02 degrees apart. The paper names no one metric; the first of its tables is primary
    here.
    """

    task = "normals"
    primary = f"within{THRESHOLDS[0]:g}"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        **{
            f"within{limit:g}": MetricInfo(
                f"within {limit:g}°",
                "%",
                True,
                f"share of an image's pixels with an angle below {limit:g} degrees, mean over images",
            )
            for limit in THRESHOLDS
        },
        "rmse_angle": MetricInfo("RMSE", "°", False, "root of the mean squared angle of an image, mean over images"),
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {"images": (), "found": ("threshold",), "rmse_angle": ()}

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return sums over images of `normals` (frame, y, x, 3); the zero vector in the target = invalid."""
        p = take(prediction, "normals", "frame y x 3", "prediction")
        g = take(target, "normals", "frame y x 3", "target")
        same_shape(p, g, "normals")
        images, found, rmse = 0, np.zeros(len(THRESHOLDS)), 0.0
        for guess, truth in zip(p, g, strict=True):  # one image at a time stays in the processor's cache
            valid = truth.any(axis=-1)
            said, true = guess[valid].astype(np.float64), truth[valid].astype(np.float64)
            if not np.isfinite(said).all():
                raise InputError("predicted normals hold NaN or infinity at valid pixels")
            if len(said):
                angle = np.where(said.any(axis=-1), normal_angles(said, true), NOWHERE)
                images += 1
                found += [np.mean(angle < limit) for limit in THRESHOLDS]
                rmse += np.sqrt(np.mean(angle**2))
        return {"images": np.asarray(images, np.int64), "found": found, "rmse_angle": np.asarray(rmse, np.float64)}

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return the means over images; NaN without any."""
        total = {name: weights @ np.asarray(statistics[name], np.float64) for name in self.dims}
        found = ratio(total["found"], total["images"][:, None])
        return {
            **{f"within{limit:g}": found[:, index] for index, limit in enumerate(THRESHOLDS)},
            "rmse_angle": ratio(total["rmse_angle"], total["images"]),
        }
