"""Runs that contradict themselves, or whose bytes changed, are refused with one message; nothing is read wrongly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import evaluate
from evaluate.cli import app
from evaluate.errors import InputError, QueryError, RunDamagedError
from evaluate.metrics.points import PointsProtocol
from evaluate.records import Run, RunWriter
from evaluate.table import build, find_runs
from tests.evaluate.imagined_errors import error_run
from tests.evaluate.imagined_runs import run_info, write_run

Document = dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage")
    return write_run(folder / "net", run_info("net", tasks=("depth", "tagging")), scenes=(2, 3), size=24)


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "net"))


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("array", ["absrel", "scene", "pixels"])
def test_a_flipped_bit_is_damage_and_not_another_number(run: Path, array: str):
    (file,) = (path for path in (run / "records.zarr" / "depth" / array / "c").rglob("*") if path.is_file())
    _flip(file)
    opened = Run.open(run)  # sizes are as listed
    with pytest.raises(RunDamagedError, match=r"records\.zarr/depth cannot be read"):
        opened.statistics("depth", opened.info.probes[0].id, "test")


def test_a_flipped_bit_of_an_example_is_damage(run: Path):
    file = next(path for path in (run / "examples.zarr" / "depth").rglob("depth_pred/c/**/*") if path.is_file())
    _flip(file)
    with pytest.raises(RunDamagedError, match=r"examples\.zarr cannot be read"):
        Run.open(run).examples()


def _protocol_of_another_task(document: Document) -> None:
    document["protocols"]["depth"] = "standard/normals@1"


def _probe_without_a_protocol(document: Document) -> None:
    document["probes"][0]["task"] = "camera"


def _probe_twice(document: Document) -> None:
    document["probes"].append(document["probes"][0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_protocol_of_another_task, "the protocol of depth is standard/normals@1"),
        (_probe_without_a_protocol, "has no protocol"),
        (_probe_twice, "is there twice"),
    ],
)
def test_a_run_that_contradicts_itself_is_damage(run: Path, change: Callable[[Document], None], said: str):
    document = json.loads((run / "run.json").read_text())
    change(document)
    (run / "run.json").write_text(json.dumps(document))
    with pytest.raises(RunDamagedError, match=said):
        Run.open(run)


def test_other_classes_than_were_scored_are_damage(run: Path):
    document = json.loads((run / "run.json").read_text())
    document["classes"]["tagging"] = document["classes"]["tagging"][1:]
    (run / "run.json").write_text(json.dumps(document))
    with pytest.raises(RunDamagedError, match=r"tagging is of \d classes; run.json names \d"):
        build([Run.open(run)], resamples=5)


def test_contents_that_are_no_list_of_files_are_damage(run: Path):
    (run / "contents.json").write_text("[]")
    with pytest.raises(RunDamagedError, match=r"contents\.json cannot be read"):
        Run.open(run)


def test_a_scene_is_added_once(tmp_path: Path):
    with RunWriter(tmp_path / "net", run_info("net", tasks=("points",), taps=("a",))) as writer:
        row = {name: np.asarray(1.0) for name in PointsProtocol.dims}
        writer.add(writer.info.probes[0].id, "s", "test", row)
        with pytest.raises(InputError, match="added twice"):
            writer.add(writer.info.probes[0].id, "s", "test", row)


def test_a_path_with_brackets_that_is_there_is_no_pattern(tmp_path: Path):
    error_run(tmp_path, "net[1]", {("a", 0): [0.1, 0.2]})
    assert len(find_runs([str(tmp_path / "net[1]")])) == 1
    assert set(evaluate.load_records(tmp_path / "net[1]").run) == {"net[1]"}


def test_an_unknown_form_of_records_is_answered_with_the_nearest(run: Path):
    with pytest.raises(QueryError, match="Did you mean 'pandas'"):
        evaluate.load_records(run, as_="panda")  # type: ignore[call-overload]


def test_a_run_without_probes_makes_no_report(run: Path, tmp_path: Path):
    document = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(document | {"probes": []}))
    done = CliRunner().invoke(app, ["--runs", str(run), "--out", str(tmp_path / "report")])
    assert (done.exit_code, "no probes in" in done.stderr) == (1, True)
    assert not (tmp_path / "report").exists()
