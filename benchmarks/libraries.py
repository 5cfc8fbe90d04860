"""The library calls that metrics are built on, by themselves.

tagging: `average_precision_score` of all classes. segmentation: `bincount` of pairs of classes. grouping: `HDBSCAN` of
every window. depth: `numpy.median` and `numpy.log` of both sides of every frame; the metric finds its medians by one
`partition`, which is quicker, and is timed beside them. points: a `cKDTree` of either side with the queries of the
other. camera: the angles between rotations with scipy's `Rotation`, and the decomposition in the fit of a trajectory.
normals: the length of the predicted ones by `numpy.linalg.norm`, the arc sine, the median, and such a `partition`.
correspondence: `distance_transform_edt` of every view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from sklearn.cluster import HDBSCAN
from sklearn.metrics import average_precision_score

from benchmarks.measure import Work
from benchmarks.scored import CLASSES, Arrays
from evaluate.metrics.grouping import COMPONENTS, GRID, MIN_CLUSTER, MIN_DENSITY, principal_components, resample
from evaluate.metrics.points import SAMPLED, umeyama


def calls(task: str, prediction: Arrays, target: Arrays) -> dict[str, Work]:
    """Return the calls of a task on the arrays of one scene (tagging: of all scenes), by name."""
    return _OF[task](prediction, target)


def _frames(prediction: Arrays, target: Arrays) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    for guess, true in zip(prediction["depth"], target["depth"], strict=True):
        valid = true > 0
        yield guess[valid].astype(np.float64), true[valid].astype(np.float64)


def _depth(prediction: Arrays, target: Arrays) -> dict[str, Work]:
    pairs = list(_frames(prediction, target))
    return {
        "median": lambda: [np.median(side) for pair in pairs for side in pair],
        "partition": lambda: [np.partition(side, len(side) // 2) for pair in pairs for side in pair],
        "log": lambda: [np.log(side) for pair in pairs for side in pair],
    }


def _points(prediction: Arrays, target: Arrays) -> dict[str, Work]:
    pairs = []
    for guess, true, valid in zip(prediction["points"], target["points"], target["valid"], strict=True):
        p, g = guess[valid].astype(np.float64), true[valid].astype(np.float64)
        pairs += [(umeyama(p, g)(p), g), (g, umeyama(p, g)(p))]

    def query() -> None:
        for source, other in pairs:
            tree = cKDTree(other, leafsize=32, compact_nodes=False, balanced_tree=False)
            tree.query(source[:: max(1, len(source) // SAMPLED)][:SAMPLED])

    return {"cKDTree": query}


def _normals(prediction: Arrays, target: Arrays) -> dict[str, Work]:
    true = target["normals"].reshape(-1, 3).astype(np.float64)
    guess = prediction["normals"].reshape(-1, 3).astype(np.float64)
    chord = np.clip(np.linalg.norm(true - guess, axis=-1) / 2, 0, 1)
    return {
        "norm": lambda: np.linalg.norm(guess, axis=-1),
        "arcsin": lambda: np.arcsin(chord),
        "median": lambda: np.median(chord),
        "partition": lambda: np.partition(chord, len(chord) // 2),
    }


def _segmentation(prediction: Arrays, target: Arrays) -> dict[str, Work]:
    flat = target["classes"].ravel().astype(np.int64) * len(CLASSES) + prediction["classes"].ravel()
    return {"bincount": lambda: np.bincount(flat)}


def _grouping(prediction: Arrays, target: Arrays) -> dict[str, Work]:
    cells = GRID * GRID
    rows = [
        principal_components(resample(window.astype(np.float64)).reshape(-1, window.shape[-1]), COMPONENTS)
        for window in prediction["embeddings"]
    ]
    model = HDBSCAN(
        min_cluster_size=round(MIN_CLUSTER * cells),
        min_samples=round(MIN_DENSITY * cells),
        algorithm="kd_tree",
        copy=True,
    )
    return {"HDBSCAN": lambda: [model.fit(window) for window in rows]}


def _camera(prediction: Arrays, target: Arrays) -> dict[str, Work]:
    guess, true = (side["rotation"].reshape(-1, 3, 3) for side in (prediction, target))
    moves = target["translation"]
    return {
        "rotation": lambda: (Rotation.from_matrix(guess).inv() * Rotation.from_matrix(true)).magnitude(),
        "svd": lambda: [np.linalg.svd(window.T @ window) for window in moves],
    }


def _tagging(prediction: Arrays, target: Arrays) -> dict[str, Work]:
    scores = prediction["scores"].reshape(-1, len(CLASSES))
    labels = target["labels"].reshape(scores.shape)
    return {"average_precision_score": lambda: average_precision_score(labels, scores, average=None)}


def _correspondence(prediction: Arrays, target: Arrays) -> dict[str, Work]:
    known = target["surface"][..., 2] > 0
    views = known.reshape(-1, *known.shape[2:])
    return {
        "distance_transform_edt": lambda: [
            distance_transform_edt(~view, return_distances=False, return_indices=True) for view in views
        ]
    }


_OF: dict[str, Callable[[Arrays, Arrays], dict[str, Work]]] = {
    "tagging": _tagging,
    "segmentation": _segmentation,
    "grouping": _grouping,
    "depth": _depth,
    "points": _points,
    "camera": _camera,
    "normals": _normals,
    "correspondence": _correspondence,
}
