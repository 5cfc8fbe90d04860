"""Points by the rules of arXiv 2605.28132: aligned where the targets are surest, and weighed by how sure they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, ratio, same_shape, scene_mean, take
from evaluate.metrics.paper.confidence import most_confident, take_confidence
from evaluate.metrics.points import MIN_POINTS, mean_distance, take_valid, umeyama


def window_error(
    prediction: Float[np.ndarray, "view y x 3"],
    target: Float[np.ndarray, "view y x 3"],
    valid: Bool[np.ndarray, "view y x"],
    confidence: Float[np.ndarray, "view y x"],
) -> float:
    """Return the confidence-weighted mean distance over all valid pixels, in mean distances of the first view.

    The similarity (Umeyama 1991) from prediction to target is fitted on the most confident quarter of pixels alone. NaN
    where the first view has no valid point, no pixel has confidence, or fewer than `MIN_POINTS` are left to fit to (the
    paper's code would compare unaligned).

    Raises:
        InputError: a predicted point is not finite at a valid pixel.
    """
    chosen = most_confident(confidence, valid)
    if chosen.sum() < MIN_POINTS or not valid[0].any() or not confidence[valid].any():
        return np.nan
    if not np.isfinite(prediction[valid]).all():
        raise InputError("predicted points hold NaN or infinity at valid pixels")
    fit = umeyama(prediction[chosen], target[chosen])
    distance = np.linalg.norm(fit(prediction[valid]) - target[valid], axis=-1)
    return float(np.average(distance, weights=confidence[valid]) / mean_distance(target[0][valid[0]]))


class PaperPointsProtocol(Protocol):
    """The mean over scenes of the mean over the scene's windows.

    The paper has one window of four views per scene, targets of another network (VGGT) that are valid everywhere, and
    calls the metric an MSE, which it is not. It computes in float32 and adds 1e-6 to the sum of confidences.
    """

    task = "points"
    primary = "point_error"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        "point_error": MetricInfo(
            "P-map err",
            "",
            False,
            "confidence-weighted mean distance after the similarity that fits the 25 % most confident pixels; 1 = the "
            "first view's mean distance",
        )
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {"windows": (), "point_error": ()}

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return sums over windows of `points` (window, view, y, x, 3), `valid` and `confidence` (window, view, y, x).

        `valid` may be left out of the target where all pixels are.
        """
        p = take(prediction, "points", "window view y x 3", "prediction").astype(np.float64, copy=False)
        g = take(target, "points", "window view y x 3", "target").astype(np.float64, copy=False)
        same_shape(p, g, "points")
        valid = take_valid(target, g)
        windows = zip(p, g, valid, take_confidence(target, valid), strict=True)
        errors = np.array([window_error(*window) for window in windows])
        measured = np.isfinite(errors)
        return {"windows": np.asarray(measured.sum(), np.int64), "point_error": np.asarray(errors[measured].sum())}

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return the metric for each row of scene weights; scenes without a measurable window are left out."""
        per_scene = ratio(np.asarray(statistics["point_error"]), np.asarray(statistics["windows"], np.float64))
        return {"point_error": scene_mean(per_scene, weights)}
