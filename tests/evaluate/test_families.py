"""Heads and training data are never chosen between, and never averaged over: not by families, not beside a table."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from evaluate.families import Probed, family_gaps, family_means
from evaluate.figures import looks
from evaluate.figures.scaling import scaling
from evaluate.protocols import get_protocol
from evaluate.published.beside import put_beside
from evaluate.published.rows import comparison_document
from evaluate.published.show import show_comparison
from evaluate.published.tables import published
from evaluate.records import Run, RunWriter
from evaluate.report.overview import gaps
from evaluate.selectivity import selectivities
from evaluate.table import Axis, build
from tests.evaluate.imagined_errors import error_run, points_axis
from tests.evaluate.imagined_runs import run_info

SCENES = 12
FAMILY = "paper-2605.28132"


def _errors(seed: int, mean: float) -> list[float]:
    return list(mean + np.random.default_rng(seed).normal(0, 0.01, SCENES))


def _run(root: Path, name: str, linear: float, mlp: float, **changes: object) -> Run:
    seed = len(name)
    beside = {("mlp", False): {("a", 0): _errors(seed + 1, mlp)}}
    return error_run(root, name, {("a", 0): _errors(seed, linear)}, beside=beside, **changes)


def _heads(root: Path) -> Axis:
    """Return an axis on which the VLM is better with a linear head, and the VGM with another."""
    return points_axis(
        _run(root, "wan-1b", 0.4, 0.1, kind="vgm"), _run(root, "wan-14b", 0.5, 0.2, kind="vgm"),
        _run(root, "qwen-2b", 0.3, 0.35, kind="vlm"),
    )  # fmt: skip


def test_every_head_has_means_of_its_own(tmp_path: Path):
    axis = _heads(tmp_path)
    found = {(mean.probed.head, mean.kind): mean for mean in family_means([axis])}
    assert set(found) == {(head, kind) for head in ("linear", "mlp") for kind in ("vgm", "vlm")}
    for (head, kind), mean in found.items():
        alike = [m for m in axis.models if (m.head, m.info.kind) == (head, kind)]
        assert mean.interval.value == pytest.approx(np.mean([axis.interval(m.best).value for m in alike]))
    better = {gap.first.probed: gap.better for gap in family_gaps([axis])}
    assert better == {Probed("linear", None): "vlm", Probed("mlp", None): "vgm"}
    assert sorted(gap.task for gap in gaps([axis])) == ["points on rooms, linear", "points on rooms, mlp"]


def test_training_on_other_data_is_not_averaged_with_training_here(tmp_path: Path):
    here = error_run(tmp_path, "here", {("a", 0): _errors(0, 0.2)}, kind="vgm")
    there = error_run(tmp_path, "there", {("a", 0): _errors(1, 0.4)}, kind="vgm", trained_on="elsewhere")
    means = family_means([points_axis(here, there)])
    assert {mean.probed.trained_on: len(mean.models) for mean in means} == {None: 1, "elsewhere": 1}


def test_a_twin_was_trained_on_the_same_data(tmp_path: Path):
    net = error_run(tmp_path, "net", {("a", 0): _errors(0, 0.2)}, trained_on="elsewhere")
    raw = error_run(tmp_path, "raw", {("a", 0): _errors(1, 0.5)}, model="net", untrained=True)
    axis = points_axis(net, raw)
    assert axis.twin(axis.leader) is None
    assert selectivities(axis) == []
    same = error_run(tmp_path, "same", {("a", 0): _errors(1, 0.5)}, model="net", untrained=True, trained_on="elsewhere")
    axis = points_axis(net, raw, same)
    assert axis.twin(axis.leader) is next(m for m in axis.models if m.run.info.name == "same")


def test_a_model_without_a_value_is_no_tie(tmp_path: Path):
    good = error_run(tmp_path, "good", {("a", 0): _errors(0, 0.2)}, kind="vgm")
    blind = error_run(tmp_path, "blind", {("a", 0): [math.nan] * SCENES}, kind="vlm")
    (gap,) = family_gaps([points_axis(good, blind)])
    assert gap.claim.startswith("Nothing can be said")


def test_lines_of_a_series_are_of_one_head(tmp_path: Path):
    axis = _heads(tmp_path)
    drawn = scaling(axis, [axis], looks([axis]))
    assert drawn is not None
    assert {handle.get_label() for handle in drawn.legend} == {
        f"{name} [{head}]" for name in ("wan", "qwen") for head in ("linear", "mlp")
    }


def _paper_run(root: Path, model: str, kind: str, errors: dict[str, float]) -> Run:
    """Write a run by the paper's rules with one probe per head."""
    protocol = get_protocol("points", family=FAMILY)
    info = run_info(
        model, model=model, kind=kind, dataset="dl3dv-paper", tasks=("points",), taps=("a",), config={"views": 4},
        protocols={"points": protocol.id},
    )  # fmt: skip
    probes = [
        info.probes[0].model_copy(update={"id": head, "head": head, "parameters": {"flat": 10, "deep": 20}[head]})
        for head in errors
    ]
    with RunWriter(root / model, info.model_copy(update={"probes": probes})) as writer:
        for head, error in errors.items():
            for index in range(6):
                row = dict.fromkeys(protocol.dims, 0.0) | {"windows": 1.0, "point_error": error + 0.001 * index}
                writer.add(head, f"{index}", "test", {name: np.asarray(value) for name, value in row.items()})
    return Run.open(root / model)


def test_a_published_column_is_measured_with_the_head_that_most_models_have(tmp_path: Path):
    runs = [
        _paper_run(tmp_path, "aether", "vgm", {"deep": 0.1, "flat": 0.3}),
        _paper_run(tmp_path, "opensora-2", "vgm", {"deep": 0.1, "flat": 0.3}),
        _paper_run(tmp_path, "qwen3-vl-2b", "vlm", {"flat": 0.2}),
        _paper_run(tmp_path, "wan2.1-t2v-14b", "vgm", {"deep": 0.05}),
    ]
    paper = published("paper")
    got = put_beside(paper, build(runs, resamples=50, family=FAMILY))
    cells = {cell.row.model: cell for cell in got.cells if cell.measured}
    assert {model: cell.head for model, cell in cells.items()} == dict.fromkeys(
        ("aether", "opensora-2", "qwen3-vl-2b"), "flat"
    )  # three models have either head: the smaller one
    assert got.heads == {"points": ("flat", "deep")}
    ordering = next(o for o in got.orderings if o.column.metric == "point_error")
    assert (ordering.reproduced, "2 of 8 VGM and 1 of 10 VLM" in ordering.verdict) == (False, True)
    console = Console(record=True, width=200, file=StringIO())
    show_comparison(got, console)
    assert "points: with the head flat alone; probed as well, and not shown here: deep." in console.export_text()
    document = json.loads(json.dumps(comparison_document(got), allow_nan=False))
    assert document["heads"] == {"points": ["flat", "deep"]}
    alone = put_beside(paper, build(runs[2:3], resamples=50, family=FAMILY))
    assert alone.heads == {}


def test_what_has_no_value_is_not_put_beside(tmp_path: Path):
    run = _paper_run(tmp_path, "aether", "vgm", {"flat": math.nan})
    axes = build([run], resamples=20, family=FAMILY)
    assert math.isnan(axes[0].interval(axes[0].leader.best).value)
    got = put_beside(published("paper"), [replace(axes[0])])
    assert got.measured == 0
