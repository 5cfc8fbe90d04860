"""Damage is found, crashes lose at most the clip in flight, and a full disk loses nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from store import CorruptShardError, FeatureStore, FormatError, StorageFullError
from store.upkeep.verify import verify
from store.writer import StoreWriter
from tests.store.conftest import Example


def shard(example: Example, array: str, row: int) -> Path:
    return example.path / FeatureStore.open(example.path).arrays[array].shard(row)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("array", ["early", "label"])
def test_every_flipped_byte_is_found(filled: Example, array: str) -> None:
    path = shard(filled, array, 0)
    original = path.read_bytes()
    for position in range(len(original)):
        flip(path, position)
        store = FeatureStore.open(filled.path)
        with pytest.raises(CorruptShardError, match=str(path)):
            store.read(array, 0)
        path.write_bytes(original)
    assert len(FeatureStore.open(filled.path).read(array, 0)) == 4


def test_missing_and_shortened_shards_are_found(filled: Example) -> None:
    path = shard(filled, "early", 0)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CorruptShardError, match="committed were"):
        FeatureStore.open(filled.path).read("early", 0)
    path.unlink()
    with pytest.raises(CorruptShardError, match="cannot be opened"):
        FeatureStore.open(filled.path).read("early", 0)


def test_damaged_tables_are_refused(filled: Example) -> None:
    commit = next((filled.path / "commits").iterdir())
    commit.write_text("{}")
    with pytest.raises(FormatError, match=r"its last member .* does not match.*--drop"):
        FeatureStore.open(filled.path)
    commit.unlink()
    (filled.path / "clips.json").write_text("[]]")
    with pytest.raises(FormatError, match=r"clips\.json: is not the one that recipe\.json names"):
        FeatureStore.open(filled.path)


WRITER = """
import sys, numpy as np
from pathlib import Path
from store import StoreWriter
with StoreWriter(Path(sys.argv[1])) as writer:
    print("ready", flush=True)
    row = 0
    while True:
        writer.put(row % 3, {"wide": np.full((4 if row % 3 != 1 else 2, 2, 3, 5), float(row), np.float32)})
        row += 1
"""


def test_killed_writers_leave_only_whole_clips(example: Example) -> None:
    example.create()
    rng = np.random.default_rng(0)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(example.path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.05, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        store = FeatureStore.open(example.path)
        for row in store.committed:
            values = store.read("wide", row, verify=True)
            assert (values == values.flat[0]).all()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Path:
    """A file system of 300 kB."""
    mount = tmp_path / "tiny"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield mount  # type: ignore[misc]
    subprocess.run(["umount", str(mount)], check=True)


def test_a_full_disk_loses_nothing(example: Example, tiny_disk: Path) -> None:
    example.create()
    shutil.copytree(example.path, tiny_disk / "toys")
    path = tiny_disk / "toys"
    filler = tiny_disk / "filler"
    with StoreWriter(path, threads=1) as writer:
        writer.put(0, example.values[0])
        writer.flush()
        free = os.statvfs(tiny_disk)
        filler.write_bytes(b"x" * (free.f_bavail * free.f_frsize - 4096))
        writer.put(2, example.values[2])
        with pytest.raises(StorageFullError, match="no room left"):
            writer.flush()
    store = FeatureStore.open(path)
    assert store.rows() == [0]
    assert not list(path.rglob("*.partial"))
    filler.unlink()
    with StoreWriter(path) as writer:
        writer.put(2, example.values[2])
    assert FeatureStore.open(path).rows() == [0, 2]
    assert verify(path, deep=True).bad == []
