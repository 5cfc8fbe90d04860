"""The tasks, by name. A task's file is imported only when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from probes.errors import UnknownNameError
from store.suggest import did_you_mean

if TYPE_CHECKING:
    from probes.labels import LabelSpace
    from probes.tasks.base import Task


class Entry(NamedTuple):
    """Where a task's code is, the arrays of the targets store that it needs; is it learned, and of classes?"""

    type: str
    needs: frozenset[str]
    trained: bool = True
    classes: bool = False


TASKS: dict[str, Entry] = {
    "tagging": Entry("TaggingTask", frozenset({"class_pixels"}), classes=True),
    "segmentation": Entry("SegmentationTask", frozenset({"instance", "instance_class"}), classes=True),
    "grouping": Entry("GroupingTask", frozenset({"instance", "instance_class"})),
    "depth": Entry("DepthTask", frozenset({"depth"})),
    "points": Entry("PointsTask", frozenset({"depth", "cam_to_world", "intrinsics"})),
    "camera": Entry("CameraTask", frozenset({"cam_to_world"})),
    "normals": Entry("NormalsTask", frozenset({"depth", "intrinsics"})),
    "correspondence": Entry("CorrespondenceTask", frozenset({"depth", "cam_to_world", "intrinsics"}), trained=False),
}
"""Task name -> class in the file of that name. What is there, which one, where."""


def get_task(name: str, space: LabelSpace) -> Task:
    """A task on a dataset with these classes and image size. Raises `UnknownNameError` with the nearest name."""
    if name not in TASKS:
        raise UnknownNameError(did_you_mean("task", name, TASKS))
    task: Task = getattr(import_module(f"probes.tasks.{name}"), TASKS[name].type)(space)
    return task
