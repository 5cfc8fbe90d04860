"""What one model does on one task: its taps, each the mean of its repeats, and the best of them.

Its probes are those of one row (`evaluate.rows`). Of the probes of a tap and a seed (learning rates, weight decays) the
best is chosen on val. Seeds and draws are never chosen from: a tap's value is their mean, and the best tap is the one
whose mean on val is best. All numbers that are shown come from test. Where val says the same of two, the earlier one
stays: the shallower tap.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Protocol
from evaluate.parallel import in_threads
from evaluate.protocols import PAPER
from evaluate.records import Run
from evaluate.repeats import estimate_repeats, repeat_shares
from evaluate.rows import Row, head_of
from evaluate.schema import ProbeInfo, RunInfo
from evaluate.statistics import Estimate


@dataclass(frozen=True)
class Repeat:
    """One probe of a tap: one seed, on features with one draw of the noise. `statistics` has the tap's scenes."""

    run: Run
    probe: ProbeInfo
    val: float
    val_scenes: int
    statistics: dict[str, NDArray[np.generic]] = field(repr=False)


@dataclass(frozen=True)
class TapResult:
    """One tap of one model: the mean of its repeats on val and on test.

    `probe` and `statistics` are those of the first repeat, and there is mostly no other.
    """

    repeats: tuple[Repeat, ...]
    val: float
    val_scenes: int
    test: Estimate = field(repr=False)
    scenes: tuple[str, ...] = field(repr=False)

    @property
    def probe(self) -> ProbeInfo:
        """The probe of the first repeat: tap, site, depth and noise are the same for all."""
        return self.repeats[0].probe

    @property
    def statistics(self) -> dict[str, NDArray[np.generic]]:
        """Statistics of the first repeat."""
        return self.repeats[0].statistics

    @property
    def draws(self) -> list[str]:
        """Which features each repeat saw: equal names are the same draw of the noise."""
        return [repeat.run.info.features_fingerprint for repeat in self.repeats]

    @property
    def stream(self) -> str:
        """What redrawn repeats are seeded by: independent for all taps of all models."""
        return "\n".join(f"{repeat.run.info.features_fingerprint}/{repeat.probe.id}" for repeat in self.repeats)


@dataclass(frozen=True)
class ModelResult:
    """One model on one task: its taps in order of execution, then of noise. `run` is the first of its runs."""

    runs: tuple[Run, ...]
    label: str
    taps: tuple[TapResult, ...]
    best: TapResult

    @property
    def run(self) -> Run:
        """The first of the runs, and there is mostly no other."""
        return self.runs[0]

    @property
    def info(self) -> RunInfo:
        """What the first run says about itself."""
        return self.run.info

    @property
    def head(self) -> str | None:
        """The head of its probes; `None` if they are not trained."""
        return head_of(self.best.probe)

    @property
    def shuffled(self) -> bool:
        """Whether its probes were trained with shuffled labels."""
        return self.best.probe.shuffled

    @property
    def is_control(self) -> bool:
        """Whether this is there for comparison only: an untrained backbone, shuffled labels, raw pixels, position."""
        return self.info.untrained or self.shuffled or self.info.kind == "control"

    @cached_property
    def by_tap(self) -> dict[str, TapResult]:
        """Name -> tap."""
        return {tap.probe.tap: tap for tap in self.taps}


def tap_order(probe: ProbeInfo) -> tuple[int, float, str, str]:
    """Return a key that sorts taps by depth of the site, then by the number in the noise level (t5, t20, t100)."""
    number = re.search(r"\d+(?:\.\d+)?", probe.noise or "")
    return (probe.depth, float(number[0]) if number else -1.0, probe.noise or "", probe.tap)


def model_result(row: Row, label: str, protocol: Protocol, seed: int, resamples: int) -> ModelResult:
    """Return what one row of probes says of a task.

    Raises:
        InputError: there are no val or test scenes, or two repeats of a tap have no test scene in common.
        EvaluateError: a run cannot be read.
    """
    metric = protocol.metrics[protocol.primary]
    chosen = list(_choose(row, protocol).values())
    taps = in_threads(lambda probes: _tap(probes, protocol, seed, resamples), chosen)
    taps.sort(key=lambda tap: tap_order(tap.probe))
    best = taps[0]
    for tap in taps[1:]:
        best = tap if metric.better(tap.val, best.val) else best
    return ModelResult(row.runs, label, tuple(taps), best)


