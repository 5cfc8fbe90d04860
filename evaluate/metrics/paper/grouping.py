"""Grouping by the rules of arXiv 2605.28132, which follow IGGT (arXiv 2510.22706) in name.

All tokens of a window are clustered on their own grid; an instance takes the cluster whose positions in the image,
whatever the view, overlap with its own the most; only pixels that belong to an instance are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, ratio, scene_means, take
from evaluate.metrics.grouping import contingency

COMPONENTS = 8
MIN_CLUSTER = 30
"""Tokens, whatever their size in the image: on a grid of 16 x 16 a cluster is a much larger thing than on 15 x 26."""
MIN_SAMPLES = 5
SUCCESS = 0.5


class WindowScore(NamedTuple):
    """Means over the instances of one window."""

    miou: float
    success: float


def cluster(embeddings: Float[np.ndarray, "view y x d"]) -> Int[np.ndarray, "view y x"]:
    """Return cluster ids 0, 1, ... of all tokens of a window, -1 for noise.

    Principal components (seed 0; how scikit-learn computes them depends on its version), then the HDBSCAN of the
    package `hdbscan`, whose `min_samples` does not count the point itself, unlike scikit-learn's.
    """
    from hdbscan import HDBSCAN
    from sklearn.decomposition import PCA

    *shape, channels = embeddings.shape
    rows = embeddings.reshape(-1, channels)
    if len(rows) < MIN_CLUSTER:
        return np.full(shape, -1, np.int64)
    if channels > COMPONENTS:
        rows = PCA(n_components=COMPONENTS, random_state=0).fit_transform(rows)
    # One process: the package would start several for large windows, with the same labels.
    found = HDBSCAN(
        min_cluster_size=MIN_CLUSTER, min_samples=MIN_SAMPLES, metric="euclidean", core_dist_n_jobs=1
    ).fit_predict(np.asarray(rows, np.float64))
    return np.asarray(found, np.int64).reshape(shape)


def upsample_nearest(labels: Int[np.ndarray, "view gy gx"], size: tuple[int, int]) -> Int[np.ndarray, "view y x"]:
    """Return label maps of `size` (y, x): pixel i takes cell floor(i * cells / pixels).

    That is `mode="nearest"` of `torch.nn.functional.interpolate` with its float32 scale. It looks half a cell to the
    upper left of the pixel's centre, which `standard` does not.
    """
    rows, columns = (
        np.minimum(np.arange(fine, dtype=np.float32) * np.float32(coarse / fine), coarse - 1).astype(np.int64)
        for fine, coarse in zip(size, labels.shape[1:], strict=True)
    )
    return labels[:, rows[:, None], columns[None, :]]


def match(labels: Integer[np.ndarray, "view y x"], instances: Integer[np.ndarray, "view y x"]) -> dict[int, int]:
    """Return instance -> cluster with the largest IoU of their overlaid masks; one cluster may serve many instances.

    A mask is the set of positions (y, x) at which the instance or the cluster is seen in any view: pixels of different
    views count as the same place. Pixels of instance 0 are in no mask. Of equal IoUs the smallest cluster id wins.
    """
    things = [int(id_) for id_ in np.unique(instances) if id_ != 0]
    seen = instances != 0
    groups = [int(id_) for id_ in np.unique(labels[seen]) if id_ != -1]
    if not things or not groups:
        return {}
    ours = _overlay([instances == id_ for id_ in things])
    theirs = _overlay([(labels == id_) & seen for id_ in groups])
    shared = ours @ theirs.T
    union = ours.sum(axis=1)[:, None] + theirs.sum(axis=1)[None] - shared
    best = np.argmax(shared.astype(np.float64) / union, axis=1)
    return {thing: groups[column] for thing, column in zip(things, best, strict=True)}


def _overlay(masks: list[Bool[np.ndarray, "view y x"]]) -> Float[np.ndarray, "mask position"]:
    """Return for each mask the positions that it covers in any view, as float32: exact up to 2^24 of them."""
    return np.stack([mask.any(axis=0).ravel() for mask in masks]).astype(np.float32)


def score_window(
    labels: Integer[np.ndarray, "view y x"], instances: Integer[np.ndarray, "view y x"]
) -> WindowScore | None:
    """Score label maps of the targets' size; None if the window holds no instance.

    An instance's IoU is the mean of its IoU with its cluster over the views that have a pixel of it; it is a success if
    that IoU reaches `SUCCESS` in each of them. What a cluster covers on instance 0 costs nothing.
    """
    table, ids, clusters = contingency(np.where(instances != 0, labels, -1), instances)
    if not (ids != 0).any():
        return None
    matched = match(labels, instances)
    ious, successes = [], []
    for row in np.flatnonzero(ids != 0):
        area = table[:, row].sum(axis=1)
        visible = area > 0
        per_view = np.zeros(int(visible.sum()))
        if int(ids[row]) in matched:
            column = int(np.flatnonzero(clusters == matched[int(ids[row])])[0])
            shared = table[visible, row, column]
            per_view = shared / (area[visible] + table[visible, :, column].sum(axis=1) - shared)
        ious.append(per_view.mean())
        successes.append((per_view >= SUCCESS).all())
    return WindowScore(float(np.mean(ious)), float(np.mean(successes)))


class PaperGroupingProtocol(Protocol):
    """Means over scenes of means over the scene's windows; windows without an instance are left out.

    The paper has one window of eight views per scene, embeddings of 32 channels and unit length, and masks of 540 x
    720 pixels; all of it is up to the caller. The smallest cluster is 30 tokens whatever the grid, so backbones with
    different grids are not measured alike.
    """

    task = "grouping"
    holds_lock = True
    primary = "t_miou"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        "t_miou": MetricInfo(
            "T-mIoU", "%", True, "IoU with the cluster of best overlaid mask, which may serve many; background is free"
        ),
        "t_sr": MetricInfo(
            "T-SR", "%", True, "share of instances with IoU of at least 0.5 in every view that has a pixel of them"
        ),
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(("windows", "iou", "success"), ())

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return sums over windows of `embeddings` (window, view, gy, gx, d), `instances` (window, view, y, x).

        `instances` holds the ids of all annotated things, stuff included where it is annotated; 0 = not annotated.
        """
        embeddings = take(prediction, "embeddings", "window view gy gx d", "prediction")
        instances = take(target, "instances", "window view y x", "target").astype(np.int64, copy=False)
        if embeddings.shape[:2] != instances.shape[:2]:
            raise InputError(f"embeddings have (window, view) {embeddings.shape[:2]}, instances {instances.shape[:2]}")
        if not np.isfinite(embeddings).all():
            raise InputError("embeddings hold NaN or infinity")
        size = (instances.shape[2], instances.shape[3])
        scores = [
            score_window(upsample_nearest(cluster(tokens), size), truth)
            for tokens, truth in zip(embeddings, instances, strict=True)
        ]
        known = [score for score in scores if score is not None]
        return {
            "windows": np.asarray(len(known), np.int64),
            "iou": np.asarray(sum(score.miou for score in known), np.float64),
            "success": np.asarray(sum(score.success for score in known), np.float64),
        }

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return both metrics for each row of scene weights; scenes without an instance are left out."""
        windows = np.asarray(statistics["windows"])
        return scene_means(
            {
                name: ratio(np.asarray(statistics[top]), windows)
                for name, top in (("t_miou", "iou"), ("t_sr", "success"))
            },
            weights,
        )
