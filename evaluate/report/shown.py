"""Which examples are shown: of those that the leader's run kept, the scenes it did worst, as usual, and best on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluate.metrics.base import MetricInfo
from evaluate.report.clouds import Cloud, cloud
from evaluate.report.paint import Panels
from evaluate.report.pictures import panels
from evaluate.scenes import SceneValue, worst_to_best
from evaluate.schema import Example
from evaluate.table import Axis

MEDIAN = "median"


@dataclass(frozen=True)
class Shown:
    """An example with its pictures and, for depth and points, its point clouds."""

    example: Example
    probe: str
    """Model and tap."""
    rank: str
    """How the probe did on this scene, among all test scenes; empty where that is not known."""
    value: str
    pictures: Panels
    cloud: Cloud | None

    @property
    def usual(self) -> bool:
        """Whether this is neither the worst nor the best scene."""
        return self.rank.startswith(MEDIAN)


def examples(axis: Axis, scenes: Sequence[SceneValue]) -> list[Shown]:
    """Return the worst and the best scene that a run kept, and the median; of the best tap, if any is.

    Args:
        axis: whose leader's examples are wanted.
        scenes: the leader's test scenes from worst to best, for runs that do not say how they chose.
    """
    metric = axis.protocol.metrics[axis.protocol.primary]
    taps = {probe.id: probe.tap for run in axis.leader.runs for probe in run.info.probes}
    shown: list[Shown] = []
    for item in _chosen(_kept(axis), scenes, metric):
        pictures = panels(item, axis.protocol.classes, axis.length_unit)
        if pictures is not None:
            value, rank = _standing(item, scenes)
            usual = rank.startswith(MEDIAN)
            shown.append(
                Shown(
                    item,
                    f"{axis.leader.label} {taps.get(item.probe_id, item.probe_id)}",
                    rank,
                    "" if value != value else f"{metric.title} {metric.format(value)}",
                    pictures,
                    None if usual else cloud(item),
                )
            )
    return shown


def _kept(axis: Axis) -> list[Example]:
    """Examples of one probe: of the best tap if the runs kept any, from the first run that did."""
    known = {repeat.probe.id for tap in axis.leader.taps for repeat in tap.repeats}
    mine = [item for run in axis.leader.runs for item in run.examples() if item.probe_id in known]
    best = {repeat.probe.id for repeat in axis.leader.best.repeats}
    mine.sort(key=lambda item: item.probe_id not in best)
    kept: dict[str, Example] = {}
    for item in mine:
        if item.probe_id == mine[0].probe_id:
            kept.setdefault(item.scene, item)
    return list(kept.values())


def _chosen(kept: Sequence[Example], scenes: Sequence[SceneValue], metric: MetricInfo) -> list[Example]:
    by_scene = {item.scene: item for item in kept}
    order = worst_to_best({item.scene: _standing(item, scenes)[0] for item in kept}, metric)
    names = [scene for scene, _ in order] or list(by_scene)
    wanted = [names[0], names[-1]] if names else []
    wanted += [item.scene for item in kept if item.why.startswith(MEDIAN)]
    return [by_scene[scene] for scene in dict.fromkeys(wanted)]


def _standing(item: Example, scenes: Sequence[SceneValue]) -> tuple[float, str]:
    """Value and rank as the run says; where it does not, as the leader did on that scene."""
    if item.why:
        return item.value, item.why
    places: Mapping[str, tuple[float, str]] = {
        one.scene: (one.value, f"number {place} of {len(scenes)} from the worst") for place, one in enumerate(scenes, 1)
    }
    return places.get(item.scene, (float("nan"), ""))
