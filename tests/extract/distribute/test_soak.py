"""Everything at once: workers and the scheduler are killed, the disk is full, a picture is broken, a clock jumps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from store import FeatureStore, root
from store.upkeep.verify import verify
from tests.extract.distribute.chaos import Chaos
from tests.extract.distribute.frail_family import ORDERS
from tests.extract.distribute.full_disk import FLAG
from tests.extract.distribute.test_distribute import MODEL, REPOSITORY, free_port

BROKEN = 4
CLIP = ["--clip-frames", "2", "--clip-window", "whole", "--bank", "2"]
LONG = (pytest.mark.long, pytest.mark.timeout(3600))


def write_recordings(folder: Path, number: int) -> None:
    """Recordings of two pictures each, one of which is damaged in a way that only shows when it is decoded."""
    generator = np.random.default_rng(0)
    for k in range(number):
        place = folder / f"scene-{k:03d}"
        place.mkdir(parents=True)
        for n in range(2):
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8)).save(place / f"{n}.png")
    damaged = folder / f"scene-{BROKEN:03d}" / "1.png"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.write_bytes(content)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("clips", "workers", "every", "scheduler_after"),
    [(30, 2, 12.0, 18.0), pytest.param(500, 3, 8.0, 60.0, marks=LONG)],
)
def test_a_soaked_store_is_that_of_a_quiet_run(
    clips: int,
    workers: int,
    every: float,
    scheduler_after: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_recordings(tmp_path / "recordings", clips)
    full = tmp_path / "full"
    (tmp_path / "orders.json").write_text(json.dumps({"sleep": 0.3}))
    for name, value in (
        ("PYTHONPATH", str(REPOSITORY)),
        ("OMP_NUM_THREADS", "1"),
        (ORDERS, str(tmp_path / "orders.json")),
        (FLAG, str(full)),
    ):
        monkeypatch.setenv(name, value)
    data = ["--dataset", "folder", "--root", str(tmp_path / "recordings"), *CLIP, "--json"]
    commits = root() / "frail" / "folder" / "commits"
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    preload = "tests.extract.distribute.full_disk", "tests.extract.distribute.jumping_clock"
    with Chaos(free_port(), workers, every, scheduler_after, *preload, seed=clips) as chaos:
        command = [sys.executable, "-m", "extract", "--model", MODEL, *data, "--cluster", chaos.address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as driver:
            while len(list(commits.glob("0*.json"))) < clips // 4:
                assert driver.poll() is None, driver.communicate()
                chaos.rest()
            full.touch()
            _, said = driver.communicate()
        assert driver.returncode == 1
        assert "no room left on the disk. Every clip committed so far is valid" in said.decode()
        full.unlink()
        held = len(list(commits.glob("0*.json")))
        assert clips // 4 <= held < clips
        done = subprocess.run(command, capture_output=True, check=False)
    found = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr.decode()
    assert list(found["failed"]) == [f"scene-{BROKEN:03d}"], found["failed"]
    assert chaos.deaths["scheduler"] == 1
    assert chaos.deaths["worker"] >= 1
    left = {process.pid for process in psutil.Process().children(recursive=True)} - before
    assert not left
    store = FeatureStore.open("frail", "folder")
    assert not verify(store.path, deep=True).bad
    monkeypatch.delenv(ORDERS)
    quietly = [sys.executable, "-m", "extract", "--model", MODEL, *data, "--out", "quiet"]
    subprocess.run(quietly, capture_output=True, check=False)
    quiet = FeatureStore.open("quiet", "folder")
    assert sorted(store.rows()) == sorted(quiet.rows())
    assert len(store.rows()) == clips - 1
    for row in store.rows():
        for tap in store.taps:
            assert np.array_equal(store.read(tap, row), quiet.read(tap, row))
