"""Tagging: which things can be seen in a set of views, judged by how well scores rank the sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, ratio, same_shape, take

THRESHOLD = 0.5
"""A class is said to be there when its probability reaches this."""


def average_precision(
    scores: Float[np.ndarray, " sample"],
    labels: Bool[np.ndarray, " sample"],
    weights: Float[np.ndarray, "resample sample"],
) -> Float[np.ndarray, " resample"]:
    """Return AP = sum_n (R_n - R_{n-1}) P_n over the distinct scores, highest first, for each row of sample weights.

    Samples with equal scores enter together, so their order never matters; this is
    `sklearn.metrics.average_precision_score` with `sample_weight`. The sort is done once for all rows of weights. NaN
    for rows in which no positive sample has weight.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    drawn = weights[:, order]
    hits = np.cumsum(drawn * labels[order], axis=1)[:, ends]
    count = np.cumsum(drawn, axis=1)[:, ends]
    precision = np.nan_to_num(ratio(hits, count))
    gained = np.diff(hits, axis=1, prepend=0.0)
    return ratio((gained * precision).sum(axis=1), hits[:, -1])


class TaggingProtocol(Protocol):
    """View sets of all scenes are pooled; classes of which the pool has no positive set are left out of both means."""

    task = "tagging"
    primary = "map"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        "map": MetricInfo("mAP", "%", True, "mean over classes of average precision, view sets pooled over scenes"),
        "of1": MetricInfo("OF1", "%", True, "F1 over all decisions at probability 0.5"),
        "cf1": MetricInfo(
            "CF1", "%", True, "harmonic mean of the classes' mean precision and mean recall at probability 0.5"
        ),
    }
    class_metrics: ClassVar[Mapping[str, MetricInfo]] = {
        "ap": MetricInfo("AP", "%", True, "average precision of the class")
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {"scores": ("window", "class"), "labels": ("window", "class")}

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return `scores` (window, class), which are probabilities, and `labels` (window, class) themselves."""
        scores = take(prediction, "scores", "window class", "prediction").astype(np.float64)
        labels = take(target, "labels", "window class", "target").astype(bool)
        same_shape(scores, labels, "scores")
        if scores.shape[1] != len(self.classes):
            raise InputError(
                f"scores have {scores.shape[1]} classes; {self.id} was given {len(self.classes)} class names"
            )
        if not np.all((scores >= 0) & (scores <= 1)):
            raise InputError(f"scores must be probabilities; got {scores.min()} .. {scores.max()}; apply a sigmoid")
        return {"scores": scores, "labels": labels}

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return mAP, OF1 and CF1 for each row of scene weights."""
        scores, labels, drawn = _pool(statistics, weights)
        ap = self.per_class_weighted(statistics, weights)["ap"]
        said = scores >= THRESHOLD
        hits, claims, truths = (drawn @ mask.astype(np.float64) for mask in (said & labels, said, labels))
        present = truths > 0
        classes = present.sum(axis=1)
        precision = ratio(np.where(present, np.nan_to_num(ratio(hits, claims)), 0.0).sum(axis=1), classes)
        recall = ratio(np.where(present, ratio(hits, truths), 0.0).sum(axis=1), classes)
        return {
            "map": ratio(np.nansum(ap, axis=1), np.isfinite(ap).sum(axis=1)),
            "of1": ratio(2 * hits.sum(axis=1), (claims + truths).sum(axis=1)),
            "cf1": np.where(classes > 0, np.nan_to_num(ratio(2 * precision * recall, precision + recall)), np.nan),
        }

    def per_class_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, "resample class"]]:
        """Return the average precision of every class."""
        scores, labels, drawn = _pool(statistics, weights)
        columns = [average_precision(scores[:, k], labels[:, k], drawn) for k in range(scores.shape[1])]
        return {"ap": np.stack(columns, axis=1)}


def _pool(
    statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    scores, labels = np.asarray(statistics["scores"], np.float64), np.asarray(statistics["labels"], bool)
    _, windows, classes = scores.shape
    return scores.reshape(-1, classes), labels.reshape(-1, classes), np.repeat(weights, windows, axis=1)
