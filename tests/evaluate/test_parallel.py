"""Work on many cores gives what work on one does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from evaluate.errors import EvaluateError, InputError
from evaluate.metrics.base import Arrays
from evaluate.parallel import JOBS, Processes, cores, in_threads
from evaluate.protocols import get_protocol

HERE = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOBS, "2")


def _scenes(count: int, cells: int = 8) -> list[tuple[Arrays, Arrays]]:
    rng = np.random.default_rng(0)
    codes = 2 * rng.normal(size=(5, 16))
    made: list[tuple[Arrays, Arrays]] = []
    for _ in range(count):
        instances = np.kron(rng.integers(0, 5, (1, 3, cells, cells)), np.ones((1, 1, 4, 4), int)).astype(np.uint8)
        embeddings = codes[instances[..., ::4, ::4]] + 1.5 * rng.normal(size=(1, 3, cells, cells, 16))
        made.append(({"embeddings": embeddings.astype(np.float32)}, {"instances": instances}))
    return made


@pytest.mark.parametrize(("family", "patience"), [("standard", 0.0), ("paper-2605.28132", 0.0), ("standard", 0.02)])
def test_processes_give_the_same_bits_in_the_same_order(family: str, patience: float) -> None:
    scenes = _scenes(7)
    protocol = get_protocol("grouping", family=family)
    assert protocol.holds_lock
    with threadpool_limits(1, "blas"):
        alone = [protocol.score_scene(*scene) for scene in scenes]
    assert len({str(statistics) for statistics in alone}) > 3
    together = list(Processes(patience).starmap(protocol.score_scene, scenes))
    for one, other in zip(alone, together, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert value.dtype == other[name].dtype
            assert value.tobytes() == other[name].tobytes(), name


def _process(_: int) -> int:
    return os.getpid()


def _threads(_: int) -> set[int]:
    np.ones((64, 64)) @ np.ones((64, 64))
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_processes_have_one_core_each_for_their_matrices() -> None:
    assert list(Processes(patience=0).starmap(_threads, [(0,), (1,)])) == [{1}, {1}]


def test_little_work_and_one_core_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [(k,) for k in range(4)]
    assert set(Processes().starmap(_process, items)) == {os.getpid()}
    assert os.getpid() not in set(Processes(patience=0).starmap(_process, items))
    monkeypatch.setenv(JOBS, "1")
    assert set(Processes(patience=0).starmap(_process, items)) == {os.getpid()}


def _nested(queue: multiprocessing.Queue[list[bool]]) -> None:
    queue.put([pid == os.getpid() for pid in Processes(patience=0).starmap(_process, [(0,), (1,)])])


def test_a_daemonic_process_has_no_children() -> None:
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[list[bool]] = context.Queue()
    child = context.Process(target=_nested, args=(queue,), daemon=True)
    child.start()
    assert queue.get(timeout=60) == [True, True]
    child.join(60)


def test_what_a_process_raises_is_raised_here() -> None:
    scenes = _scenes(3)
    scenes[1][0]["embeddings"][0, 0, 0, 0, 0] = np.nan
    results = Processes(patience=0).starmap(get_protocol("grouping").score_scene, scenes)
    with pytest.raises(InputError, match="embeddings hold NaN"):
        list(results)
    assert set(Processes(patience=0).starmap(_process, [(0,)])) != {os.getpid()}  # and work goes on


def _killed(k: int) -> int:
    if k == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return k


def test_a_killed_process_is_an_error_with_a_remedy() -> None:
    with pytest.raises(EvaluateError, match=f"killed.*{JOBS}, below 2"):
        list(Processes(patience=0).starmap(_killed, [(0,), (1,), (2,)]))
    assert list(Processes(patience=0).starmap(_killed, [(0,), (2,)])) == [0, 2]


# No `if __name__ == "__main__"`: a user's script need not have one.
_SCRIPT = """
import os, sys, time
from evaluate.parallel import Processes
print("children", *set(Processes(patience=0).starmap(os.getpgid, [(0,)] * 2)), flush=True)
print("ready", flush=True)
list(Processes(patience=0).starmap(time.sleep, [(60,)] * 8))
"""


def test_an_interrupted_script_ends_with_all_its_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as child:
        assert child.stdout is not None
        assert [next(child.stdout).split()[0] for _ in range(2)] == ["children", "ready"]
        time.sleep(1)
        os.killpg(child.pid, signal.SIGINT)
        assert child.wait(60) == -signal.SIGINT
        assert child.stdout.read() == ""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(child.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("processes are left")


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_a_number_of_cores_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOBS, text)
    with pytest.raises(EvaluateError, match=f"{JOBS} must be a whole number"):
        cores()


def test_all_cores_of_the_process_are_used_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores() == 2
    monkeypatch.delenv(JOBS)
    assert cores() == len(os.sched_getaffinity(0))
    assert in_threads(abs, [-3, 2, -1]) == [3, 2, 1]
