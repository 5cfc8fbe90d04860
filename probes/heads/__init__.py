"""The heads, by name. A head's file is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from probes.errors import ProbesError, UnknownNameError
from store.suggest import did_you_mean

if TYPE_CHECKING:
    from probes.heads.base import Form, Head
    from probes.tasks.base import Task

HEADS: dict[str, str] = {
    "linear": "LinearHead",
    "mlp": "MlpHead",
    "attentive": "AttentiveHead",
    "dpt": "DptHead",
    "alternating": "AlternatingHead",
}
"""Head name -> class in the file of that name."""
SIZED = {"width": ("alternating", "dpt"), "depth": ("alternating",)}
"""Size of a head -> heads that can be had in several."""
JOINT = ("alternating",)
"""Heads whose trunk several tasks can share."""
UNTRAINED = {"identity": "IdentityHead", "raw": "RawHead"}
"""Heads of the tasks that are solved without training, whatever head the others get: a task says which."""


def choose_heads(asked: Iterable[str]) -> tuple[str, ...]:
    """Heads by name, in the order of tables. Raises `UnknownNameError` with the nearest name."""
    wanted = set(asked)
    for name in sorted(wanted - HEADS.keys()):
        raise UnknownNameError(did_you_mean("head", name, HEADS))
    return tuple(name for name in HEADS if name in wanted)


def head_class(name: str) -> type[Head]:
    """The class of a head. Raises `UnknownNameError` with the nearest name."""
    known = HEADS | UNTRAINED
    if name not in known:
        raise UnknownNameError(did_you_mean("head", name, HEADS))
    cls: type[Head] = getattr(import_module(f"probes.heads.{name}"), known[name])
    return cls


def build_head(name: str, task: Task, channels: int, form: Form | None = None) -> Head:
    """Build a head for a task, with torch's generator: see `Head.build`.

    Raises:
        UnknownNameError: no such head.
        ProbesError: the head does not speak of what the task asks about.
    """
    from probes.heads.base import Form

    cls = head_class(name)
    if task.layout not in cls.layouts:
        fitting = [other for other in HEADS if task.layout in head_class(other).layouts]
        raise ProbesError(
            f"--head {name}: gives outputs of {' or '.join(sorted(cls.layouts))}, and the task {task.name} asks about "
            f"{task.layout}. Heads for it: {', '.join(fitting)}; or leave the task out with --task."
        )
    return cls.build(task, channels, form or Form())
