"""Which examples are shown: of those that the leader's run kept, the scenes it did worst and best on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluate.report.clouds import Cloud, cloud
from evaluate.report.pictures import Panels, panels
from evaluate.scenes import SceneValue
from evaluate.schema import Example
from evaluate.table import Axis

MAX_EXAMPLES = 2
"""Scenes shown per task; every one weighs some hundred kilobytes."""


@dataclass(frozen=True)
class Shown:
    """An example with its pictures and, for depth, its point clouds."""

    example: Example
    title: str
    rank: str
    """How the probe did on this scene, among all test scenes; empty where that is not known."""
    pictures: Panels
    cloud: Cloud | None


def examples(axis: Axis, scenes: Sequence[SceneValue]) -> list[Shown]:
    """Return up to `MAX_EXAMPLES`, of the best tap if the run kept any: the best scene first, and the worst last.

    Args:
        axis: whose leader's examples are wanted.
        scenes: the leader's test scenes from worst to best.
    """
    leader = axis.leader
    mine = [item for run in leader.runs for item in run.examples() if item.task == axis.task]
    chosen = [item for item in mine if item.probe_id == leader.best.probe.id] or mine
    places = {item.scene: place for place, item in enumerate(reversed(scenes), 1)}
    drawn = [(item, pictures) for item in chosen if (pictures := panels(item, axis.protocol.classes)) is not None]
    drawn.sort(key=lambda pair: places.get(pair[0].scene, len(places)))
    if len(drawn) > MAX_EXAMPLES:
        drawn = [*drawn[: MAX_EXAMPLES - 1], drawn[-1]]
    taps = {probe.id: probe.tap for probe in leader.info.probes}
    found = {item.scene: item.value for item in scenes}
    metric = axis.protocol.metrics[axis.protocol.primary]
    shown: list[Shown] = []
    for item, pictures in drawn:
        of_best = item.probe_id == leader.best.probe.id and item.scene in places
        rank = (
            f"{metric.title} {metric.format(found[item.scene])} here, number {places[item.scene]} of {len(places)} "
            "test scenes from the best"
            if of_best
            else ""
        )
        title = f"{leader.label} {taps.get(item.probe_id, item.probe_id)} on {item.split} scene {item.scene}"
        shown.append(Shown(item, title, rank, pictures, None if shown else cloud(item)))
    return shown
