"""What the runs say when put side by side: per data set and task, every tap of every model, and its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from glob import glob
from pathlib import Path

import numpy as np

from evaluate.errors import MixedProtocolsError, RunNotFoundError
from evaluate.metrics.base import Protocol
from evaluate.models import (
    ModelResult,
    Repeat,
    TapResult,
    estimate_tap,
    model_result,
    on_scenes,
    tap_order,
)
from evaluate.paired import Contributions, contributions
from evaluate.protocols import SCENE_UNITS, TASKS, protocol_of
from evaluate.records import RUN_FILE, Run
from evaluate.repeats import estimate_repeated_classes, repeat_shares
from evaluate.rows import Row, group_runs, label_rows, rows_of
from evaluate.statistics import RESAMPLES, Estimate, Interval

__all__ = ["Axis", "ModelResult", "Repeat", "TapResult", "build", "find_runs", "tap_order"]

_WINDOWED = ("tagging", "grouping", "points", "camera", "correspondence")
"""Tasks that are scored on windows of several views, so that their numbers depend on how many there are."""


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

    @property
    def length_unit(self) -> str:
        """What lengths on the data set are in: `m`, or `evaluate.protocols.SCENE_UNITS`."""
        return SCENE_UNITS if any(m.info.length_unit not in ("m", None) for m in self.models) else "m"

    @cached_property
    def leader(self) -> ModelResult:
        """The first model that is no control, or the first control if there is nothing else."""
        return next((model for model in self.models if not model.is_control), self.models[0])

    def twin(self, model: ModelResult) -> ModelResult | None:
        """Return the same backbone untrained, if it was probed with the same head on the same data, and is another."""
        if model.is_control:
            return None
        twins = (m for m in self.models if m.info.untrained and not m.shuffled)
        return next((m for m in twins if _probed(m) == _probed(model)), None)

    def counterpart(self, model: ModelResult) -> ModelResult | None:
        """Return what this axis has in the row of a model of another one, or of its run if it is not trained here."""
        same = (m for m in self.models if m.label == model.label)
        untrained = (m for m in self.models if (m.run.path, m.head) == (model.run.path, None) and not model.shuffled)
        return next(same, None) or next(untrained, None)

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
        here, there = (self.estimate(result, common) for result in (tap, control))
        return here.minus(there, name)

    def estimate(self, tap: TapResult, scenes: Sequence[str]) -> Estimate:
        """Return the metrics of a tap on some of its test scenes, named in one order for all that are compared."""
        if tuple(scenes) == tap.scenes:
            return tap.test
        return estimate_tap(tap, self.protocol, scenes, self.seed, self.resamples)

    def contributions(self, tap: TapResult, scenes: Sequence[str], metric: str) -> Contributions:
        """Return what each of some test scenes says of a metric of a tap; computed once."""
        key = id(tap), tuple(scenes), metric
        if key not in self._contributions:
            rows = on_scenes(tap, scenes)
            self._contributions[key] = contributions(self.protocol, rows, tap.draws, metric)
        return self._contributions[key]

    @cached_property
    def _contributions(self) -> dict[tuple[int, tuple[str, ...], str], Contributions]:
        return {}

    def per_scene(self, tap: TapResult, metric: str | None = None) -> dict[str, float]:
        """Return a metric of every test scene alone, the mean over repeats; NaN where it has nothing to measure.

        Their mean is the tap's value where the metric is a mean over scenes (docs/statistics.md says of which).
        """
        alone = [
            self.protocol.reduce_weighted(repeat.statistics, np.eye(len(tap.scenes)))[metric or self.protocol.primary]
            for repeat in tap.repeats
        ]
        means = repeat_shares(tap.draws) @ np.stack(alone)
        return {scene: float(value) for scene, value in zip(tap.scenes, means, strict=True)}

    def classes(self, tap: TapResult) -> dict[str, list[Interval]]:
        """Return the per-class metrics of a tap."""
        return estimate_repeated_classes(
            self.protocol,
            [repeat.statistics for repeat in tap.repeats],
            tap.draws,
            seed=self.seed,
            resamples=self.resamples,
            stream=tap.stream,
        )


def find_runs(patterns: Sequence[str]) -> list[Run]:
    """Open every run that the patterns name; a pattern with `*`, `?` or `[` passes over directories that hold no run.

    Raises:
        RunNotFoundError: no pattern leads to a run, or a path without wildcards is not a run.
        EvaluateError: a run cannot be read.
    """
    directories: dict[Path, None] = {}
    for pattern in patterns:
        if any(sign in pattern for sign in "*?[") and not Path(pattern).exists():
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


def build(runs: Sequence[Run], *, seed: int = 0, resamples: int = RESAMPLES, family: str | None = None) -> list[Axis]:
    """Return one `Axis` per data set and task, tasks in the order of `TASKS`.

    Args:
        runs: what is put side by side.
        seed, resamples: of the bootstrap.
        family: if given, only what was measured by protocols of this family is taken.

    Raises:
        MixedProtocolsError: runs on one data set measured a task by different protocols, classes, targets or views.
        EvaluateError: a run cannot be read, or has no val or test scenes.
    """
    rows = [row for group in group_runs(runs) for row in rows_of(group)]
    labelled = list(zip(rows, label_rows(rows), strict=True))
    axes = []
    for dataset in sorted({run.info.dataset for run in runs}):
        for task in TASKS:
            found = [(row, label) for row, label in labelled if row.info.dataset == dataset and _has(row, task, family)]
            if found:
                axes.append(_axis(dataset, task, found, seed, resamples))
    return axes


def _probed(model: ModelResult) -> tuple[str, str | None, str | None]:
    return model.info.model, model.head, model.info.trained_on


def _has(row: Row, task: str, family: str | None) -> bool:
    protocol = row.info.protocols.get(task)
    asked = protocol is not None and (family is None or protocol.startswith(f"{family}/"))
    return asked and any(row.probes(run, task) for run in row.runs)


def _axis(dataset: str, task: str, labelled: Sequence[tuple[Row, str]], seed: int, resamples: int) -> Axis:
    _require_same(dataset, task, list({run.path: run for row, _ in labelled for run in row.runs}.values()))
    info = labelled[0][0].info
    unit = next((row.info.length_unit for row, _ in labelled if row.info.length_unit), None)
    protocol = protocol_of(info.protocols[task], info.classes.get(task, ()), unit)
    models = [model_result(row, label, protocol, seed, resamples) for row, label in labelled]
    worst = -np.inf if protocol.metrics[protocol.primary].higher_is_better else np.inf
    sign = -1 if worst < 0 else 1

    def rank(model: ModelResult) -> tuple[float, str]:
        value = model.best.test.values[protocol.primary]
        return (sign * (worst if np.isnan(value) else value), model.label)

    return Axis(dataset, protocol, tuple(sorted(models, key=rank)), seed, resamples)


def rules_of(run: Run, task: str) -> dict[str, str]:
    """Return what runs on one data set must agree in for their results of a task to stand in one column."""
    info = run.info
    rules = {
        "protocols": info.protocols[task],
        "classes": ", ".join(info.classes.get(task, ())),
        "targets": info.targets_fingerprint,
    }
    # The rules of other families go by windows in every task.
    if task in _WINDOWED or not rules["protocols"].startswith("standard/"):
        rules["numbers of views per window"] = str(info.config.get("views", "unknown"))
    return rules


def _require_same(dataset: str, task: str, runs: Sequence[Run]) -> None:
    found = [rules_of(run, task) for run in runs]
    kinds = dict.fromkeys(what for one in found for what in one)
    rules = {what: [one.get(what, "") for one in found] for what in kinds}
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
