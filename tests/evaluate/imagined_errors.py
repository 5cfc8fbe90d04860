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


def error_run(
    root: Path,
    name: str,
    errors: Errors,
    *,
    scenes: Sequence[str] = (),
    beside: Mapping[tuple[str, bool], Errors] | None = None,
    **changes: object,
) -> Run:
    """Write a run named `name`.

    Args:
        root: where.
        name: of the run, and of its model if `changes` does not say otherwise.
        errors: of its linear probes.
        scenes: names of test scenes.
        beside: (head, whether labels were shuffled) -> errors of further probes.
        changes: of its `RunInfo`.
    """
    told = {
        (head, shuffled, tap, seed): values
        for (head, shuffled), some in {("linear", False): errors, **(beside or {})}.items()
        for (tap, seed), values in some.items()
    }
    taps = tuple(dict.fromkeys(tap for *_, tap, _ in told))
    known = {probe.tap: probe for probe in run_info(tasks=("points",), taps=taps).probes}
    rows = {
        known[tap].model_copy(
            update={
                "id": f"points/{tap}/{head}/seed{seed}{'/shuffled' * shuffled}",
                "head": head,
                "seed": seed,
                "shuffled": shuffled,
            }
        ): values
        for (head, shuffled, tap, seed), values in told.items()
    }
    probes = list(rows)
    model = str(changes.pop("model", name))
    info = run_info(name, model=model, tasks=("points",), probes=probes, **changes)
    with RunWriter(root / name, info) as writer:
        for probe, values in rows.items():
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
