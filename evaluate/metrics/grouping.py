"""Grouping: whether embeddings of the same thing lie together, in every view, and apart from all other things.

One window of views is scored so: all its embeddings are clustered without labels; the label maps are upsampled to the
targets; clusters are matched to instances one to one by their IoU over the window; a match is then judged view by
view.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, MetricInfo, Protocol, ratio, scene_means, take

COMPONENTS = 8
"""Principal components that are clustered."""
GRID = 16
"""Cells along either side of a view that are clustered, whatever grid the embeddings came on."""
MIN_CLUSTER = 0.05
"""Smallest cluster, in areas of one image over all views of the window."""
MIN_DENSITY = 0.01
"""Neighbours that make a point dense, in the same unit."""
VISIBLE = 0.001
"""Share of a view that an instance must cover to be asked for there; less is a sliver at a border."""
SUCCESS = 0.5
_FEW_IDS = 1000


class Segments(NamedTuple):
    """Clusters of one window that are an instance, clusters that are none, instances left over; IoUs of the first."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_iou: float


class WindowScore(NamedTuple):
    """Sums of one window: over its instances, its clusters, and the adjusted Rand index of its foreground."""

    instances: int
    iou: float
    success: int
    ari: float
    segments: Segments


def principal_components(rows: Float[np.ndarray, "row d"], count: int) -> Float[np.ndarray, "row k"]:
    """Return the rows' coordinates along their `count` directions of largest variance (fewer if there are fewer).

    The exact decomposition of the covariance; there is nothing random about it.
    """
    centred = np.asarray(rows, np.float64) - np.mean(rows, axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)
    coordinates: NDArray[np.float64] = centred @ directions[:, ::-1][:, :count]
    return coordinates


def cluster(embeddings: Float[np.ndarray, "view gy gx d"]) -> Int[np.ndarray, "view side side"]:
    """Return cluster ids 0, 1, ... of one window on the common grid (`GRID`), -1 for cells that belong to none.

    Resampling to that grid, principal components, then HDBSCAN (Campello et al. 2013) with Euclidean distance and
    excess-of-mass selection.
    """
    from sklearn.cluster import HDBSCAN

    embeddings = resample(embeddings)
    *shape, _ = embeddings.shape
    cells = shape[1] * shape[2]
    density = max(2, round(MIN_DENSITY * cells))
    size = max(2, round(MIN_CLUSTER * cells))
    rows = principal_components(embeddings.reshape(-1, embeddings.shape[-1]), COMPONENTS)
    labels = HDBSCAN(min_cluster_size=size, min_samples=density, algorithm="kd_tree", copy=True).fit(rows).labels_
    # As small as the ids allow: they are read once for every pixel.
    return np.asarray(labels, np.min_scalar_type(-len(rows))).reshape(shape)


def resample(embeddings: Float[np.ndarray, "view gy gx d"], side: int = GRID) -> Float[np.ndarray, "view side side d"]:
    """Return embeddings on a grid of `side` x `side` cells, as unit vectors.

    Density-based clusters depend on how many cells there are and how much each was averaged, so taps are comparable
    only on one grid. Finer grids are averaged over the area of each new cell. Of coarser ones each new cell takes the
    old cell that its centre lies in: a mixture of two would be an embedding that the probe never gave, and would be
    taken for noise.
    """
    for axis in (1, 2):
        weights = _resampling(embeddings.shape[axis], side)
        embeddings = np.moveaxis(np.tensordot(weights, embeddings, axes=(1, axis)), 0, axis)
    length = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    unit: NDArray[np.float64] = embeddings / np.maximum(length, 1e-12)
    return unit


