"""Depth: how far off the predicted metres are, frame by frame, without letting the prediction choose its scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, median, ratio, same_shape, scene_means, take

_SUMS = (
    *("pixels", "absrel", "square", "log10", "log_error", "log_error_square", "delta1", "delta2", "delta3"),
    *("absrel_median", "log_target", "log_target_square", "sqrel", "absrel_affine"),
)
_PIXELS = 1 << 15
"""Pixels at a time: they stay in the processor's cache."""


def depth_sums(
    prediction: Float[np.ndarray, "frame y x"], target: Float[np.ndarray, "frame y x"]
) -> dict[str, NDArray[np.float64]]:
    """Return sums over the valid pixels of one scene (target > 0), from which every depth metric follows.

    Args:
        prediction: depth in metres, planar z, positive and finite wherever the target is valid.
        target: depth in metres, planar z, 0 = invalid.

    Returns:
        Scalars by name: `pixels` counts; `absrel` = |p - g| / g; `square` = (p - g)^2; `log10` = |log10 p - log10 g|;
        `log_error` = ln p - ln g; `delta<k>` counts max(p/g, g/p) < 1.25^k (Eigen et al. 2014, section 4);
        `absrel_median` = absrel after every frame's prediction was scaled by median(g) / median(p);
        `log_target` = ln g; `sqrel` = (p - g)^2 / g; `absrel_affine` = absrel after every frame's prediction went
        through the line of `affine_fit`.

    Raises:
        InputError: the prediction is not a positive number at a valid pixel.
    """
    sums = np.zeros(len(_SUMS))
    for predicted, true in zip(prediction, target, strict=True):
        valid = np.flatnonzero(true > 0)  # quicker to take by than a mask
        if len(valid):
            sums += _frame_sums(predicted.ravel()[valid], true.ravel()[valid])
    return {name: np.asarray(value) for name, value in zip(_SUMS, sums, strict=True)}


def _frame_sums(guess: Float[np.ndarray, " pixel"], truth: Float[np.ndarray, " pixel"]) -> Float[np.ndarray, " sum"]:
    """Return the sums of one frame, in the order of `_SUMS`."""
    if not (guess.min() > 0 and guess.max() < np.inf):  # also catches NaN, which compares as false
        worst = guess[~(np.isfinite(guess) & (guess > 0))][0]
        raise InputError(
            f"predicted depth must be positive and finite at valid pixels; got {worst}; clip the prediction"
        )
    rescale, line = median(truth) / median(guess), affine_fit(guess, truth)
    sums = np.zeros(len(_SUMS))
    for start in range(0, len(guess), _PIXELS):
        stop = start + _PIXELS
        sums += _sums(guess[start:stop], truth[start:stop], rescale, line)
    return sums


def _sums(
    guess: Float[np.ndarray, " pixel"],
    truth: Float[np.ndarray, " pixel"],
    rescale: float,
    line: tuple[float, float],
) -> Float[np.ndarray, " sum"]:
    p, g = guess.astype(np.float64), truth.astype(np.float64)
    scaled = p / g
    log_target, log_error = np.log(g), np.log(scaled)
    size = np.abs(log_error)
    error, relative = p - g, scaled - 1
    scale, shift = line
    return np.array(
        [
            len(g),
            np.abs(relative).sum(),
            error @ error,
            size.sum() / np.log(10),
            log_error.sum(),
            log_error @ log_error,
            *(np.count_nonzero(size < k * np.log(1.25)) for k in (1, 2, 3)),
            np.abs(rescale * scaled - 1).sum(),
            log_target.sum(),
            log_target @ log_target,
            error @ relative,
            np.abs((scale * p + shift) / g - 1).sum(),
        ]
    )


def affine_fit(p: Float[np.ndarray, " pixel"], g: Float[np.ndarray, " pixel"]) -> tuple[float, float]:
    """Return the scale s and the shift t that make sum (s p + t - g)^2 least.

    Least squares in depth, as for Marigold (Ke et al. 2024, section 4.1); MiDaS (Ranftl et al. 2020) fits disparity. A
    constant prediction becomes the mean of g.
    """
    p, g = p.astype(np.float64, copy=False), g.astype(np.float64, copy=False)
    means = float(p.mean()), float(g.mean())
    x, y = p - means[0], g - means[1]
    spread = float(x @ x)
    # Rounding alone gives a constant some spread.
    constant = spread <= len(p) * (1e-9 * float(p.max())) ** 2
    scale = 0.0 if constant else float(x @ y) / spread
    return scale, means[1] - scale * means[0]


class DepthProtocol(Protocol):
    """Every metric is the mean over scenes of the scene's own value, but `r2_log`, which is pooled over all pixels."""

    task = "depth"
    primary = "absrel"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        "absrel": MetricInfo("AbsRel", "", False, "mean |p - g| / g in metres, no rescaling of the prediction"),
        "absrel_median": MetricInfo(
            "AbsRel, median scaled", "", False, "AbsRel after each frame was scaled to its true median"
        ),
        "absrel_affine": MetricInfo(
            "AbsRel, scale and shift", "", False, "AbsRel after the least-squares fit of s p + t to g in each frame"
        ),
        "sqrel": MetricInfo("SqRel", "m", False, "mean (p - g)² / g in metres, no rescaling of the prediction"),
        "rmse": MetricInfo("RMSE", "m", False, "root of the mean squared error of a scene"),
        "log10": MetricInfo("log10", "", False, "mean |log10 p - log10 g|"),
        "silog": MetricInfo(
            "SILog", "", False, "standard deviation of ln p - ln g: the error that one scale cannot mend"
        ),
        "delta1": MetricInfo("δ < 1.25", "%", True, "share of pixels with max(p/g, g/p) < 1.25"),
        "delta2": MetricInfo("δ < 1.25²", "%", True, "share of pixels with max(p/g, g/p) < 1.25²"),
        "delta3": MetricInfo("δ < 1.25³", "%", True, "share of pixels with max(p/g, g/p) < 1.25³"),
        "r2_log": MetricInfo(
            "R² of ln depth", "", True, "share of the variance of ln depth explained, pooled over all pixels"
        ),
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(_SUMS, ())

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return `depth_sums` of `depth` (frame, y, x) in metres; 0 in the target = invalid."""
        p, g = take(prediction, "depth", "frame y x", "prediction"), take(target, "depth", "frame y x", "target")
        same_shape(p, g, "depth")
        return dict(depth_sums(p.astype(np.float32, copy=False), g.astype(np.float32, copy=False)))

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return the metrics for each row of scene weights; scenes without a valid pixel are left out."""
        sums = {name: np.asarray(statistics[name], np.float64) for name in _SUMS}
        mean = {name: ratio(sums[name], sums["pixels"]) for name in _SUMS}
        variance = np.maximum(mean["log_error_square"] - mean["log_error"] ** 2, 0.0)
        per_scene = mean | {"rmse": np.sqrt(mean["square"]), "silog": np.sqrt(variance)}
        total = {
            name: weights @ sums[name] for name in ("pixels", "log_error_square", "log_target", "log_target_square")
        }
        spread = total["log_target_square"] - ratio(total["log_target"] ** 2, total["pixels"])
        r2 = 1.0 - ratio(total["log_error_square"], spread)
        means = scene_means({name: per_scene[name] for name in self.metrics if name != "r2_log"}, weights)
        return {name: r2 if name == "r2_log" else means[name] for name in self.metrics}
