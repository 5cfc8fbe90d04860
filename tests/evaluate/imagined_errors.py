"""Runs on points alone whose error on every scene is given: what statistics make of them can be worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluate.metrics.points import PointsProtocol
from evaluate.records import Run, RunWriter
from evaluate.table import Axis, build
from tests.evaluate.imagined_runs import run_info

Errors = Mapping[tuple[str, int], Sequence[float]]
"""(tap, seed) -> error of each test scene; on val the error is their mean."""


def error_run(root: Path, name: str, errors: Errors, *, scenes: Sequence[str] = (), **changes: object) -> Run:
    """Write a run named `name`; `scenes` are names of test scenes, `changes` those of its `RunInfo`."""
    taps = list(dict.fromkeys(tap for tap, _ in errors))
    known = {probe.tap: probe for probe in run_info(tasks=("points",), taps=tuple(taps)).probes}
    probes = [known[tap].model_copy(update={"id": f"points/{tap}/seed{seed}", "seed": seed}) for tap, seed in errors]
    model = str(changes.pop("model", name))
    info = run_info(name, model=model, tasks=("points",), probes=probes, **changes)
    with RunWriter(root / name, info) as writer:
        for probe in probes:
            values = errors[probe.tap, probe.seed]
            writer.add(probe.id, "val", "val", _row(float(np.mean(values))))
            for index, error in enumerate(values):
                scene = scenes[index] if scenes else f"scene-{index:03d}"
                writer.add(probe.id, scene, "test", _row(error))
    return Run.open(root / name)


def points_axis(*runs: Run, resamples: int = 1000, seed: int = 0) -> Axis:
    """Return the one axis of some runs."""
    (axis,) = build(list(runs), resamples=resamples, seed=seed)
    return axis


def _row(error: float) -> dict[str, np.ndarray]:
    known = float(np.isfinite(error))
    row = dict.fromkeys(PointsProtocol.dims, 0.0) | {"windows": known, "point_error": error if known else 0.0}
    return {name: np.asarray(value) for name, value in row.items()}
