"""`python -m evaluate export` and `python -m evaluate query` as a user meets them."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import evaluate
from evaluate.__main__ import main
from evaluate.results.columns import COLUMNS, Level
from evaluate.results.commands import app
from evaluate.results.parquet import read_parquet, write_parquet

ROOT = Path(evaluate.__file__).parents[1]
QUICK = ("--resamples", "40")


def _run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def lab(scores: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("lab") / "lab.parquet"
    write_parquet([scores], file, Level.scores)
    return file


def test_a_lab_is_exported_and_asked(runs_root: Path, scores: pd.DataFrame, tmp_path: Path):
    file = tmp_path / "lab.parquet"
    code, out, err = _run("export", runs_root / "net-a-rooms", runs_root / "video*", "--out", file, *QUICK)
    assert (code, err) == (0, "")
    assert out.startswith(f"{file}: ")
    table, level = read_parquet([file])
    assert level is Level.scores
    assert f"{len(table)} rows, one per tap and metric" in out
    assert set(table.run) == {"net-a-rooms", "video-b-rooms"}
    code, out, _ = _run("query", "task == 'depth' and chosen_on_val", "--file", file, "--json")
    assert code == 0
    assert {row["model"] for row in json.loads(out)} == {"net-a", "video-b"}


def test_scenes_are_exported_run_by_run_and_filtered(runs_root: Path, tmp_path: Path):
    file = tmp_path / "scenes.parquet"
    where = "metric == 'absrel' and split == 'test'"
    code, out, _ = _run("export", runs_root, "--out", file, "--level", "scenes", "--where", where, "--json")
    assert code == 0
    table, level = read_parquet([file])
    assert json.loads(out) == {"file": str(file), "level": "scenes", "rows": len(table)}
    assert level is Level.scenes
    pd.testing.assert_frame_equal(table, evaluate.load_records(runs_root, where))


def test_files_are_merged(lab: Path, scores: pd.DataFrame, tmp_path: Path):
    parts = [tmp_path / f"{name}.parquet" for name in ("a", "b")]
    for part, chosen in zip(parts, (scores.untrained, ~scores.untrained), strict=True):
        write_parquet([scores[chosen]], part, Level.scores)
    assert _run("export", *parts, "--out", tmp_path / "all.parquet")[0] == 0
    merged, _ = read_parquet([tmp_path / "all.parquet"])
    whole, _ = read_parquet([lab])
    keys = list(scores)
    pd.testing.assert_frame_equal(
        merged.sort_values(keys, ignore_index=True), whole.sort_values(keys, ignore_index=True)
    )


def test_runs_and_files_give_the_same_answer(lab: Path, runs_root: Path):
    asked = ("query", "task == 'depth' and kind != 'control'", "--best", "absrel", "--json")
    _, from_file, _ = _run(*asked, "--file", lab)
    _, from_runs, _ = _run(*asked, "--runs", runs_root, *QUICK)
    assert json.loads(from_file) == json.loads(from_runs)
    (row,) = json.loads(from_file)
    assert list(row) == list(COLUMNS[Level.scores])
    assert row["model"] == "net-a"
    assert row["trained_on"] is None


def test_what_a_shell_makes_of_a_pattern_is_understood(runs_root: Path):
    paths = sorted(map(str, runs_root.iterdir()))
    code, out, _ = _run("query", "metric == 'absrel'", "--runs", *paths, "--level", "scenes", "--csv")
    assert code == 0
    table = list(csv.DictReader(io.StringIO(out)))
    assert list(table[0]) == list(COLUMNS[Level.scenes])
    assert len({row["run"] for row in table}) == len(paths)


def test_people_read_a_table_with_intervals(lab: Path):
    code, out, _ = _run(
        "query", "task == 'segmentation'", "--file", lab, "--best", "miou", "--per", "model", "--controls"
    )
    assert code == 0
    assert "miou ↑" in out
    assert "95 % interval" in out
    assert out.count("standard/segmentation@1") == 3
    code, out, _ = _run("query", "--file", lab, "--limit", "2")
    assert code == 0
    assert "more rows: --limit, --csv or --json" in out
    assert _run("query", "model == 'nobody'", "--file", lab)[1] == "No row meets the condition.\n"
    assert json.loads(_run("query", "model == 'nobody'", "--file", lab, "--json")[1]) == []


def test_a_control_that_is_best_is_told_and_does_not_win_unasked(scores: pd.DataFrame, tmp_path: Path):
    file = tmp_path / "ahead.parquet"
    write_parquet([scores.assign(value=scores.value.mask(scores.kind == "control", 0.0))], file, Level.scores)
    asked = ("query", "task == 'depth'", "--best", "absrel", "--file", file, "--json")
    code, out, err = _run(*asked)
    (row,) = json.loads(out)
    assert (code, row["model"]) == (0, "net-a")
    assert "note: pixels, a control, is best by absrel (0) on rooms by standard/depth@1" in err
    code, out, err = _run(*asked, "--controls")
    (row,) = json.loads(out)
    assert (code, row["model"], err) == (0, "pixels", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("query", "taks == 'depth'"), "Did you mean 'task'?"),
        (("query", "task.x == 'depth'"), "neither a column nor a literal"),
        (("query", "task == 'depth'", "--best", "absrell"), "Did you mean 'absrel'?"),
        (("query", "model == 'nobody'", "--best", "absrel"), "No row is left"),
        (("query", "--best", "absrel", "--per", "modle"), "Did you mean 'model'?"),
        (("query", "--per", "model"), "without --best"),
        (("query", "--runs", "runs"), "not from both"),
        (("query", "--level", "scenes"), "of the level scores, asked for was scenes"),
    ],
)
def test_mistakes_end_in_one_clear_line(lab: Path, arguments: tuple[str, ...], said: str):
    code, out, err = _run(*arguments, "--file", lab)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1


def test_scenes_have_no_best_and_sources_are_not_mixed(lab: Path, runs_root: Path, tmp_path: Path):
    code, _, err = _run("query", "task == 'depth'", "--runs", runs_root, "--level", "scenes", "--best", "absrel")
    assert (code, "--level scores" in err) == (1, True)
    code, _, err = _run("export", lab, runs_root, "--out", tmp_path / "x.parquet")
    assert (code, "cannot be mixed" in err) == (1, True)
    code, _, err = _run("export", tmp_path, "--out", tmp_path / "x.parquet")
    assert (code, "neither a run nor a folder of runs" in err) == (1, True)
    assert not (tmp_path / "x.parquet").exists()


def test_the_module_tells_commands_from_runs(lab: Path, runs_root: Path, tmp_path: Path, capsys):
    for arguments, said in (
        (["query", "task == 'depth'", "--file", str(lab), "--best", "absrel"], "net-a"),
        (["--runs", str(runs_root / "pixels-rooms"), "--format", "parquet", "--out", str(tmp_path), *QUICK], "Report:"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        assert said in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["results.parquet"]
    assert set(read_parquet([tmp_path / "results.parquet"])[0].run) == {"pixels-rooms"}


def test_help_loads_nothing_heavy():
    code = "import sys, evaluate.__main__; print({'torch', 'xarray', 'pandas', 'pyarrow', 'scipy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "set()"
