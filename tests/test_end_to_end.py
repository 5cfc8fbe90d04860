"""The commands of the README, as written, from a checkpoint on disk to a report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.extract import tiny_svd
from tests.extract.tiny_rooms import write_rooms


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny rooms and a tiny checkpoint in the real layout."""
    folder = tmp_path_factory.mktemp("work")
    write_rooms(folder / "rooms", splits=("train", "val", "test"), size=(32, 32), frames=4)
    tiny_svd.build(folder / "checkpoint")
    return folder


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "FEATURE_STORE": str(folder / "store"),
        "ROOMS_ROOT": str(folder / "rooms"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    module, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_from_a_checkpoint_to_a_report(workplace: Path) -> None:
    extract = "extract --model svd --dataset rooms --checkpoint checkpoint"
    for command in (extract, "probes.train --features store/svd", "extract --model position --dataset rooms"):
        done = run(workplace, command)
        assert done.returncode == 0, done.stderr
    assert "3 were already there" in run(workplace, extract).stdout
    assert "up to date" in run(workplace, "probes.train --features store/svd").stdout
    run(workplace, "probes.train --features store/position --epochs 2")

    runs = sorted(path.name for path in (workplace / "runs").iterdir())
    assert runs == ["position-rooms", "svd-rooms"]
    done = run(workplace, "evaluate --runs runs/position-rooms runs/svd-rooms --json")  # as a shell expands runs/*
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {row["model"] for row in rows} == {"svd", "position"}
    tasks = {"tagging", "segmentation", "grouping", "depth", "points", "camera", "normals", "correspondence"}
    assert {row["task"] for row in rows} == tasks
    assert len({row["tap"] for row in rows if row["model"] == "svd"}) == 25
    assert "<html" in (workplace / "report" / "report.html").read_text(encoding="utf-8")
