"""`python -m evaluate` as a user meets it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import evaluate
from evaluate.cli import app

ROOT = Path(evaluate.__file__).parents[1]


def _run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_everything_is_written_and_the_same_every_time(runs_root: Path, tmp_path: Path):
    for name in ("one", "two"):
        code, out, err = _run("--runs", runs_root / "*", "--out", tmp_path / name)
        assert (code, err) == (0, "")
        assert "On depth, net-a blocks.3 reaches AbsRel" in " ".join(out.split())
    names = ["report.html", "results.csv", "results.md"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    _run("--runs", runs_root / "*", "--out", tmp_path / "three", "--seed", "1")
    assert (tmp_path / "one" / "results.csv").read_bytes() != (tmp_path / "three" / "results.csv").read_bytes()


def test_only_the_asked_formats_are_written(runs_root: Path, tmp_path: Path):
    formats = [part for name in ("latex", "svg", "png") for part in ("--format", name)]
    code, out, _ = _run("--runs", runs_root / "*", "--out", tmp_path / "out", "--resamples", "20", *formats)
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["figures", "results.tex"]
    figures = sorted((tmp_path / "out" / "figures").iterdir())
    assert {file.suffix for file in figures} == {".svg", ".png"}
    assert [file.stem for file in figures[::2]] == [file.stem for file in figures[1::2]]
    assert "figures" in out.splitlines()[-1]


def test_an_unknown_format_is_refused(tmp_path: Path):
    code, _, err = _run("--format", "pdf", "--out", tmp_path / "out")
    assert code == 2
    assert "pdf" in err
    assert not (tmp_path / "out").exists()


def test_json_is_the_csv_and_nothing_else(runs_root: Path, tmp_path: Path):
    code, out, _ = _run("--runs", runs_root / "*", "--out", tmp_path, "--json", "--resamples", "50")
    assert code == 0
    table = json.loads(out)
    with (tmp_path / "results.csv").open(encoding="utf-8") as stream:
        written = list(csv.DictReader(stream))
    assert len(table) == len(written)
    for row, line in zip(table, written, strict=True):
        assert line["value"] == ("" if row["value"] is None else str(row["value"]))


def test_several_patterns_select_runs(runs_root: Path, tmp_path: Path):
    code, out, _ = _run(
        "--runs", runs_root / "net-a-rooms", "--runs", runs_root / "pix*", "--out", tmp_path, "--json"
    )  # fmt: skip
    assert code == 0
    assert {row["run"] for row in json.loads(out)} == {"net-a-rooms", "pixels-rooms"}


def _damage_json(run: Path) -> None:
    (run / "run.json").write_text("{")


def _change_schema(run: Path) -> None:
    document = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(document | {"schema_version": 99}))


def _change_protocol(run: Path) -> None:
    text = (run / "run.json").read_text().replace("standard/depth@1", "standard/depth@7")
    (run / "run.json").write_text(text)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (shutil.rmtree, "run.json is missing"),
        (_damage_json, "damaged run"),
        (_change_schema, "schema_version is 99"),
        (_change_protocol, "standard/depth@7"),
    ],
)
def test_bad_runs_end_in_one_clear_line(runs_root: Path, tmp_path: Path, spoil, said: str):
    spoiled = tmp_path / "runs" / "pixels-rooms"
    shutil.copytree(runs_root / "pixels-rooms", spoiled)
    spoil(spoiled)
    code, out, err = _run("--runs", spoiled, "--runs", runs_root / "net-a-rooms", "--out", tmp_path / "out")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert said in err
    assert str(spoiled) in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_no_runs_says_where_it_looked_and_what_to_do(tmp_path: Path):
    code, _, err = _run("--out", tmp_path / "out")
    assert code == 1
    assert "no runs found under 'runs/*'" in err
    assert "python -m probes.train" in err


def test_unknown_options_are_refused():
    code, _, err = _run("--jsn")
    assert code == 2
    assert "--json" in err


def test_help_is_quick_and_loads_nothing_heavy():
    code = "import sys, evaluate.cli; print({'torch', 'zarr', 'xarray', 'matplotlib', 'scipy'} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    loaded = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert loaded.stdout.strip() == "set()"
    begin = time.perf_counter()
    shown = subprocess.run(
        [sys.executable, "-m", "evaluate", "--help"],
        env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    # Generous: it takes a tenth of this on an idle machine.
    assert time.perf_counter() - begin < 5
    assert "--runs" in shown.stdout
