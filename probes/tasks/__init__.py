"""The tasks, by name. A task's file is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Literal, NamedTuple

from probes.errors import ProbesError, UnknownNameError
from store.suggest import did_you_mean

if TYPE_CHECKING:
    from probes.config import Asked, ProbeSpec
    from probes.heads.base import Layout
    from probes.labels import LabelSpace
    from probes.tasks.base import Task

Rules = Literal["standard", "paper", "probe3d"]
"""Whose rules: ours; those of arXiv 2605.28132; or ours for training and those of Probe3D (2404.08636) for scoring."""


class Entry(NamedTuple):
    """Where a task's code is, and what it needs.

    Attributes:
        types: classes in the file of the task's name, which ask the same of heads of different layouts; the first that
            a head fits is taken.
        needs: arrays of the targets store.
        trained: whether it is learned at all.
        classes: whether it speaks of classes.
        paper: class in the file of that name in `probes.tasks.paper`; `None` if the paper has no such task.
        probe3d: `file.Class` of what Probe3D's rules score; `None` if they have no such task.
    """

    types: tuple[str, ...]
    needs: frozenset[str]
    trained: bool = True
    classes: bool = False
    paper: str | None = None
    probe3d: str | None = None


_GEOMETRY = frozenset({"depth", "cam_to_world", "intrinsics"})
_INSTANCES = frozenset({"instance", "instance_class"})
TASKS: dict[str, Entry] = {
    "tagging": Entry(
        ("TaggingTask", "JointTaggingTask"), frozenset({"class_pixels"}), classes=True, paper="PaperTaggingTask"
    ),
    "segmentation": Entry(("SegmentationTask",), _INSTANCES, classes=True),
    "grouping": Entry(("GroupingTask",), _INSTANCES, paper="PaperGroupingTask"),
    "depth": Entry(("DepthTask",), frozenset({"depth"}), paper="PaperDepthTask", probe3d="depth.DepthTask"),
    "points": Entry(("PointsTask",), _GEOMETRY, paper="PaperPointsTask"),
    "camera": Entry(("CameraTask", "PosesTask"), frozenset({"cam_to_world"}), paper="PaperCameraTask"),
    "normals": Entry(("NormalsTask",), frozenset({"depth", "intrinsics"}), probe3d="normals.NormalsTask"),
    "correspondence": Entry(
        ("CorrespondenceTask",), _GEOMETRY, trained=False, probe3d="probe3d.Probe3dCorrespondenceTask"
    ),
}
"""Task name -> classes in the file of that name. What is there, which one, where."""


def needs_of(name: str, rules: Rules = "standard") -> frozenset[str]:
    """Arrays of the targets store that a task needs; in the paper depth and camera are measured in points' unit."""
    return TASKS[name].needs | (_GEOMETRY if rules == "paper" and name in ("depth", "camera") else frozenset())


def has_rules(name: str, rules: Rules) -> bool:
    """Whether some rules have a task at all."""
    return rules == "standard" or class_of(name, rules) is not None


def require_rules(name: str, rules: Rules) -> None:
    """Raise `ProbesError` if some rules lack a task."""
    if not has_rules(name, rules):
        known = ", ".join(task for task in TASKS if has_rules(task, rules))
        paper = {"paper": "arXiv 2605.28132", "probe3d": "Probe3D (arXiv 2404.08636)"}[rules]
        raise ProbesError(f"--protocol {rules}: {paper} has no task {name}. It has: {known}.")


def class_of(name: str, rules: Rules) -> str | None:
    """`file.Class` below `probes.tasks` of a task by a paper's rules; `None` if these lack it."""
    entry = TASKS[name]
    return entry.probe3d if rules == "probe3d" else entry.paper and f"paper.{name}.{entry.paper}"


def untrained_head(name: str, rules: Rules = "standard") -> str:
    """Head of a task that is solved without training."""
    return _types(name, rules)[0].untrained_head


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
    return _chosen(_types(name, rules), layouts)(space)


def layouts_of(name: str, rules: Rules = "standard") -> frozenset[Layout]:
    """What a head must speak of to answer a task: any of these will do. Raises as `get_task` does."""
    return frozenset(each.layout for each in _types(name, rules))


def tasks_of(probes: Iterable[ProbeSpec], space: LabelSpace, rules: Rules = "standard") -> dict[Asked, Task]:
    """The tasks of some probes by task and head, each in the form that the head can answer.

    Heads that are asked the same have one task between them.
    """
    from probes.heads import head_class

    made: dict[type[Task], Task] = {}
    found: dict[Asked, Task] = {}
    for probe in probes:
        chosen = _chosen(_types(probe.task, rules), head_class(probe.head).layouts)
        if chosen not in made:
            made[chosen] = chosen(space)
        found[probe.asked] = made[chosen]
    return found


def _types(name: str, rules: Rules) -> list[type[Task]]:
    """Classes of a task by some rules, which ask the same of heads of different layouts."""
    if name not in TASKS:
        raise UnknownNameError(did_you_mean("task", name, TASKS))
    if rules != "standard":
        require_rules(name, rules)
        file, _, cls = str(class_of(name, rules)).rpartition(".")
        return [getattr(import_module(f"probes.tasks.{file}"), cls)]
    module = import_module(f"probes.tasks.{name}")
    return [getattr(module, each) for each in TASKS[name].types]


def _chosen(types: Sequence[type[Task]], layouts: Iterable[Layout] | None) -> type[Task]:
    """The first that a head fits, or the first of all."""
    return next((each for each in types if layouts is None or each.layout in layouts), types[0])