def _resampling(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Return the weights of `old` cells in each of `new` cells along one axis."""
    if old <= new:
        nearest = ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        chosen: NDArray[np.float64] = np.eye(old)[nearest]
        return chosen
    edges = np.arange(new + 1) * old / new
    low, high = edges[:-1, None], edges[1:, None]
    overlap = np.minimum(high, np.arange(old) + 1) - np.maximum(low, np.arange(old))
    weights: NDArray[np.float64] = np.maximum(overlap, 0) * new / old
    return weights


def upsample_nearest(labels: Int[np.ndarray, "view gy gx"], size: tuple[int, int]) -> Int[np.ndarray, "view y x"]:
    """Return label maps of `size` (y, x); every pixel takes the label of the cell that its centre lies in."""
    rows, columns = (
        ((np.arange(pixels) + 0.5) * cells / pixels).astype(np.int64)
        for pixels, cells in zip(size, labels.shape[1:], strict=True)
    )
    return np.asarray(labels.take(columns, axis=2).take(rows, axis=1))  # whole rows are copied


def contingency(
    labels: Integer[np.ndarray, "view y x"], instances: Integer[np.ndarray, "view y x"]
) -> tuple[Int[np.ndarray, "view instance cluster"], Int[np.ndarray, " instance"], Int[np.ndarray, " cluster"]]:
    """Count the pixels of every view by (instance, cluster); also return the ids along both axes, in rising order."""
    ids, rows = _numbered(instances)
    clusters, columns = _numbered(labels)
    shape = (len(labels), len(ids), len(clusters))
    table = np.zeros(shape, np.int64)
    small = np.min_scalar_type(shape[1] * shape[2])  # is quicker to calculate with
    for view, (row, column) in enumerate(zip(rows, columns, strict=True)):  # one view stays in the processor's cache
        pairs = row.astype(small) * small.type(shape[2]) + column
        table[view] = np.bincount(pairs.ravel(), minlength=shape[1] * shape[2]).reshape(shape[1:])
    pixels = table.sum(axis=0)
    there, found = pixels.any(axis=1), pixels.any(axis=0)
    return table[:, there][:, :, found], ids[there], clusters[found]


def _numbered(ids: Integer[np.ndarray, "view y x"]) -> tuple[Int[np.ndarray, " id"], Integer[np.ndarray, "view y x"]]:
    """Return rising ids, among them all that there are, and the place of each pixel's among them."""
    low, high = (int(ids.min()), int(ids.max())) if ids.size else (0, -1)
    if high - low < _FEW_IDS:
        # To count also what is not there is much quicker than to sort the pixels.
        return np.arange(low, high + 1), ids - ids.dtype.type(low)
    found, places = np.unique(ids, return_inverse=True)
    return found.astype(np.int64), places.reshape(ids.shape)


def match(labels: Integer[np.ndarray, "view y x"], instances: Integer[np.ndarray, "view y x"]) -> dict[int, int]:
    """Return instance -> cluster, one to one, with the largest sum of IoU over the window (Hungarian method).

    IoU counts pixels of each view by itself, and the whole of a cluster, also where it lies on the background
    (instance 0). Cluster -1 and instance 0 are matched to nothing; so are instances that no cluster is left for or
    touches.
    """
    return _matched(*contingency(labels, instances))


def _matched(
    table: Int[np.ndarray, "view instance cluster"],
    ids: Int[np.ndarray, " instance"],
    clusters: Int[np.ndarray, " cluster"],
) -> dict[int, int]:
    from scipy.optimize import linear_sum_assignment

    things, groups = ids > 0, clusters >= 0
    pixels = table.sum(axis=0)
    shared = pixels[np.ix_(things, groups)]
    union = pixels.sum(axis=1)[things, None] + pixels.sum(axis=0)[None, groups] - shared
    pairs = zip(*linear_sum_assignment(shared / union, maximize=True), strict=True)
    return {int(ids[things][i]): int(clusters[groups][j]) for i, j in pairs if shared[i, j] > 0}


def adjusted_rand(table: Int[np.ndarray, "instance cluster"]) -> float:
    """Return the adjusted Rand index (Hubert & Arabie 1985) of a contingency table; 1 if both sides are one group."""
    total = table.sum()

    def pairs(counts: NDArray[Any]) -> float:
        return float(np.sum(counts * (counts - 1.0)) / 2)

    together, rows, columns = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = rows * columns / pairs(np.array([total])) if total > 1 else 0.0
    most = (rows + columns) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def segments(
    pixels: Int[np.ndarray, "instance cluster"],
    asked: Bool[np.ndarray, " instance"],
    group: Bool[np.ndarray, " cluster"],
) -> Segments:
    """Return the counts of panoptic quality (Kirillov et al. 2019) from pixels counted over all views of a window.

    A cluster is an instance if their IoU over the window exceeds 0.5, which singles out both; the IoU counts the whole
    of a cluster, also where it lies on the background. A cluster that is none is wrong unless more than half of it
    lies where nothing is asked for: walls and slivers are things to group, too.

    Args:
        pixels: counts by (instance, cluster), with rows and columns for what is neither.
        asked: which rows are instances that are asked for.
        group: which columns are clusters.
    """
    shared = pixels[np.ix_(asked, group)]
    areas = pixels.sum(axis=0)[group]
    iou = shared / (pixels.sum(axis=1)[asked, None] + areas - shared)
    hits = iou > SUCCESS
    wrong = ~hits.any(axis=0) & (2 * shared.sum(axis=0) >= areas)
    found = int(hits.sum())
    return Segments(found, int(wrong.sum()), int(asked.sum()) - found, float(iou[hits].sum()))


def score_window(
    labels: Integer[np.ndarray, "view y x"], instances: Integer[np.ndarray, "view y x"]
) -> WindowScore | None:
    """Score the label maps of one window; None if no instance covers `VISIBLE` of any view.

    An instance's IoU is the mean of its IoU with the matched cluster over the views in which it is visible (0 without
    a match); it is a success if that IoU reaches `SUCCESS` in each of them.
    """
    table, ids, clusters = contingency(labels, instances)
    things = ids > 0
    visible = (table.sum(axis=2) >= VISIBLE * labels[0].size) & things
    if not visible.any():
        return None
    matched = _matched(table, ids, clusters)
    ious: list[float] = []
    success = 0
    for row in np.flatnonzero(visible.any(axis=0)):
        if int(ids[row]) not in matched:
            ious.append(0.0)
            continue
        column = int(np.flatnonzero(clusters == matched[int(ids[row])])[0])
        seen = table[visible[:, row]]
        shared = seen[:, row, column]
        per_view = shared / (seen[:, row].sum(axis=1) + seen[:, :, column].sum(axis=1) - shared)
        ious.append(float(per_view.mean()))
        success += bool((per_view >= SUCCESS).all())
    pixels = table.sum(axis=0)
    panoptic = segments(pixels, visible.any(axis=0), clusters >= 0)
    return WindowScore(len(ious), sum(ious), success, adjusted_rand(pixels[things]), panoptic)


class GroupingProtocol(Protocol):
    """Every metric is a mean over scenes: over the instances of all the scene's windows, `ari` over its windows."""

    task = "grouping"
    holds_lock = True
    primary = "t_miou"
    metrics: ClassVar[Mapping[str, MetricInfo]] = {
        "t_miou": MetricInfo(
            "T-mIoU", "%", True, "IoU with the matched cluster: mean over visible views, then instances"
        ),
        "t_sr": MetricInfo(
            "T-SR", "%", True, "share of instances with IoU of at least 0.5 in every view they are visible in"
        ),
        "ari": MetricInfo("ARI", "", True, "adjusted Rand index of the pixels that belong to an instance"),
        "pq": MetricInfo(
            "PQ", "%", True, "panoptic quality: sum of IoUs above 0.5 / mean of the numbers of clusters and instances"
        ),
    }
    dims: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        ("windows", "instances", "iou", "success", "ari", *Segments._fields), ()
    )

    def score_scene(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return sums of `embeddings` (window, view, gy, gx, d) against `instances` (window, view, y, x)."""
        embeddings = take(prediction, "embeddings", "window view gy gx d", "prediction")
        # What was picked along y and x need not lie in memory as it is read here.
        instances = np.ascontiguousarray(take(target, "instances", "window view y x", "target"))
        if embeddings.shape[:2] != instances.shape[:2]:
            raise InputError(f"embeddings have (window, view) {embeddings.shape[:2]}, instances {instances.shape[:2]}")
        if not np.isfinite(embeddings).all():
            raise InputError("embeddings hold NaN or infinity")
        size = (instances.shape[2], instances.shape[3])
        scores = [
            score_window(upsample_nearest(cluster(cells.astype(np.float64)), size), truth)
            for cells, truth in zip(embeddings, instances, strict=True)
        ]
        known = [score for score in scores if score is not None]
        return {
            "windows": np.asarray(len(known), np.int64),
            "instances": np.asarray(sum(score.instances for score in known), np.int64),
            "iou": np.asarray(sum(score.iou for score in known), np.float64),
            "success": np.asarray(sum(score.success for score in known), np.int64),
            "ari": np.asarray(sum(score.ari for score in known), np.float64),
            **{
                name: np.asarray(sum(getattr(score.segments, name) for score in known), np.float64)
                for name in Segments._fields
            },
        }

    def reduce_weighted(
        self, statistics: Arrays, weights: Float[np.ndarray, "resample scene"]
    ) -> dict[str, Float[np.ndarray, " resample"]]:
        """Return the metrics for each row of scene weights; scenes without a visible instance are left out."""
        sums = {name: np.asarray(statistics[name], np.float64) for name in self.dims}
        sums["segments"] = sums["true_positives"] + (sums["false_positives"] + sums["false_negatives"]) / 2
        of = {"t_miou": ("iou", "instances"), "t_sr": ("success", "instances"), "ari": ("ari", "windows")}
        of["pq"] = ("true_iou", "segments")
        return scene_means({name: ratio(sums[top], sums[bottom]) for name, (top, bottom) in of.items()}, weights)
