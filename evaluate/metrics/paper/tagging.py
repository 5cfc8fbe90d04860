"""Tagging by the rules of arXiv 2605.28132: ties in the ranking go to the sample that came first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, ratio
from evaluate.metrics.precision import class_average_precision
from evaluate.metrics.tagging import (
    BUCKET_METRICS,
    TaggingProtocol,
    bucket_metrics,
    common_bucket,
    decisions,
    mean_known,
    samples,
)


def ordered_average_precision(
    scores: Float[np.ndarray, " sample"],
    labels: Bool[np.ndarray, " sample"],
    weights: Float[np.ndarray, "resample sample"],
) -> Float[np.ndarray, " resample"]:
    """Return AP = sum_n (R_n - R_{n-1}) P_n over samples, not over distinct scores, for each row of sample weights.

    Of equal scores the sample that comes first ranks higher, so AP depends on the order of samples: six equal scores
    with two positives give 1 if the positives come first, 0.27 if they come last, and 1/3 in `standard`. NaN for rows
    in which no positive sample has weight.
    """
    alone = (slice(None), None, None)
    found: NDArray[np.float64] = class_average_precision(scores[alone], labels[alone], weights, ordered=True)[:, 0]
    return found


class PaperTaggingProtocol(Protocol):
    """Windows of all scenes are ranked together, in the order in which the scenes come.

    The paper has one window of eight views per scene. Its values are those of weights that are all 1; under the
    bootstrap a scene is one sample of some weight, never several copies that could be ties of each other.
    """

    task = "tagging"
    primary = "map"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        "map": MetricInfo(
            "mAP", "%", True, "mean over classes with positives of step-wise AP; ties are broken by the order of scenes"
        ),
        **BUCKET_METRICS,
        "of1": MetricInfo("OF1", "%", True, "F1 over all decisions at probability 0.5"),
        "cf1": MetricInfo(
            "CF1", "%", True, "mean of the F1 at probability 0.5 of classes with positives (standard: of mean P and R)"
        ),
    }
    class_metrics: ClassVar[Mapping[str, MetricInfo]] = {
        "ap": MetricInfo("AP", "%", True, "step-wise average precision of the class; ties are broken by order")
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = TaggingProtocol.dims

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return `scores` (window, class), which are probabilities, `labels` (window, class) and `bucket` (class).

        Raises:
            InputError: also if the target has no `bucket`, which `standard` can do without.
        """
        if "bucket" not in target:
            raise InputError(f"target lacks 'bucket' (class); got {sorted(target) or 'nothing'}")
        return TaggingProtocol(self.classes, self.family).score_scene(prediction, target)

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return mAP, the APs of the buckets, MidRatio, OF1 and CF1 for each row of scene weights."""
        ap = self.per_class_weighted(statistics, weights)["ap"]
        hits, claims, truths = decisions(statistics, weights)
        f1 = np.where(truths > 0, ratio(2 * hits, claims + truths), np.nan)
        return {
            "map": mean_known(ap),
            **bucket_metrics(ap, common_bucket(statistics)),
            "of1": np.nan_to_num(ratio(2 * hits.sum(axis=1), (claims + truths).sum(axis=1))),
            "cf1": mean_known(f1),
        }

    def per_class_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, "resample class"]]:
        """Return the step-wise average precision of every class."""
        return {"ap": class_average_precision(*samples(statistics), weights, ordered=True)}
