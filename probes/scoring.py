"""Statistics of predictions: at once, or, where scoring holds Python's lock for long, in processes over many scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from evaluate.parallel import Processes, cores

if TYPE_CHECKING:
    from evaluate.protocols import Protocol

Statistics = Mapping[str, NDArray[Any]]

AHEAD = 4
"""Predictions kept per core before they are scored: enough to keep all cores busy, few enough for the memory."""


class Kept(NamedTuple):
    """A prediction that is scored later."""

    protocol: Protocol
    prediction: Statistics
    target: Statistics


class SceneResults(NamedTuple):
    """What was made of one scene: (probe id, statistics or what they will be made of) of every probe."""

    split: str
    scene: str
    probes: Sequence[tuple[str, Statistics | Kept]]


class SceneStatistics(NamedTuple):
    """(probe id, statistics) of every probe on one scene."""

    split: str
    scene: str
    probes: Sequence[tuple[str, Statistics]]


def scored_or_kept(protocol: Protocol, prediction: Statistics, target: Statistics) -> Statistics | Kept:
    """Return the statistics, or what they will be made of if the protocol is one for processes."""
    return Kept(protocol, prediction, target) if protocol.holds_lock else protocol.score_scene(prediction, target)


def finished(
    scenes: Iterable[SceneResults], processes: Processes, alive: Callable[[], None] = lambda: None
) -> Iterator[SceneStatistics]:
    """Yield the scenes with their statistics, in order; while predictions are kept, some scenes later than they come.

    Args:
        scenes: one after another.
        processes: where predictions that were kept are scored.
        alive: is called after each of them.
    """
    waiting: list[SceneResults] = []
    kept = 0
    for scene in scenes:
        waiting.append(scene)
        kept += sum(isinstance(result, Kept) for _, result in scene.probes)
        if not kept or kept >= AHEAD * cores():
            yield from _finish(waiting, processes, alive)
            waiting, kept = [], 0
    yield from _finish(waiting, processes, alive)


def _finish(
    scenes: Sequence[SceneResults], processes: Processes, alive: Callable[[], None]
) -> Iterator[SceneStatistics]:
    kept = [tuple(result) for scene in scenes for _, result in scene.probes if isinstance(result, Kept)]
    made = processes.starmap(_score, kept)
    for scene in scenes:
        probes: list[tuple[str, Statistics]] = []
        for probe_id, result in scene.probes:
            if isinstance(result, Kept):
                probes.append((probe_id, next(made)))
                alive()
            else:
                probes.append((probe_id, result))
        yield SceneStatistics(scene.split, scene.scene, probes)


def _score(protocol: Protocol, prediction: Statistics, target: Statistics) -> Statistics:
    return protocol.score_scene(prediction, target)
