"""Which protocols exist: one per task and family, looked up by name or by the id that a record carries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module

from evaluate.errors import UnknownProtocolError, did_you_mean
from evaluate.metrics.base import MetricInfo, Protocol

__all__ = ["TASKS", "MetricInfo", "Protocol", "get_protocol", "protocol_of"]

SCENE_UNITS = "scene units"
"""What lengths are in where every scene has a unit of its own: its median depth, or the spread of its cameras."""
_CLASSES = {
    "tagging": "TaggingProtocol",
    "segmentation": "SegmentationProtocol",
    "grouping": "GroupingProtocol",
    "depth": "DepthProtocol",
    "points": "PointsProtocol",
    "camera": "CameraProtocol",
    "normals": "NormalsProtocol",
    "correspondence": "CorrespondenceProtocol",
}
_PAPER = {
    "tagging": "PaperTaggingProtocol",
    "grouping": "PaperGroupingProtocol",
    "depth": "PaperDepthProtocol",
    "points": "PaperPointsProtocol",
    "camera": "PaperCameraProtocol",
}
_PROBE3D = {
    "depth": "Probe3dDepthProtocol",
    "normals": "Probe3dNormalsProtocol",
    "correspondence": "Probe3dCorrespondenceProtocol",
}
STANDARD, PAPER, PROBE3D = "standard", "paper-2605.28132", "probe3d-2404.08636"
_FAMILIES = {
    STANDARD: ("evaluate.metrics", _CLASSES),
    PAPER: ("evaluate.metrics.paper", _PAPER),
    PROBE3D: ("evaluate.metrics.probe3d", _PROBE3D),
}

TASKS = tuple(_CLASSES)
"""Every task, in the order in which tables and reports show them: what is there, which one, where."""


def get_protocol(task: str, classes: Sequence[str] = (), family: str = "standard") -> Protocol:
    """Return the newest protocol of a task.

    Args:
        task: one of `TASKS`.
        classes: class names, for tagging (things only) and segmentation (things and stuff).
        family: set of rules: `standard`; or those of a paper's code, flaws included: `paper-2605.28132`, and
            `probe3d-2404.08636` (Probe3D, for depth, normals and correspondence).

    Raises:
        UnknownProtocolError: there is no such task or family, the family has no rules for the task, or a task with
            classes was given none.
    """
    if task not in _CLASSES:
        raise UnknownProtocolError(f"unknown task {task!r}. {did_you_mean(task, TASKS)}")
    if family not in _FAMILIES:
        raise UnknownProtocolError(f"unknown protocol family {family!r}. {did_you_mean(family, _FAMILIES)}")
    package, names = _FAMILIES[family]
    if task not in names:
        raise UnknownProtocolError(
            f"the family {family!r} has no protocol for {task!r}, only for {', '.join(names)}; use 'standard'"
        )
    protocol: Protocol = getattr(import_module(f"{package}.{task}"), names[task])(classes, family)
    if protocol.class_metrics and not classes:
        raise UnknownProtocolError(f"the protocol {protocol.id} needs class names, got none; pass classes=[...]")
    return protocol


def protocol_of(protocol_id: str, classes: Sequence[str] = (), length_unit: str | None = "m") -> Protocol:
    """Return the protocol that an id such as `standard/depth@1` names.

    Args:
        protocol_id: family, task and version.
        classes: as for `get_protocol`.
        length_unit: of targets: `m` (or None, where that is not known), or `1` where every scene has a unit of its own.
            It changes what metrics are called, and no number.

    Raises:
        UnknownProtocolError: the id is malformed, or names a version that this code no longer, or not yet, has.
    """
    match = re.fullmatch(r"(?P<family>[\w.-]+)/(?P<task>[\w-]+)@(?P<version>\d+)", protocol_id)
    if match is None:
        raise UnknownProtocolError(f"malformed protocol id {protocol_id!r}; expected family/task@version")
    protocol = get_protocol(match["task"], classes, match["family"])
    if protocol.id != protocol_id:
        raise UnknownProtocolError(
            f"protocol {protocol_id!r} is not known here, only {protocol.id!r}; probe again, or read the run with "
            "the version of this project that wrote it"
        )
    return protocol if length_unit in ("m", None) else _in_scene_units(protocol)


def _in_scene_units(protocol: Protocol) -> Protocol:
    """Return the protocol with metrics that do not speak of metres. They belong to its class, so it gets one."""
    kind = type(protocol)
    metrics = {name: _in_scene_unit(info) for name, info in protocol.metrics.items()}
    own: type[Protocol] = type(kind.__name__, (kind,), {"metrics": metrics, "__doc__": kind.__doc__})
    return own(protocol.classes, protocol.family)


def _in_scene_unit(info: MetricInfo) -> MetricInfo:
    title = re.sub(r"@(\d+)cm", lambda found: f"@{int(found[1]) / 100:g}", info.title)
    said = re.sub(r"(\d+) cm", lambda found: f"{int(found[1]) / 100:g} {SCENE_UNITS}", info.description)
    said = said.replace("in metres", f"in {SCENE_UNITS}")
    return replace(info, title=title, description=said, unit=SCENE_UNITS if info.unit == "m" else info.unit)
