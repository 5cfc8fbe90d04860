"""kill -9 at any moment: what was committed is there and right, and the same command goes on to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import pytest

from store import FeatureStore, find_stores
from tests.store.processes import CONTEXT, start
from tests.store.truth import assert_same_store, is_partial, readings, whole
from tests.store.workers import extraction, extraction_that_dies

PROJECT = Path(__file__).parents[2]
CLIPS = 20
LONG = (pytest.mark.long, pytest.mark.timeout(900))


def assert_all_committed_is_right(path: Path, truth: Path) -> int:
    """Every committed clip reads as in the undisturbed store, every checksum compared. Returns how many there are."""
    if not (path / "recipe.json").exists():
        return 0
    found, expected = readings(path), readings(truth)
    for row, arrays in found.items():
        assert arrays.keys() == expected[row].keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, expected[row][name], strict=True)
    return len(found)


def assert_shards_are_whole(path: Path, truth: Path) -> None:
    """No shard has its name before all of it is there, committed or not."""
    for shard in path.glob("features.zarr/*/c.*"):
        assert shard.read_bytes() == (truth / shard.relative_to(path)).read_bytes(), shard


def assert_only_drafts_are_left(path: Path, truth: Path) -> None:
    """Beside what the undisturbed store has, there are only `.….partial`, at commits and tables of other names."""
    names = {file.relative_to(path) for file in path.rglob("*") if file.is_file()}
    others = names - {file.relative_to(truth) for file in truth.rglob("*")}
    surplus = [name for name in others if name.parts[0] != "commits" and name.suffix != ".table"]
    assert all(is_partial(name) for name in surplus), surplus
    assert all(is_partial(Path(sibling.name)) for sibling in path.parent.iterdir() if sibling != path)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    whole(tmp_path / "truth" / "known", CLIPS)
    return tmp_path / "truth" / "known"


@pytest.mark.parametrize("moments", [8, pytest.param(None, marks=LONG)])
def test_a_process_killed_between_any_two_steps_loses_nothing(moments: int | None, tmp_path: Path) -> None:
    clips = 2
    truth = tmp_path / "truth" / "known"
    whole(truth, clips)
    receiver, sender = CONTEXT.Pipe(duplex=False)
    undisturbed = tmp_path / "undisturbed" / "known"
    start(extraction_that_dies, undisturbed, clips, -1, sender).join()
    assert_same_store(undisturbed, truth)
    names = receiver.recv()
    chosen = list(range(len(names)))
    if moments is not None:  # half of them in the middle of a write
        amid = [moment for moment in chosen if names[moment] == "amid"]
        places = [np.linspace(0, len(among) - 1, moments // 2, dtype=int) for among in (chosen, amid)]
        chosen = [among[at] for among, ats in zip((chosen, amid), places, strict=True) for at in ats]
    held = []
    for moment in sorted(chosen):
        path = tmp_path / str(moment) / "known"
        victim = start(extraction_that_dies, path, clips, moment, sender)
        victim.join()
        assert victim.exitcode == -signal.SIGKILL, moment
        held.append(assert_all_committed_is_right(path, truth))
        assert_shards_are_whole(path, truth)
        survivor = start(extraction, path, clips, range(clips))
        survivor.join()
        assert survivor.exitcode == 0, moment
        assert_same_store(path, truth)
        assert_only_drafts_are_left(path, truth)
    assert held == sorted(held)
    assert set(held) == {0, 1, 2}


@pytest.mark.parametrize("kills", [8, pytest.param(150, marks=LONG)])
def test_two_writers_killed_at_random_moments_end_in_the_same_bits(kills: int, truth: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shared = range(0, CLIPS, 5)
    shares = [sorted({*range(start, CLIPS, 2), *shared}) for start in (0, 1)]
    killed, runs = 0, 0
    while killed < kills:
        path = tmp_path / f"run{runs}" / "known"
        runs += 1
        codes, patience = [-signal.SIGKILL], 0.2
        while any(codes):
            writers = [start(extraction, path, CLIPS, rng.permutation(share).tolist()) for share in shares]
            wait([writer.sentinel for writer in writers], timeout=rng.uniform(0, patience))
            patience *= 1.1  # on a slow machine, too, they are done some day
            for victim in rng.permutation(2)[: rng.integers(1, 3)]:
                writers[victim].kill()
            for writer in writers:
                writer.join()
            codes = [writer.exitcode for writer in writers]
            assert set(codes) <= {0, -signal.SIGKILL}
            killed += codes.count(-signal.SIGKILL)
            assert_all_committed_is_right(path, truth)
            assert_shards_are_whole(path, truth)
        assert_same_store(path, truth)
        assert_only_drafts_are_left(path, truth)


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "extract", "--dataset", "rooms", *options]


@pytest.mark.parametrize(
    ("model", "clips", "kills"),
    [
        ("pixels", 3, 2),
        pytest.param("pixels", 8, 8, marks=LONG),
        pytest.param("position", 8, 8, marks=LONG),
    ],
)
def test_the_command_that_extracts_survives_kills(
    model: str, clips: int, kills: int, store_root: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    options = "--model", model, "--store-dtype", "int8-channel", "--limit", str(clips)
    elsewhere = tmp_path / "elsewhere"
    whole = subprocess.Popen(command(*options), cwd=PROJECT, env={**os.environ, "FEATURE_STORE": str(elsewhere)})
    codes = []
    # Half of the moments lie in the targets, which are written first, half in the features.
    for moment in np.linspace(1, 2 * clips - 1, kills).astype(int):
        victim = subprocess.Popen(command(*options), cwd=PROJECT, stderr=subprocess.PIPE, text=True)
        while victim.poll() is None and len(list(store_root.glob("*/rooms/commits/*.json"))) < moment:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        victim.kill()
        _, told = victim.communicate()
        codes.append(victim.returncode)
        assert codes[-1] in (0, -signal.SIGKILL), told
        for path in find_stores(store_root):
            readings(path)
    assert -signal.SIGKILL in codes
    subprocess.run(command(*options), cwd=PROJECT, check=True)
    assert whole.wait() == 0
    stores = list(find_stores(elsewhere))
    assert [path.parent.name for path in stores] == [model, "targets"]
    for path in stores:
        other = store_root / path.relative_to(elsewhere)
        assert FeatureStore.open(other).rows() == list(range(clips))
        assert_same_store(other, path)
        assert_only_drafts_are_left(other, path)
