"""What is kept of a prediction to be looked at, beside its target: one function per task. See `evaluate.schema`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int8
from numpy.typing import NDArray

from probes.labels import ClipLabels
from probes.sampling import pixel_centres
from probes.tasks.base import Task

Statistics = Mapping[str, NDArray[Any]]
Arrays = dict[str, NDArray[Any]]
_UNIT = 127
"""What a component of 1 is in int8."""


def show_tagging(task: Task, prediction: Statistics, labels: ClipLabels, window: NDArray[Any]) -> Arrays:
    """`scores` and `labels` of all views together."""
    return {"scores": prediction["scores"][0], "labels": task.target(labels, window)["labels"][0]}


def show_classes(task: Task, prediction: Statistics, labels: ClipLabels, window: NDArray[Any]) -> Arrays:
    """Classes."""
    return {"classes": labels.classes[window[0]], "classes_pred": prediction["classes"]}


def show_instances(task: Task, prediction: Statistics, labels: ClipLabels, window: NDArray[Any]) -> Arrays:
    """Instances, and the clusters of what was embedded."""
    from evaluate.metrics.grouping import cluster, upsample_nearest
    from probes.tasks.paper.grouping import PaperGroupingTask

    instance = (labels.instance if isinstance(task, PaperGroupingTask) else labels.thing_instance)[window[0]]
    clusters = upsample_nearest(cluster(prediction["embeddings"][0].astype(np.float64)), instance.shape[1:])
    # Ids 1, 2 … for clusters and 0 for what belongs to none, as in the targets.
    return {"instance": instance.astype(np.int32), "instance_pred": (clusters + 1).astype(np.int32)}


def show_depth(task: Task, prediction: Statistics, labels: ClipLabels, window: NDArray[Any]) -> Arrays:
    """Depth in metres."""
    true, said = labels.depth[window[0]], prediction["depth"]
    if said.ndim > true.ndim:  # by the paper's rules: one window, in a unit that its protocol undoes by medians
        known = true > 0
        said = said[0] * (np.median(true[known]) / np.median(said[0][known]) if known.any() else np.float32(1))
    return {"depth": true, "depth_pred": said.astype(np.float32)}


def show_points(task: Task, prediction: Statistics, labels: ClipLabels, window: NDArray[Any]) -> Arrays:
    """Points after the similarity that the protocol fits, and the colours of their pixels."""
    from evaluate.metrics.paper.confidence import most_confident
    from evaluate.metrics.points import MIN_POINTS, umeyama
    from probes.tasks.points import EVALUATED

    target = {name: array[0] for name, array in task.target(labels, window).items()}
    true, said, valid = target["points"], prediction["points"][0], target["valid"]
    chosen = most_confident(target["confidence"], valid) if "confidence" in target else valid
    if chosen.sum() >= MIN_POINTS:
        fit = umeyama(said[chosen].astype(np.float64), true[chosen].astype(np.float64))
        said = fit(said.reshape(-1, 3).astype(np.float64)).reshape(said.shape).astype(np.float32)
    arrays = {"points": true, "points_pred": said, "points_valid": valid}
    try:
        pictures = labels.rgb[window[0]]
    except KeyError:  # targets need not have pictures
        return arrays
    rows, columns = pixel_centres(pictures.shape[1], pictures.shape[2], EVALUATED)
    return arrays | {"points_rgb": pictures[:, rows][:, :, columns]}


def show_cameras(task: Task, prediction: Statistics, labels: ClipLabels, window: NDArray[Any]) -> Arrays:
    """Poses of all views, in the world in which the first view has its true one; nothing where that is not known."""
    from probes.tasks.paper.scale import units_of_windows

    if not labels.posed[window[0]].all():
        return {}
    if "world_to_cam" in prediction:  # by the paper's rules, in units of the first view's mean distance
        poses = np.linalg.inv(prediction["world_to_cam"][0])
        poses[:, :3, 3] *= units_of_windows(labels, window)[0]
    else:
        poses = np.tile(np.eye(4), (window.shape[1], 1, 1))
        poses[1:, :3, :3], poses[1:, :3, 3] = prediction["rotation"][0], prediction["translation"][0]
    return {"cam_to_world_pred": labels.cam_to_world[window[0][0]] @ poses}


def show_normals(task: Task, prediction: Statistics, labels: ClipLabels, window: NDArray[Any]) -> Arrays:
    """Normals."""
    return {"normals": _coded(labels.normals[window[0]]), "normals_pred": _coded(prediction["normals"])}


def show_matches(task: Task, prediction: Statistics, labels: ClipLabels, window: NDArray[Any]) -> Arrays:
    """Queries in the first view, where they are in the others, and where they were found."""
    from probes.tasks.correspondence import CorrespondenceTask
    from probes.tasks.probe3d import Probe3dCorrespondenceTask

    assert isinstance(task, CorrespondenceTask)
    target = task.target(labels, window)
    if isinstance(task, Probe3dCorrespondenceTask):
        return task.shown(prediction, target)
    found = {name: target[name][0] for name in ("positions", "visible")}
    return {"queries": task.queries, "matches": prediction["matches"][0], **found}


def _coded(normals: Float[np.ndarray, "view y x 3"]) -> Int8[np.ndarray, "view y x 3"]:
    coded: NDArray[np.int8] = np.rint(_UNIT * normals).astype(np.int8)
    return coded


SHOWN: dict[str, Callable[[Task, Statistics, ClipLabels, NDArray[Any]], Arrays]] = {
    "tagging": show_tagging,
    "segmentation": show_classes,
    "grouping": show_instances,
    "depth": show_depth,
    "points": show_points,
    "camera": show_cameras,
    "normals": show_normals,
    "correspondence": show_matches,
}
"""Task name -> arrays of an `Example`, from the task, a prediction, the clip's targets and its window (1, view)."""
