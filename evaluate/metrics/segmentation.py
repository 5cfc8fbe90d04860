"""Segmentation: which class every labelled pixel was given, kept as a confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, ratio, same_shape, take, weighted_sum

_PIXELS = 1 << 16
"""Pixels that are counted at a time: they stay in the processor's cache."""


def confusion(
    prediction: Shaped[np.ndarray, "*shape"], target: Shaped[np.ndarray, "*shape"], classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Count pixels by (true class, predicted class), ids 1 .. `classes`; pixels with target 0 are ignored.

    Raises:
        InputError: an id lies outside of 1 .. `classes` at a labelled pixel.
    """
    if target.size and _within(prediction, classes) and _within(target, classes):
        # All pixels are counted, and those without a label left out: quicker than to pick the others.
        truth, guess = target.ravel(), prediction.ravel()
        flat = np.zeros((classes + 1) ** 2, np.int64)
        small = np.min_scalar_type(len(flat))  # is quicker to calculate with
        for start in range(0, len(truth), _PIXELS):
            some = slice(start, start + _PIXELS)
            pairs = truth[some].astype(small) * small.type(classes + 1) + guess[some]
            flat += np.bincount(pairs, minlength=len(flat))
        counts = flat.reshape(classes + 1, classes + 1)
        if not counts[1:, 0].any():
            return counts[1:, 1:]
    labelled = target != 0
    truth, guess = target[labelled].astype(np.int64), prediction[labelled].astype(np.int64)
    for role, ids in (("target", truth), ("prediction", guess)):
        if ids.size and (ids.min() < 1 or ids.max() > classes):
            raise InputError(
                f"class ids of the {role} must lie in 1 .. {classes} at labelled pixels; got {ids.min()} .. {ids.max()}"
            )
    return np.bincount((truth - 1) * classes + guess - 1, minlength=classes * classes).reshape(classes, classes)


def _within(ids: Shaped[np.ndarray, "*shape"], classes: int) -> bool:
    return ids.dtype.kind in "iu" and int(ids.min()) >= 0 and int(ids.max()) <= classes


def class_iou(confusions: Float[np.ndarray, "*batch K K"]) -> Float[np.ndarray, "*batch K"]:
    """Return intersection over union of each class; NaN for classes that the targets lack."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    truth, guess = confusions.sum(axis=-1), confusions.sum(axis=-2)
    return np.where(truth > 0, ratio(hits, truth + guess - hits), np.nan)


def class_accuracy(confusions: Float[np.ndarray, "*batch K K"]) -> Float[np.ndarray, "*batch K"]:
    """Return the share of each class's pixels that were given it; NaN for classes that the targets lack."""
    return ratio(np.diagonal(confusions, axis1=-2, axis2=-1), confusions.sum(axis=-1))


class SegmentationProtocol(Protocol):
    """Pixels of all scenes are pooled; means over classes are over those that the pool's targets contain."""

    task = "segmentation"
    primary = "miou"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        "miou": MetricInfo("mIoU", "%", True, "mean IoU over the classes present, pixels pooled over scenes"),
        "accuracy": MetricInfo("pixel accuracy", "%", True, "share of labelled pixels given their class"),
        "class_accuracy": MetricInfo(
            "class accuracy", "%", True, "mean over the classes present of the share of their pixels given the class"
        ),
    }
    class_metrics: ClassVar[Mapping[str, MetricInfo]] = {
        "iou": MetricInfo("IoU", "%", True, "intersection over union of the class's pixels")
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {"confusion": ("true_class", "predicted_class")}

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return the confusion matrix of `classes` (frame, y, x); 0 in the target = ignored."""
        guess = take(prediction, "classes", "frame y x", "prediction")
        truth = take(target, "classes", "frame y x", "target")
        same_shape(guess, truth, "classes")
        return {"confusion": confusion(guess, truth, len(self.classes))}

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return mIoU and both accuracies of the pooled confusion matrices."""
        pooled = _pool(statistics, weights)
        iou, found = class_iou(pooled), class_accuracy(pooled)
        hits = np.trace(pooled, axis1=1, axis2=2)
        return {
            "miou": ratio(np.nansum(iou, axis=1), np.isfinite(iou).sum(axis=1)),
            "accuracy": ratio(hits, pooled.sum(axis=(1, 2))),
            "class_accuracy": ratio(np.nansum(found, axis=1), np.isfinite(found).sum(axis=1)),
        }

    def per_class_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, "resample class"]]:
        """Return the IoU of every class."""
        return {"iou": class_iou(_pool(statistics, weights))}


def _pool(statistics: Arrays, weights: Float[np.ndarray, "resample scene"]) -> Float[np.ndarray, "resample K K"]:
    return weighted_sum(np.asarray(statistics["confusion"]), weights)
