"""Camera by the rules of arXiv 2605.28132, which took them from VGGT's training code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, ratio, same_shape, take
from evaluate.metrics.camera import auc, direction_angle, rotation_angle

THRESHOLDS = (5, 15)
AUC_LIMITS = (30, 10, 5, 3)
BINS, LIMIT = 31, 30.0
"""Bins of the histogram over [0, `LIMIT`] degrees: each is 30/31 of a degree wide, the limit lies in the last."""


def all_pairs(poses: Float[np.ndarray, "*batch view 4 4"]) -> Float[np.ndarray, "*batch pair 4 4"]:
    """Return E_i^-1 E_j of all pairs i < j, first by i and then by j.

    Of world-to-camera matrices that is not the relative pose of two cameras, which is E_j E_i^-1: the rotation is given
    in world axes, and the translation depends on where the world's origin lies. The paper uses it all the same.
    """
    i, j = np.triu_indices(poses.shape[-3], k=1)
    rotation, translation = poses[..., i, :3, :3], poses[..., i, :3, 3:]
    inverse = poses[..., i, :, :].copy()
    inverse[..., :3, :3] = np.swapaxes(rotation, -1, -2)
    inverse[..., :3, 3:] = -np.swapaxes(rotation, -1, -2) @ translation
    pairs: NDArray[np.float64] = inverse @ poses[..., j, :, :]
    return pairs


def folded_angle(
    prediction: Float[np.ndarray, "*batch 3"], target: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch"]:
    """Return the angle in degrees, 0 .. 90, between the lines along two translations; 90 where one has no length.

    Backwards counts as forwards.
    """
    angle = direction_angle(prediction, target)
    lengths = np.linalg.norm(prediction, axis=-1) * np.linalg.norm(target, axis=-1)
    return np.where(lengths > 0, np.minimum(angle, 180 - angle), 90.0)


class PaperCameraProtocol(Protocol):
    """All pairs of views of all windows and scenes are pooled, also those between which the camera hardly moved.

    The paper averages over batches of ten samples what is here a mean over all pairs; for batches of one size that is
    the same number. Its angles are computed in float32.
    """

    task = "camera"
    primary = "auc30"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        **{
            f"auc{limit}": MetricInfo(
                f"AUC@{limit}°",
                "%",
                True,
                f"mean of the first {limit} of 31 cumulated bins of max(rotation, folded translation) error on 0 to 30 "
                "degrees, all pairs, E_i^-1 E_j",
            )
            for limit in AUC_LIMITS
        },
        **{
            f"rac{limit}": MetricInfo(
                f"Rac@{limit}°", "%", True, f"share of all pairs with rotation error below {limit} degrees"
            )
            for limit in THRESHOLDS
        },
        **{
            f"tac{limit}": MetricInfo(
                f"Tac@{limit}°", "%", True, f"share of all pairs with translation error below {limit} degrees, folded"
            )
            for limit in THRESHOLDS
        },
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pairs": (),
        "rotation_found": ("threshold",),
        "translation_found": ("threshold",),
        "histogram": ("bin",),
    }

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return pair counts of `world_to_cam` (window, view, 4, 4), rigid."""
        guess, truth = (
            take(source, "world_to_cam", "window view 4 4", role).astype(np.float64)
            for source, role in ((prediction, "prediction"), (target, "target"))
        )
        same_shape(guess, truth, "world_to_cam")
        for role, poses in (("predicted", guess), ("true", truth)):
            if not np.isfinite(poses).all():
                raise InputError(f"{role} world_to_cam holds NaN or infinity")
        guess, truth = (all_pairs(poses).reshape(-1, 4, 4) for poses in (guess, truth))
        rotation = rotation_angle(guess[:, :3, :3], truth[:, :3, :3])
        translation = folded_angle(guess[:, :3, 3], truth[:, :3, 3])
        histogram, _ = np.histogram(np.maximum(rotation, translation), bins=BINS, range=(0.0, LIMIT))
        return {
            "pairs": np.asarray(len(rotation), np.int64),
            "rotation_found": np.array([np.sum(rotation < limit) for limit in THRESHOLDS], np.int64),
            "translation_found": np.array([np.sum(translation < limit) for limit in THRESHOLDS], np.int64),
            "histogram": histogram.astype(np.int64),
        }

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return AUCs and the recalls of the pooled pairs."""
        total = {name: weights @ np.asarray(statistics[name], np.float64) for name in self.dims}
        result = {f"auc{limit}": auc(total["histogram"][:, :limit], total["pairs"]) for limit in AUC_LIMITS}
        for name, found in (("rac", "rotation_found"), ("tac", "translation_found")):
            for index, limit in enumerate(THRESHOLDS):
                result[f"{name}{limit}"] = ratio(total[found][:, index], total["pairs"])
        return result
