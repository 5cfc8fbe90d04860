"""What the runs say when put side by side: per data set and task, every tap of every model, and its controls.

For every tap the best of its probes (learning rates, seeds) is chosen on val, and so is the best tap of a model; all
numbers that are shown come from test. Where val says the same of two, the earlier one stays: the shallower tap.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from glob import glob
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluate.errors import InputError, MixedProtocolsError, RunNotFoundError
from evaluate.metrics.base import Protocol
from evaluate.protocols import TASKS, protocol_of
from evaluate.records import RUN_FILE, Run
from evaluate.schema import ProbeInfo, RunInfo
from evaluate.statistics import RESAMPLES, Estimate, Interval, estimate, estimate_classes

_WINDOWED = ("tagging", "grouping", "points", "camera", "correspondence")
"""Tasks that are scored on windows of several views, so that their numbers depend on how many there are."""


@dataclass(frozen=True)
class TapResult:
    """One tap of one model: the probe that was chosen for it on val, and what it does on test."""

    probe: ProbeInfo
    val: float
    val_scenes: int
    test: Estimate
    scenes: tuple[str, ...]
    statistics: dict[str, NDArray[np.generic]] = field(repr=False)


@dataclass(frozen=True)
class ModelResult:
    """One run on one task: its taps in order of execution, then of noise."""

    run: Run
    label: str
    taps: tuple[TapResult, ...]
    best: TapResult

    @property
    def info(self) -> RunInfo:
        """What the run says about itself."""
        return self.run.info

    @property
    def is_control(self) -> bool:
        """Whether this is there for comparison only: an untrained backbone, shuffled labels, raw pixels, position."""
        return self.info.untrained or self.info.shuffled or self.info.kind == "control"


@dataclass(frozen=True)
class Axis:
    """Everything that may stand in one column: one task on one data set under one protocol. Best models come first."""

    dataset: str
    protocol: Protocol
    models: tuple[ModelResult, ...]
    seed: int
    resamples: int

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.protocol.task

    @cached_property
    def leader(self) -> ModelResult:
        """The first model that is no control, or the first control if there is nothing else."""
        return next((model for model in self.models if not model.is_control), self.models[0])

    def twin(self, model: ModelResult) -> ModelResult | None:
        """Return the same backbone untrained, if it was probed and `model` is not that itself."""
        if model.is_control:
            return None
        twins = (m for m in self.models if m.info.untrained and not m.info.shuffled)
        return next((m for m in twins if m.info.model == model.info.model), None)

    def control(self, model: ModelResult) -> ModelResult | None:
        """Return what `model` is to be compared with: its twin, else the best other control."""
        others = (m for m in self.models if m.info.kind == "control" and m is not model)
        return self.twin(model) or (None if model.is_control else next(others, None))

    def rivals(self, model: ModelResult) -> list[ModelResult]:
        """Return what a trained model must be held against: its twin, and a control that asks more of it or as much.

        The control is the strongest there is. It is left out where the twin is better than it and closer to the model,
        and it does not beat the model. An untrained twin of another backbone counts only if it beats the model.
        """
        if model.is_control:
            return []
        twin = self.twin(model)
        others = (m for m in self.models if m.is_control and m is not twin)
        strongest = next((m for m in others if m.info.kind == "control" or self.beats(m, model)), None)
        if strongest is None or twin is None:
            return [rival for rival in (twin, strongest) if rival]
        here, there, control = (m.best.test.values[self.protocol.primary] for m in (model, twin, strongest))
        told = (
            self.beats(strongest, model)
            or self.protocol.metrics[self.protocol.primary].better(control, there)
            or abs(control - here) < abs(there - here)
        )
        return [twin, strongest] if told else [twin]

    def beats(self, model: ModelResult, other: ModelResult) -> bool:
        """Whether the best tap of `model` does better on test than that of `other`, by their paired difference."""
        metric = self.protocol.metrics[self.protocol.primary]
        difference = self.difference(model.best, other.best)
        if difference is None:
            return metric.better(*(m.best.test.values[self.protocol.primary] for m in (model, other)))
        return metric.better(difference.value, 0.0)

    def interval(self, tap: TapResult, metric: str | None = None) -> Interval:
        """Return a metric of a tap, the primary one if none is named."""
        return tap.test.interval(metric or self.protocol.primary)

    def difference(self, tap: TapResult, control: TapResult, metric: str | None = None) -> Interval | None:
        """Return the paired difference tap - control over the test scenes of both; None if they share none."""
        name = metric or self.protocol.primary
        if tap.scenes == control.scenes:
            return tap.test.minus(control.test, name)
        common = sorted(set(tap.scenes) & set(control.scenes))
        if not common:
            return None
        here, there = (self._estimate(_select(result, common)) for result in (tap, control))
        return here.minus(there, name)

    def classes(self, tap: TapResult) -> dict[str, list[Interval]]:
        """Return the per-class metrics of a tap."""
        return estimate_classes(self.protocol, tap.statistics, seed=self.seed, resamples=self.resamples)

    def _estimate(self, statistics: dict[str, NDArray[np.generic]]) -> Estimate:
        return estimate(self.protocol, statistics, seed=self.seed, resamples=self.resamples)


def tap_order(probe: ProbeInfo) -> tuple[int, float, str, str]:
    """Return a key that sorts taps by depth of the site, then by the number in the noise level (t5, t20, t100)."""
    number = re.search(r"\d+(?:\.\d+)?", probe.noise or "")
    return (probe.depth, float(number[0]) if number else -1.0, probe.noise or "", probe.tap)


def find_runs(patterns: Sequence[str]) -> list[Run]:
    """Open every run that the patterns name; a pattern with `*`, `?` or `[` passes over directories that hold no run.

    Raises:
        RunNotFoundError: no pattern leads to a run, or a path without wildcards is not a run.
        EvaluateError: a run cannot be read.
    """
    directories: dict[Path, None] = {}
    for pattern in patterns:
        if any(sign in pattern for sign in "*?["):
            found = sorted(Path(name) for name in glob(pattern))
            directories |= dict.fromkeys(directory for directory in found if (directory / RUN_FILE).is_file())
        else:
            directories[Path(pattern)] = None
    if not directories:
        wanted = ", ".join(repr(pattern) for pattern in patterns)
        raise RunNotFoundError(
            f"no runs found under {wanted} (seen from {Path.cwd()}); train probes first (`python -m probes.train`) "
            "or pass --runs"
        )
    return [Run.open(directory) for directory in {directory.resolve(): directory for directory in directories}.values()]


def build(runs: Sequence[Run], *, seed: int = 0, resamples: int = RESAMPLES) -> list[Axis]:
    """Return one `Axis` per data set and task, tasks in the order of `TASKS`.

    Raises:
        MixedProtocolsError: runs on one data set measured a task by different protocols, classes, targets or views.
        EvaluateError: a run cannot be read, or has no val or test scenes.
    """
    labels = _labels(runs)
    axes = []
    for dataset in sorted({run.info.dataset for run in runs}):
        for task in TASKS:
            group = [run for run in runs if run.info.dataset == dataset and task in run.info.protocols]
            if group:
                axes.append(_axis(dataset, task, group, labels, seed, resamples))
    return axes


def _axis(dataset: str, task: str, runs: Sequence[Run], labels: dict[Path, str], seed: int, resamples: int) -> Axis:
    _require_same(dataset, task, runs)
    info = runs[0].info
    protocol = protocol_of(info.protocols[task], info.classes.get(task, ()))
    models = [_model(run, labels[run.path], protocol, seed, resamples) for run in runs]
    worst = -np.inf if protocol.metrics[protocol.primary].higher_is_better else np.inf
    sign = -1 if worst < 0 else 1

    def rank(model: ModelResult) -> tuple[float, str]:
        value = model.best.test.values[protocol.primary]
        return (sign * (worst if np.isnan(value) else value), model.label)

    return Axis(dataset, protocol, tuple(sorted(models, key=rank)), seed, resamples)


def _model(run: Run, label: str, protocol: Protocol, seed: int, resamples: int) -> ModelResult:
    metric = protocol.metrics[protocol.primary]
    chosen: dict[str, tuple[ProbeInfo, float, int]] = {}
    for probe in (probe for probe in run.info.probes if probe.task == protocol.task):
        value, val_scenes = _val(run, probe, protocol)
        if probe.tap not in chosen or metric.better(value, chosen[probe.tap][1]):
            chosen[probe.tap] = (probe, value, val_scenes)
    taps = []
    for probe, value, val_scenes in chosen.values():
        scenes, statistics = run.statistics(protocol.task, probe.id, "test")
        if not scenes:
            raise InputError(f"{run.path}: task {protocol.task!r} has no test scenes; extract some and train again")
        test = estimate(protocol, statistics, seed=seed, resamples=resamples)
        taps.append(TapResult(probe, value, val_scenes, test, tuple(scenes), statistics))
    taps.sort(key=lambda tap: tap_order(tap.probe))
    best = taps[0]
    for tap in taps[1:]:
        best = tap if metric.better(tap.val, best.val) else best
    return ModelResult(run, label, tuple(taps), best)


def _val(run: Run, probe: ProbeInfo, protocol: Protocol) -> tuple[float, int]:
    scenes, statistics = run.statistics(protocol.task, probe.id, "val")
    if not scenes:
        raise InputError(
            f"{run.path}: task {protocol.task!r} has no val scenes, so no layer can be chosen; extract some and train "
            "again"
        )
    return protocol.reduce(statistics)[protocol.primary], len(scenes)


def _require_same(dataset: str, task: str, runs: Sequence[Run]) -> None:
    rules = {
        "protocols": [run.info.protocols[task] for run in runs],
        "classes": [", ".join(run.info.classes.get(task, ())) for run in runs],
        "targets": [run.info.targets_fingerprint for run in runs],
    }
    # The rules of other families go by windows in every task.
    if task in _WINDOWED or any(not name.startswith("standard/") for name in rules["protocols"]):
        rules["numbers of views per window"] = [str(run.info.config.get("views", "unknown")) for run in runs]
    for what, values in rules.items():
        if len(set(values)) > 1:
            sides: dict[str, list[str]] = {}
            for run, value in zip(runs, values, strict=True):
                sides.setdefault(value, []).append(str(run.path))
            named = "; ".join(f"{value}: {', '.join(paths)}" for value, paths in sides.items())
            raise MixedProtocolsError(
                f"{task} on {dataset}: runs with different {what} cannot stand in one column ({named}); select "
                "runs with --runs, or train the older ones again"
            )


def _select(tap: TapResult, scenes: Iterable[str]) -> dict[str, NDArray[np.generic]]:
    rows = [tap.scenes.index(scene) for scene in scenes]
    return {name: array[rows] for name, array in tap.statistics.items()}


def _labels(runs: Sequence[Run]) -> dict[Path, str]:
    """Return how each run is called: by its model, where that is taken by its name too, and else by its path."""
    labels: dict[Path, str] = {}
    models = {run.path: run.info.title for run in runs}
    named = {run.path: f"{models[run.path]} [{run.info.name}]" for run in runs}
    placed = {run.path: f"{models[run.path]} [{run.path}]" for run in runs}
    for names in (models, named, placed):
        often = Counter((run.info.dataset, names[run.path]) for run in runs)
        for run in runs:
            if run.path not in labels and (names is placed or often[run.info.dataset, names[run.path]] == 1):
                labels[run.path] = names[run.path]
    return labels
