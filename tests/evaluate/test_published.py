"""What was published, and what is put beside it: only what was measured by the same rules on the same data."""

from __future__ import annotations

import json
import math
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from evaluate.aspects import aspect_of
from evaluate.cli import app
from evaluate.errors import InputError
from evaluate.protocols import get_protocol
from evaluate.published.beside import Comparison, put_beside
from evaluate.published.rows import comparison_document, comparison_rows
from evaluate.published.show import said, show_comparison
from evaluate.published.tables import TABLES, published
from evaluate.records import Run, RunWriter
from evaluate.sentences import notes
from evaluate.table import build
from tests.evaluate.imagined_runs import run_info

FAMILY = "paper-2605.28132"
PAPER = published("paper")


def _run(root: Path, model: str, kind: str, error: float, *, dataset="dl3dv-paper", family=FAMILY, **changes) -> Run:
    """Write a run on points whose error on six scenes is about `error`, by the paper's rules without val scenes."""
    name = changes.pop("name", model)
    protocol = get_protocol("points", family=family)
    fields = {"protocols": {"points": protocol.id}, "config": {"views": 4}} | changes
    info = run_info(name, model=model, kind=kind, dataset=dataset, tasks=("points",), taps=("blocks.20",), **fields)
    with RunWriter(root / name, info) as writer:
        for index in range(6):
            splits = ("test",) if family == FAMILY else ("val", "test")
            for split in splits:
                row = dict.fromkeys(protocol.dims, 0.0) | {"windows": 1.0, "point_error": error + 0.004 * (index - 2.5)}
                scene = {name: np.asarray(value) for name, value in row.items()}
                writer.add(info.probes[0].id, f"{split}-{index}", split, scene)
    return Run.open(root / name)


def _beside(*runs: Run) -> Comparison:
    return put_beside(PAPER, build(list(runs), resamples=200, family=FAMILY))


def _points(comparison: Comparison, model: str):
    return next(c for c in comparison.cells if (c.row.model, c.column.metric) == (model, "point_error"))


@pytest.mark.parametrize("name", TABLES)
def test_a_published_table_is_whole_and_names_metrics_that_exist(name: str):
    table = published(name)
    assert table.source.startswith(f"arXiv:{table.id}")
    for row in table.rows:
        assert len(row.values) == len(table.columns)
        assert all(math.isfinite(value) for value in row.values)
    for column in table.columns:
        protocol = get_protocol(column.task, ["a"], table.family)
        if column.metric:
            assert protocol.metrics[column.metric].higher_is_better is column.higher_is_better
            percent = protocol.metrics[column.metric].unit == "%" and column.printed == "%"
            assert column.scale == (0.01 if percent else 0.1 if column.printed.endswith("x 10") else 1.0)
        values = [table.value(row, column) for row in table.rows]
        assert all(0 < value < 1 for value in values)
    models = [row.model for row in table.rows if row.model]
    assert len(models) == len(set(models))


def test_the_printed_means_are_those_of_the_printed_rows():
    """To a unit of the last digit: the paper's means are of numbers that were not rounded."""
    assert {kind: sum(row.kind == kind for row in PAPER.rows) for kind in PAPER.printed_means} == {"vgm": 8, "vlm": 10}
    for kind, means in PAPER.printed_means.items():
        for column, printed in zip(PAPER.columns, means, strict=True):
            mean = PAPER.mean(column, kind)
            assert mean is not None
            digit = 0.01 if column.printed == "%" else 0.001
            assert mean / column.scale == pytest.approx(printed, abs=1.01 * digit)


def test_mid_ratio_is_the_ratio_of_the_columns_beside_it():
    for row in PAPER.rows:
        ap_mid, mean_ap, ratio = row.values[:3]
        assert ap_mid / mean_ap == pytest.approx(ratio, abs=6e-4)


def test_the_published_ordering_is_that_of_the_published_means():
    for column in PAPER.columns:
        ahead, behind = PAPER.ordering[aspect_of(column.task)]
        first, second = PAPER.mean(column, ahead), PAPER.mean(column, behind)
        assert first is not None
        assert second is not None
        assert (first > second) is column.higher_is_better


