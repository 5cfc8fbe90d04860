"""Depth by the rules of Probe3D (arXiv 2404.08636): image by image, in metres and after the best scale and shift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, ratio, same_shape, take
from evaluate.metrics.depth import affine_fit

FARTHEST = 10.0
"""Metres; what is farther is not scored. The code drops it in NYU's reader, and again, for any data, in its loss."""
SMALLEST = 1e-9
"""Both depths are clipped to at least this where they divide; an aligned prediction may be negative."""


def image_errors(p: Float[np.ndarray, " pixel"], g: Float[np.ndarray, " pixel"]) -> Float[np.ndarray, " metric"]:
    """Return the shares of max(p/g, g/p) < 1.25^k for k = 1, 2, 3 and the root of the mean squared error."""
    worse = np.maximum(g / np.maximum(p, SMALLEST), p / np.maximum(g, SMALLEST))
    return np.array([*(np.mean(worse < 1.25**k) for k in (1, 2, 3)), np.sqrt(np.mean((p - g) ** 2))])


def _infos(suffix: str, title: str, said: str) -> dict[str, MetricInfo]:
    deltas = {
        f"delta{k}{suffix}": MetricInfo(
            f"δ < 1.25{power}{title}", "%", True, f"share of pixels with max(p/g, g/p) < 1.25{power}, {said}"
        )
        for k, power in ((1, ""), (2, "²"), (3, "³"))
    }
    rmse = MetricInfo(f"RMSE{title}", "m", False, f"root of the mean squared error of an image, {said}")
    return deltas | {f"rmse{suffix}": rmse}


class Probe3dDepthProtocol(Protocol):
    """Every metric is the mean over all images of all scenes of the image's own value.

    The paper calls it scale-aware without, and scale-invariant with the fit, which has a shift as well. It differs from
    the code where that has no answer of its own: an image without a valid pixel is left out (there it counts as 0), and
    a constant prediction is fitted by the mean (there rounding decides). The code computes in float32. The paper names
    no one metric; the first of its tables is primary here.
    """

    task = "depth"
    primary = "delta1"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        **_infos("", "", "no rescaling, mean over images"),
        **_infos(
            "_affine",
            ", scale and shift",
            "after the least-squares fit of s p + t to g in each image, mean over images",
        ),
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(("images", *metrics), ())

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return sums over images of `depth` (frame, y, x) in metres; 0 in the target = invalid."""
        p, g = take(prediction, "depth", "frame y x", "prediction"), take(target, "depth", "frame y x", "target")
        same_shape(p, g, "depth")
        errors = [np.zeros(len(self.metrics))]
        for guess, truth in zip(p, g, strict=True):  # one image at a time stays in the processor's cache
            valid = (truth > 0) & (truth <= FARTHEST)
            if not np.isfinite(guess[valid]).all():
                raise InputError("predicted depth holds NaN or infinity at valid pixels")
            if valid.any():
                said, true = guess[valid].astype(np.float64), truth[valid].astype(np.float64)
                scale, shift = affine_fit(said, true)
                errors.append(np.concatenate([image_errors(said, true), image_errors(scale * said + shift, true)]))
        return {
            "images": np.asarray(len(errors) - 1, np.int64),
            **{name: np.asarray(value) for name, value in zip(self.metrics, np.sum(errors, axis=0), strict=True)},
        }

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return the means over images; NaN without any."""
        images = weights @ np.asarray(statistics["images"], np.float64)
        return {name: ratio(weights @ np.asarray(statistics[name], np.float64), images) for name in self.metrics}
