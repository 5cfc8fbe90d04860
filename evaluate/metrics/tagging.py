"""Tagging: which things can be seen in a set of views, judged by how well scores rank the sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, ratio, same_shape, take
from evaluate.metrics.precision import class_average_precision

THRESHOLD = 0.5
"""A class is said to be there when its probability reaches this."""
BUCKETS = ("head", "mid", "tail")
"""Names of buckets 0, 1 and 2 of classes, by how often a class is there in training."""
UNKNOWN_BUCKET = -1
BUCKET_METRICS: Mapping[str, MetricInfo] = {
    "ap_head": MetricInfo("AP head", "%", True, "mean AP of the classes that are most often there in training"),
    "ap_mid": MetricInfo("AP mid", "%", True, "mean AP of the middle third of classes by frequency in training"),
    "ap_tail": MetricInfo("AP tail", "%", True, "mean AP of the classes that are least often there in training"),
    "mid_ratio": MetricInfo("MidRatio", "", True, "AP mid / mAP: what is left of mAP away from the frequent classes"),
}


def average_precision(
    scores: Float[np.ndarray, " sample"],
    labels: Bool[np.ndarray, " sample"],
    weights: Float[np.ndarray, "resample sample"],
) -> Float[np.ndarray, " resample"]:
    """Return AP = sum_n (R_n - R_{n-1}) P_n over the distinct scores, highest first, for each row of sample weights.

    Samples with equal scores enter together, so their order never matters; this is
    `sklearn.metrics.average_precision_score` with `sample_weight`. NaN for rows in which no positive sample has weight.
    """
    alone = (slice(None), None, None)
    found: NDArray[np.float64] = class_average_precision(scores[alone], labels[alone], weights)[:, 0]
    return found


def frequency_buckets(rate: Float[np.ndarray, " class"]) -> Int[np.ndarray, " class"]:
    """Return the bucket of every class, 0 head, 1 mid, 2 tail, by the share of training samples in which it is there.

    A third of the classes each, rounded down but at least one, are head and mid; the rest is tail (20 classes: 6, 6,
    8). Of two equal rates the class that comes first is the more frequent one. As in arXiv 2605.28132.
    """
    third = max(1, len(rate) // 3)
    buckets = np.full(len(rate), 2, np.int64)
    order = np.argsort(-np.asarray(rate, np.float64), kind="stable")
    buckets[order[:third]], buckets[order[third : 2 * third]] = 0, 1
    return buckets


def mean_known(values: Float[np.ndarray, "resample class"]) -> Float[np.ndarray, " resample"]:
    """Return the mean over classes, those that are NaN left out; NaN if none is left."""
    return ratio(np.nansum(values, axis=1), np.isfinite(values).sum(axis=1))


def bucket_metrics(
    ap: Float[np.ndarray, "resample class"], bucket: Int[np.ndarray, " class"]
) -> dict[str, Float[np.ndarray, " resample"]]:
    """Return the mean AP of each bucket of classes, and MidRatio = AP mid / mAP; NaN for an empty bucket."""
    means = {f"ap_{name}": mean_known(ap[:, bucket == index]) for index, name in enumerate(BUCKETS)}
    return means | {"mid_ratio": ratio(means["ap_mid"], mean_known(ap))}


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
        **BUCKET_METRICS,
    }
    class_metrics: ClassVar[Mapping[str, MetricInfo]] = {
        "ap": MetricInfo("AP", "%", True, "average precision of the class")
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "scores": ("window", "class"),
        "labels": ("window", "class"),
        "bucket": ("class",),
    }

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return `scores` (window, class), which are probabilities, `labels` (window, class) and `bucket` themselves.

        `bucket` (class) in the target is what `frequency_buckets` returns; without it AP head, mid and tail are NaN.
        """
        scores = take(prediction, "scores", "window class", "prediction").astype(np.float64)
        labels = take(target, "labels", "window class", "target").astype(bool)
        same_shape(scores, labels, "scores")
        if scores.shape[1] != len(self.classes):
            raise InputError(
                f"scores have {scores.shape[1]} classes; {self.id} was given {len(self.classes)} class names"
            )
        if not np.all((scores >= 0) & (scores <= 1)):
            raise InputError(f"scores must be probabilities; got {scores.min()} .. {scores.max()}; apply a sigmoid")
        return {"scores": scores, "labels": labels, "bucket": _bucket(target, scores.shape[1])}

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return mAP, OF1, CF1 and the APs of the buckets for each row of scene weights."""
        ap = self.per_class_weighted(statistics, weights)["ap"]
        hits, claims, truths = decisions(statistics, weights)
        present = truths > 0
        classes = present.sum(axis=1)
        precision = ratio(np.where(present, np.nan_to_num(ratio(hits, claims)), 0.0).sum(axis=1), classes)
        recall = ratio(np.where(present, ratio(hits, truths), 0.0).sum(axis=1), classes)
        return {
            "map": mean_known(ap),
            "of1": ratio(2 * hits.sum(axis=1), (claims + truths).sum(axis=1)),
            "cf1": np.where(classes > 0, np.nan_to_num(ratio(2 * precision * recall, precision + recall)), np.nan),
            **bucket_metrics(ap, common_bucket(statistics)),
        }

    def per_class_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, "resample class"]]:
        """Return the average precision of every class."""
        return {"ap": class_average_precision(*samples(statistics), weights)}


def decisions(
    statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
) -> tuple[
    Float[np.ndarray, "resample class"], Float[np.ndarray, "resample class"], Float[np.ndarray, "resample class"]
]:
    """Return the weight of the windows that are rightly said to have a class, that are said to, and that have it."""
    scores, labels = samples(statistics)
    said = scores >= THRESHOLD
    hits, claims, truths = (weights @ mask.sum(axis=1, dtype=np.float64) for mask in (said & labels, said, labels))
    return hits, claims, truths


def samples(
    statistics: Arrays,
) -> tuple[Float[np.ndarray, "scene window class"], Bool[np.ndarray, "scene window class"]]:
    """Return scores and labels of all windows."""
    return np.asarray(statistics["scores"], np.float64), np.asarray(statistics["labels"], bool)


def common_bucket(statistics: Arrays) -> Int[np.ndarray, " class"]:
    """Return the buckets of the classes, which no two scenes may tell differently."""
    buckets = np.asarray(statistics["bucket"], np.int64)
    if np.any(buckets != buckets[:1]):
        raise InputError("scenes put their classes into different buckets; take the rates of one training split")
    first: NDArray[np.int64] = buckets[0]
    return first


def _bucket(target: Arrays, classes: int) -> Int[np.ndarray, " class"]:
    if "bucket" not in target:
        return np.full(classes, UNKNOWN_BUCKET, np.int64)
    bucket = take(target, "bucket", "class", "target").astype(np.int64)
    if bucket.shape != (classes,) or not np.isin(bucket, range(len(BUCKETS))).all():
        raise InputError(f"'bucket' must hold 0, 1 or 2 for each of {classes} classes; got {bucket.tolist()}")
    return bucket
