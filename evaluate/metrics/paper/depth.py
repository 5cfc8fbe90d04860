"""Depth by the rules of arXiv 2605.28132: one scale per window, on the quarter of pixels with the surest targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, ratio, same_shape, scene_means, take
from evaluate.metrics.paper.confidence import most_confident, take_confidence

SMALLEST = 1e-6
"""Both depths are clipped to at least this, the scale to this and its inverse."""
_PICKED = "median-scaled over the window, on the 25 % most confident pixels"


def window_errors(p: Float[np.ndarray, " pixel"], g: Float[np.ndarray, " pixel"]) -> Float[np.ndarray, " metric"]:
    """Return every metric of one window in the order of `PaperDepthProtocol.metrics`.

    The prediction is scaled by median(g) / median(p); of an even number of values the median is the lower of the two in
    the middle, as in torch.
    """
    p, g = np.maximum(p, SMALLEST), np.maximum(g, SMALLEST)
    p = p * np.clip(_lower_median(g) / _lower_median(p), SMALLEST, 1 / SMALLEST)
    error, log_error = p - g, np.log(p) - np.log(g)
    worse = np.maximum(p / g, g / p)
    return np.array(
        [
            np.mean(np.abs(error) / g),
            np.mean(error**2 / g),
            np.sqrt(np.mean(error**2)),
            np.sqrt(np.mean(log_error**2)),
            np.mean(np.abs(log_error)) / np.log(10),
            *(np.mean(worse < 1.25**k) for k in (1, 2, 3)),
        ]
    )


def _lower_median(values: Float[np.ndarray, " value"]) -> np.float64:
    middle = (len(values) - 1) // 2
    return np.float64(np.partition(values, middle)[middle])


class PaperDepthProtocol(Protocol):
    """Means over scenes of means over the scene's windows.

    The paper has one window of four views per scene, and targets that another network (VGGT) made, divided by the mean
    distance of the first view's points; SqRel and RMSE are in the unit of whatever targets are given. Pixels with
    target 0 are left out; the paper's targets have none.
    """

    task = "depth"
    primary = "absrel"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        "absrel": MetricInfo("AbsRel", "", False, f"mean |p - g| / g, {_PICKED}"),
        "sqrel": MetricInfo("SqRel", "", False, f"mean (p - g)² / g in the targets' unit, {_PICKED}"),
        "rmse": MetricInfo("RMSE", "", False, f"root of the mean squared error of a window in its unit, {_PICKED}"),
        "rmse_log": MetricInfo("RMSE log", "", False, f"the same of ln p - ln g, {_PICKED}"),
        "log10": MetricInfo("log10", "", False, f"mean |log10 p - log10 g|, {_PICKED}"),
        "delta1": MetricInfo("δ < 1.25", "%", True, f"share of pixels with max(p/g, g/p) < 1.25, {_PICKED}"),
        "delta2": MetricInfo("δ < 1.25²", "%", True, f"share of pixels with max(p/g, g/p) < 1.25², {_PICKED}"),
        "delta3": MetricInfo("δ < 1.25³", "%", True, f"share of pixels with max(p/g, g/p) < 1.25³, {_PICKED}"),
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(("windows", *metrics), ())

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return sums over windows of `depth` (window, view, y, x), 0 = invalid, with `confidence` of that shape."""
        p = take(prediction, "depth", "window view y x", "prediction").astype(np.float64)
        g = take(target, "depth", "window view y x", "target").astype(np.float64)
        same_shape(p, g, "depth")
        valid = g > 0
        if not np.isfinite(p[valid]).all():
            raise InputError("predicted depth holds NaN or infinity at valid pixels")
        errors = []
        for window in zip(p, g, take_confidence(target, valid), valid, strict=True):
            chosen = most_confident(window[2], window[3])
            if chosen.any():
                errors.append(window_errors(window[0][chosen], window[1][chosen]))
        sums = np.sum(errors, axis=0) if errors else np.zeros(len(self.metrics))
        return {
            "windows": np.asarray(len(errors), np.int64),
            **{name: np.asarray(value) for name, value in zip(self.metrics, sums, strict=True)},
        }

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return the metrics for each row of scene weights; scenes without a valid pixel are left out."""
        windows = np.asarray(statistics["windows"], np.float64)
        return scene_means({name: ratio(np.asarray(statistics[name]), windows) for name in self.metrics}, weights)