def test_models_and_data_sets_are_called_as_here():
    from extract import registry

    names = set(registry.families())
    for table in map(published, TABLES):
        assert {row.model for row in table.rows if row.model} <= names


def test_measured_stands_beside_published(tmp_path: Path):
    got = _beside(_run(tmp_path, "wan2.1-t2v-14b", "vgm", 0.125))
    cell = _points(got, "wan2.1-t2v-14b")
    assert (cell.published, cell.tap, cell.protocol) == (0.119, "blocks.20", f"{FAMILY}/points@1")
    assert cell.measured is not None
    assert cell.difference is not None
    assert cell.measured.value == pytest.approx(0.125)
    assert cell.difference.value == pytest.approx(0.006)
    assert cell.difference.low == pytest.approx(cell.measured.low - 0.119)
    assert cell.inside is (cell.measured.low <= 0.119 <= cell.measured.high)
    assert cell.caveat is None
    assert got.measured == 1
    assert len(got.missing) == 17
    assert "wan2.1-t2v-14b" not in got.missing
    assert got.partial["wan2.1-t2v-14b"] == ("AP_mid", "mAP", "MidRatio", "T-SR", "T-mIoU", "AbsRel", "AUC@30")


def test_what_was_measured_by_other_rules_is_never_put_beside(tmp_path: Path):
    paper = _run(tmp_path, "aether", "vgm", 0.2)
    standard = _run(tmp_path, "wan2.1-t2v-14b", "vgm", 0.119, family="standard")
    got = _beside(paper, standard)
    assert got.measured == 1
    assert _points(got, "wan2.1-t2v-14b").measured is None
    with pytest.raises(InputError, match=r"standard/points@\d+ on dl3dv-paper cannot be put beside arXiv:2605"):
        put_beside(PAPER, build([standard]))


def test_other_data_and_other_training_are_not_put_beside(tmp_path: Path):
    rooms = _run(tmp_path, "aether", "vgm", 0.2, dataset="rooms")
    moved = _run(tmp_path, "opensora-2", "vgm", 0.2, trained_on="rooms")
    raw = _run(tmp_path, "raw", "vgm", 0.2, untrained=True).info
    got = _beside(rooms, moved, Run(tmp_path / "raw", raw.model_copy(update={"model": "wan2.1-t2v-14b"})))
    assert got.measured == 0
    assert got.elsewhere == ("points on rooms",)
    assert any("not on the data of the table (scannet, dl3dv-paper)" in line for line in said(got))


def test_another_number_of_views_is_said(tmp_path: Path):
    got = _beside(
        _run(tmp_path, "aether", "vgm", 0.2, config={"views": 8}, name="eight"),
    )
    assert _points(got, "aether").caveat == "8 views per sample instead of 4."
    silent = _beside(_run(tmp_path, "aether", "vgm", 0.2, config={}))
    assert "does not say how many views" in (_points(silent, "aether").caveat or "")


@pytest.mark.parametrize(("video", "language", "reproduced"), [(0.1, 0.3, True), (0.3, 0.1, False)])
def test_the_ordering_is_reproduced_or_not(tmp_path: Path, video: float, language: float, reproduced: bool):
    got = _beside(
        _run(tmp_path, "aether", "vgm", video),
        _run(tmp_path, "opensora-2", "vgm", video + 0.01),
        _run(tmp_path, "qwen3-vl-2b", "vlm", language),
        _run(tmp_path, "svd", "vgm", 9.0),  # not in the table, so no part of its ordering
    )
    ordering = next(o for o in got.orderings if o.column.metric == "point_error")
    assert (ordering.ahead, ordering.behind, ordering.reproduced) == ("vgm", "vlm", reproduced)
    assert ordering.measured is not None
    assert ordering.measured.difference.value == pytest.approx(video + 0.005 - language)
    assert ordering.published == pytest.approx(0.152 - 0.223, abs=1e-3)
    assert ordering.published_same == pytest.approx((0.165 + 0.141) / 2 - 0.202)
    assert ("not reproduced" in ordering.verdict) is not reproduced
    assert "2 of 8 VGM and 1 of 10 VLM" in ordering.verdict
    others = [o for o in got.orderings if o is not ordering]
    assert all(o.reproduced is None and "nothing was measured" in o.verdict for o in others)


