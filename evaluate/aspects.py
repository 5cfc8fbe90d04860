"""What a task asks of features: which things there are, which pixels are one thing, or what shape the scene has."""

from __future__ import annotations

from collections.abc import Mapping

ASPECTS: Mapping[str, tuple[str, ...]] = {
    "semantics": ("tagging", "segmentation"),
    "grouping": ("grouping",),
    "geometry": ("depth", "points", "camera", "normals", "correspondence"),
}
"""Aspect -> its tasks, both in the order of tables. The three axes along which arXiv 2605.28132 compares models."""

_OF = {task: aspect for aspect, tasks in ASPECTS.items() for task in tasks}


def aspect_of(task: str) -> str:
    """Return the aspect of a task of `evaluate.protocols.TASKS`."""
    return _OF[task]