def estimate_tap(tap: TapResult, protocol: Protocol, scenes: Sequence[str], seed: int, resamples: int) -> Estimate:
    """Return the metrics of a tap on some of its scenes."""
    return estimate_repeats(
        protocol, on_scenes(tap, scenes), tap.draws, seed=seed, resamples=resamples, stream=tap.stream
    )


def on_scenes(tap: TapResult, scenes: Sequence[str]) -> list[dict[str, NDArray[np.generic]]]:
    """Return the statistics of each repeat on some of the tap's scenes, in their order."""
    if tuple(scenes) == tap.scenes:
        return [repeat.statistics for repeat in tap.repeats]
    return [_rows(repeat.statistics, tap.scenes, scenes) for repeat in tap.repeats]


def _choose(row: Row, protocol: Protocol) -> dict[str, list[tuple[Run, ProbeInfo, float, int]]]:
    """Return tap -> the best on val of its probes with each seed, in the order of runs and of their probes."""
    metric = protocol.metrics[protocol.primary]
    chosen: dict[str, list[tuple[Run, ProbeInfo, float, int]]] = {}
    for run in row.runs:
        best: dict[tuple[str, int], tuple[Run, ProbeInfo, float, int]] = {}
        for probe in row.probes(run, protocol.task):
            value, val_scenes = _val(run, probe, protocol)
            key = (probe.tap, probe.seed)
            if key not in best or metric.better(value, best[key][2]):
                best[key] = (run, probe, value, val_scenes)
        for (tap, _), one in best.items():
            chosen.setdefault(tap, []).append(one)
    return chosen


def _tap(
    chosen: Sequence[tuple[Run, ProbeInfo, float, int]], protocol: Protocol, seed: int, resamples: int
) -> TapResult:
    found = [run.statistics(protocol.task, probe.id, "test") for run, probe, *_ in chosen]
    scenes = tuple(found[0][0])
    if any(tuple(names) != scenes for names, _ in found):
        scenes = tuple(sorted(set.intersection(*(set(names) for names, _ in found))))
    if not scenes:
        run = chosen[0][0]
        what = "no test scenes" if len(found) == 1 else "no test scene that all its repeats share"
        raise InputError(f"{run.path}: task {protocol.task!r} has {what}; extract some and train again")
    repeats = tuple(
        Repeat(run, probe, val, val_scenes, rows if tuple(names) == scenes else _rows(rows, names, scenes))
        for (run, probe, val, val_scenes), (names, rows) in zip(chosen, found, strict=True)
    )
    draws = [repeat.run.info.features_fingerprint for repeat in repeats]
    val = float(repeat_shares(draws) @ [repeat.val for repeat in repeats])
    blank = TapResult(repeats, val, min(repeat.val_scenes for repeat in repeats), Estimate({}, {}), scenes)
    return replace(blank, test=estimate_tap(blank, protocol, scenes, seed, resamples))


def _val(run: Run, probe: ProbeInfo, protocol: Protocol) -> tuple[float, int]:
    scenes, statistics = run.statistics(protocol.task, probe.id, "val")
    if not scenes and protocol.family != PAPER:
        raise InputError(
            f"{run.path}: task {protocol.task!r} has no val scenes, so no layer can be chosen; extract some and train "
            "again"
        )
    if scenes:
        return protocol.reduce(statistics)[protocol.primary], len(scenes)
    # Such a paper chooses on the scenes that it reports; `evaluate.sentences.notes` says so.
    tested, statistics = run.statistics(protocol.task, probe.id, "test")
    return protocol.reduce(statistics)[protocol.primary] if tested else math.nan, 0


def _rows(
    statistics: dict[str, NDArray[np.generic]], names: Sequence[str], scenes: Sequence[str]
) -> dict[str, NDArray[np.generic]]:
    where = {name: row for row, name in enumerate(names)}
    rows = [where[scene] for scene in scenes]
    return {name: array[rows] for name, array in statistics.items()}