def test_one_kind_alone_reproduces_nothing(tmp_path: Path):
    got = _beside(_run(tmp_path, "aether", "vgm", 0.1))
    ordering = next(o for o in got.orderings if o.column.metric == "point_error")
    assert (ordering.reproduced, ordering.published_same) == (None, None)
    assert "only one kind was measured" in ordering.verdict


def test_a_tap_that_was_chosen_on_test_is_said_to_be(tmp_path: Path):
    axes = build([_run(tmp_path, "aether", "vgm", 0.1)], resamples=20, family=FAMILY)
    assert axes[0].leader.best.val_scenes == 0
    assert any("chosen on the test scenes that it is reported on" in note for note in notes(axes))
    assert not any("The choice rests on" in note for note in notes(axes))


def test_rows_and_document_are_json_and_agree(tmp_path: Path):
    got = _beside(_run(tmp_path, "aether", "vgm", 0.1))
    rows = comparison_rows(got)
    assert len(rows) == 18 * 8
    assert len({tuple(row) for row in rows}) == 1
    document = json.loads(json.dumps(comparison_document(got), allow_nan=False))
    assert document["cells"] == rows
    assert document["missing"] == list(got.missing)
    assert len(document["orderings"]) == 8


def test_the_terminal_shows_numbers_as_printed_and_says_what_is_missing(tmp_path: Path):
    got = _beside(_run(tmp_path, "aether", "vgm", 0.165))
    console = Console(record=True, width=200, file=StringIO())
    show_comparison(got, console)
    text = console.export_text()
    assert "0.165 / 0.165" in text
    assert "= +0.000" in text or "= −0.000" in text
    assert "– / 66.43" in text
    assert "1 of 144 published numbers" in text
    assert "Not measured: wan2.1-t2v-1.3b, wan2.1-t2v-14b" in " ".join(text.split())
    vidfm = put_beside(published("vidfm3d"), build([Run.open(tmp_path / "aether")], family=FAMILY))
    assert vidfm.unknown == ("DINOv2", "V-JEPA", "CogVideoX", "Fast3R")
    assert _points(vidfm, "aether").measured is None  # CO3D
    assert vidfm.measured == 1
    assert any("DL3DV point: VidFM3D trained for longer" in line for line in said(vidfm))


def test_the_command_compares_and_writes_json(tmp_path: Path):
    _run(tmp_path / "runs", "aether", "vgm", 0.165)
    _run(tmp_path / "runs", "svd", "vgm", 0.2, family="standard")  # would not go into one table with the other
    runs, out = str(tmp_path / "runs" / "*"), tmp_path / "out"
    arguments = ["--runs", runs, "--compare", "paper", "--out", str(out), "--resamples", "50"]
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)
    assert shown.exit_code == 0, shown.stderr
    assert "VGM before VLM on P-map err: cannot be said" in shown.stdout
    asked = CliRunner().invoke(app, [*arguments, "--json"])
    document = json.loads(asked.stdout)
    assert json.loads((out / "comparison-paper.json").read_text()) == document
    assert [row["model"] for row in document["cells"] if row["measured"] is not None] == ["aether"]
    assert CliRunner().invoke(app, [*arguments, "--format", "csv", "--format", "latex"]).exit_code == 0
    assert {file.suffix for file in out.iterdir()} == {".json", ".csv", ".tex"}
    refused = CliRunner().invoke(app, [*arguments, "--format", "png"])
    assert (refused.exit_code, "got --format png" in refused.stderr) == (1, True)
    wrong = CliRunner().invoke(app, ["--runs", runs, "--compare", "papers", "--out", str(out)])
    assert wrong.exit_code == 1
    assert "Did you mean 'paper'?" in wrong.stderr
