"""What one model does on one task: its taps, each the mean of its repeats, and the best of them.

Runs that differ only in the noise that was drawn for the features, or in the seeds of their probes, are one model
(`group_runs`). Of the probes of a tap and a seed (learning rates, weight decays) the best is chosen on val. Seeds and
draws are never chosen from: a tap's value is their mean, and the best tap is the one whose mean on val is best. All
numbers that are shown come from test. Where val says the same of two, the earlier one stays: the shallower tap.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Protocol
from evaluate.protocols import STANDARD
from evaluate.records import Run
from evaluate.repeats import estimate_repeats, repeat_shares
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
    def is_control(self) -> bool:
        """Whether this is there for comparison only: an untrained backbone, shuffled labels, raw pixels, position."""
        return self.info.untrained or self.info.shuffled or self.info.kind == "control"

    @cached_property
    def by_tap(self) -> dict[str, TapResult]:
        """Name -> tap."""
        return {tap.probe.tap: tap for tap in self.taps}


def tap_order(probe: ProbeInfo) -> tuple[int, float, str, str]:
    """Return a key that sorts taps by depth of the site, then by the number in the noise level (t5, t20, t100)."""
    number = re.search(r"\d+(?:\.\d+)?", probe.noise or "")
    return (probe.depth, float(number[0]) if number else -1.0, probe.noise or "", probe.tap)


def group_runs(runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    """Return runs that repeat each other side by side, in the order of the first of each.

    They are of one model on one data set by the same rules and settings, and differ in the noise drawn for the features
    (`RunInfo.draw_of`) or in the seeds of the probes. Runs that hold the same probe twice are no repeats: all runs of
    such a group stay alone.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_identity(run.info), []).append(run)
    whole = {key for key, group in groups.items() if not _overlap(group)}
    return [
        group
        for key, members in groups.items()
        for group in ([tuple(members)] if key in whole else [(run,) for run in members])
    ]


def _identity(info: RunInfo) -> str:
    known = info.model_dump(
        mode="json",
        include={"model", "kind", "untrained", "shuffled", "trained_on", "dataset", "protocols", "classes"},
    )
    settings = {name: value for name, value in info.config.items() if name != "seeds"}
    sources = [info.draw_of or info.features_fingerprint, info.targets_fingerprint]
    return json.dumps([known, settings, sources], sort_keys=True)


def _overlap(runs: Sequence[Run]) -> bool:
    probes = Counter(
        (info.features_fingerprint, *key) for info in (run.info for run in runs) for key in _probe_keys(info)
    )
    return any(count > 1 for count in probes.values())


def _probe_keys(info: RunInfo) -> set[tuple[str, str, int]]:
    return {(probe.task, probe.tap, probe.seed) for probe in info.probes}


def label_groups(groups: Sequence[tuple[Run, ...]]) -> dict[Path, str]:
    """Return path of a group's first run -> how it is called: by model, else with the run's name, else its path."""
    labels: dict[Path, str] = {}
    runs = [group[0] for group in groups]
    models = {run.path: run.info.title for run in runs}
    named = {run.path: f"{models[run.path]} [{run.info.name}]" for run in runs}
    placed = {run.path: f"{models[run.path]} [{run.path}]" for run in runs}
    for names in (models, named, placed):
        often = Counter((run.info.dataset, names[run.path]) for run in runs)
        for run in runs:
            if run.path not in labels and (names is placed or often[run.info.dataset, names[run.path]] == 1):
                labels[run.path] = names[run.path]
    return labels


def model_result(runs: tuple[Run, ...], label: str, protocol: Protocol, seed: int, resamples: int) -> ModelResult:
    """Return what the runs of one model say of a task.

    Raises:
        InputError: there are no val or test scenes, or two repeats of a tap have no test scene in common.
        EvaluateError: a run cannot be read.
    """
    metric = protocol.metrics[protocol.primary]
    taps = [_tap(chosen, protocol, seed, resamples) for chosen in _choose(runs, protocol).values()]
    taps.sort(key=lambda tap: tap_order(tap.probe))
    best = taps[0]
    for tap in taps[1:]:
        best = tap if metric.better(tap.val, best.val) else best
    return ModelResult(runs, label, tuple(taps), best)


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


def _choose(runs: Sequence[Run], protocol: Protocol) -> dict[str, list[tuple[Run, ProbeInfo, float, int]]]:
    """Return tap -> the best on val of its probes with each seed, in the order of runs and of their probes."""
    metric = protocol.metrics[protocol.primary]
    chosen: dict[str, list[tuple[Run, ProbeInfo, float, int]]] = {}
    for run in runs:
        best: dict[tuple[str, int], tuple[Run, ProbeInfo, float, int]] = {}
        for probe in (probe for probe in run.info.probes if probe.task == protocol.task):
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
    if not scenes and protocol.family == STANDARD:
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
