"""Workers of Dask make the same store as one process does, whatever happens to them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.arguments import Arguments
from extract.command import run
from extract.errors import ExtractError
from extract.registry import make_dataset
from store import FeatureStore, root
from tests.extract.distribute.frail_family import ORDERS, digest
from tests.extract.tiny_rooms import write_rooms

pytestmark = pytest.mark.timeout(500)  # every worker that starts, or starts again, loads torch
MODEL = "tests.extract.distribute.frail_family:FrailFamily:frail"
CLIPS = 10
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Workers are new processes: they find the tests by it.
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_rooms(tmp_path / "rooms", splits=["train"] * (CLIPS - 2) + ["val", "test"], size=(32, 32), frames=2)
    return tmp_path / "rooms"


@pytest.fixture
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    path = tmp_path / "orders.json"
    monkeypatch.setenv(ORDERS, str(path))

    def give(**what: Any) -> None:
        path.write_text(json.dumps({"log": str(tmp_path / "log"), **what}))

    give()
    return give


def frames_of(rooms: Path, row: int) -> str:
    clip = make_dataset("rooms", rooms).clips()[row]
    return digest(clip.frames(list(clip.bank)))


def extract(rooms: Path, capsys: pytest.CaptureFixture[str], **flags: Any) -> dict[str, Any]:
    capsys.readouterr()
    well = run(Arguments(model=MODEL, dataset="rooms", root=rooms, **flags), as_json=True)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert well == (not found["failed"])
    return found


def assert_equal_to_serial(rooms: Path, capsys: pytest.CaptureFixture[str], but: tuple[int, ...] = ()) -> None:
    store = FeatureStore.open("frail", "rooms")
    assert sorted(store.rows()) == [row for row in range(CLIPS) if row not in but]
    os.environ.pop(ORDERS, None)
    extract(rooms, capsys, out="serial")
    alone = FeatureStore.open("serial", "rooms")
    assert alone.fingerprint == store.fingerprint
    for row in store.rows():
        for tap in store.taps:
            assert np.array_equal(store.read(tap, row), alone.read(tap, row))
    assert not list((store.path / "commits").glob(".claim*"))


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def test_two_workers_make_the_store_that_one_process_makes_and_a_bad_clip_is_listed(
    rooms: Path,
    orders: Any,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poison, broken = frames_of(rooms, 3), frames_of(rooms, 6)
    orders(kill=[poison], **{"raise": [broken]})
    found = extract(rooms, capsys, cluster="local:2")
    table = FeatureStore.open("frail", "rooms").clips
    assert found["failed"].keys() == {table[3].id, table[6].id}
    assert found["failed"][table[3].id].startswith("given up after 3 attempts: workers died")
    assert "RuntimeError: CUDA error" in found["failed"][table[6].id]
    assert (found["done"], found["skipped"]) == (CLIPS - 2, 0)
    calls = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert sum(frames == poison for _, frames in calls) in (3, 4)  # once perhaps in a list with others
    assert len({process for process, _ in calls}) >= 2
    targets = FeatureStore.open(root() / "targets" / "rooms")
    assert len(targets.rows()) == CLIPS
    assert_equal_to_serial(rooms, capsys, but=(3, 6))
    orders()
    again = extract(rooms, capsys, cluster="local:1")
    assert (again["done"], again["skipped"], again["failed"]) == (2, CLIPS - 2, {})
    monkeypatch.setattr("extract.distribute.driver.connect", None)  # no worker is started for nothing
    assert extract(rooms, capsys, cluster="local:1")["skipped"] == CLIPS


def test_a_scheduler_that_is_killed_is_waited_for(
    rooms: Path, orders: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    orders(sleep=0.5)
    address = f"tcp://127.0.0.1:{free_port()}"
    scheduler = ["distributed.cli.dask_scheduler", "--host", address, "--no-dashboard"]
    worker = ["distributed.cli.dask_worker", address, "--nthreads", "1", "--memory-limit", "0", "--no-dashboard"]
    command = ["extract", "--model", MODEL, "--dataset", "rooms", "--root", str(rooms), "--cluster", address, "--json"]
    with subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as driver:
        with running(*scheduler), running(*worker):
            committed = root() / "frail" / "rooms" / "commits"
            deadline = time.monotonic() + 200
            while len(list(committed.glob("0*.json"))) < 2:
                assert time.monotonic() < deadline
                assert driver.poll() is None, driver.communicate()[1].decode()
                time.sleep(0.1)
        with running(*scheduler), running(*worker):
            out, said = driver.communicate(timeout=200)
    assert driver.returncode == 0, said.decode()
    assert "does not answer; what was committed is kept; waiting for it" in said.decode()
    found = json.loads(out)
    assert found["done"] + found["skipped"] == CLIPS
    assert_equal_to_serial(rooms, capsys)


def test_a_worker_that_arrives_at_another_recipe_is_refused(
    rooms: Path, orders: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from extract.distribute import driver
    from extract.distribute.worker import Job

    original = driver.__dict__["_job"]

    def other(*arguments: Any) -> Job:
        job: Job = original(*arguments)
        return Job(job.arguments, "f" * 32, job.root, job.store)

    monkeypatch.setattr(driver, "_job", other)
    with pytest.raises(ExtractError, match="Data, weights, or the version of this code differ"):
        extract(rooms, capsys, cluster="local:1")
    assert not (root() / "frail").exists()


def test_ranks_without_dask_make_the_same_store(
    rooms: Path, orders: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert extract(rooms, capsys, rank=1, world=3)["done"] == 3
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert extract(rooms, capsys)["done"] == 4
    monkeypatch.delenv("RANK")
    last = extract(rooms, capsys, rank=2, world=3)
    assert (last["done"], last["skipped"]) == (3, 0)
    assert_equal_to_serial(rooms, capsys)
