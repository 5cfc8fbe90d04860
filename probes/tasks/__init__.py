"""The tasks, by name. A task's file is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Literal, NamedTuple

from probes.errors import ProbesError, UnknownNameError
from store.suggest import did_you_mean

if TYPE_CHECKING:
    from probes.config import ProbeSpec
    from probes.heads.base import Layout
    from probes.labels import LabelSpace
    from probes.tasks.base import Task

Rules = Literal["standard", "paper"]
"""Whose rules: ours, or those of arXiv 2605.28132."""


class Entry(NamedTuple):
    """Where a task's code is, and what it needs.

    Attributes:
        types: classes in the file of the task's name, which ask the same of heads of different layouts; the first that
            a head fits is taken.
        needs: arrays of the targets store.
        trained: whether it is learned at all.
        classes: whether it speaks of classes.
        paper: class in the file of that name in `probes.tasks.paper`; `None` if the paper has no such task.
    """

    types: tuple[str, ...]
    needs: frozenset[str]
    trained: bool = True
    classes: bool = False
    paper: str | None = None


_GEOMETRY = frozenset({"depth", "cam_to_world", "intrinsics"})
_INSTANCES = frozenset({"instance", "instance_class"})
TASKS: dict[str, Entry] = {
    "tagging": Entry(
        ("TaggingTask", "JointTaggingTask"), frozenset({"class_pixels"}), classes=True, paper="PaperTaggingTask"
    ),
    "segmentation": Entry(("SegmentationTask",), _INSTANCES, classes=True),
    "grouping": Entry(("GroupingTask",), _INSTANCES, paper="PaperGroupingTask"),
    "depth": Entry(("DepthTask",), frozenset({"depth"}), paper="PaperDepthTask"),
    "points": Entry(("PointsTask",), _GEOMETRY, paper="PaperPointsTask"),
    "camera": Entry(("CameraTask", "PosesTask"), frozenset({"cam_to_world"}), paper="PaperCameraTask"),
    "normals": Entry(("NormalsTask",), frozenset({"depth", "intrinsics"})),
    "correspondence": Entry(("CorrespondenceTask",), _GEOMETRY, trained=False),
}
"""Task name -> classes in the file of that name. What is there, which one, where."""


def needs_of(name: str, rules: Rules = "standard") -> frozenset[str]:
    """Arrays of the targets store that a task needs; in the paper depth and camera are measured in points' unit."""
    return TASKS[name].needs | (_GEOMETRY if rules == "paper" and name in ("depth", "camera") else frozenset())


def paper_class(name: str) -> str:
    """Class of the paper's form of a task. Raises `ProbesError` if it has none."""
    if (found := TASKS[name].paper) is None:
        known = ", ".join(task for task, other in TASKS.items() if other.paper)
        raise ProbesError(f"--protocol paper: arXiv 2605.28132 has no task {name}. It has: {known}.")
    return found


def get_task(name: str, space: LabelSpace, rules: Rules = "standard", layouts: Iterable[Layout] | None = None) -> Task:
    """A task on a dataset with these classes and image size.

    Args:
        name: of the task.
        space: classes and image size.
        rules: whose.
        layouts: what the head can speak of; without it, the task's first class is taken.

    Raises:
        UnknownNameError: there is no such task; names the nearest.
        ProbesError: the paper has no such task.
    """
    if name not in TASKS:
        raise UnknownNameError(did_you_mean("task", name, TASKS))
    entry = TASKS[name]
    if rules == "paper":
        task: Task = getattr(import_module(f"probes.tasks.paper.{name}"), paper_class(name))(space)
        return task
    module = import_module(f"probes.tasks.{name}")
    types = [getattr(module, each) for each in entry.types]
    fitting = [each for each in types if layouts is None or each.layout in layouts]
    chosen: Task = (fitting or types)[0](space)
    return chosen


def tasks_of(probes: Iterable[ProbeSpec], space: LabelSpace, rules: Rules = "standard") -> dict[str, Task]:
    """The tasks of some probes, each such that its head fits."""
    from probes.heads import head_class

    heads = {probe.task: probe.head for probe in probes}
    return {name: get_task(name, space, rules, head_class(head).layouts) for name, head in heads.items()}
