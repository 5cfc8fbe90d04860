"""Damage of shards and documents is found when they are read. See also test_flips, test_crash and test_disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from store import CorruptShardError, FeatureStore, FormatError, StoreError
from tests.store.conftest import Example


def shard(example: Example, array: str, row: int) -> Path:
    return example.path / FeatureStore.open(example.path).arrays[array].shard(row)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("step", [13, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("array", ["early", "label"])
def test_every_flipped_byte_is_found(filled: Example, array: str, step: int) -> None:
    path = shard(filled, array, 0)
    original = path.read_bytes()
    for position in range(0, len(original), step):
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


def test_too_many_open_files_are_no_damage(filled: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("store.folder.LocalShard", full)
    with pytest.raises(
        StoreError, match=r"The store is sound: let this process open more files \(`ulimit -n"
    ) as caught:
        FeatureStore.open(filled.path).read("early", 0)
    assert not isinstance(caught.value, CorruptShardError)


def test_damaged_tables_are_refused(filled: Example) -> None:
    commit = next((filled.path / "commits").iterdir())
    commit.write_text("{}")
    with pytest.raises(FormatError, match=r"its last member .* does not match.*--drop"):
        FeatureStore.open(filled.path)
    commit.unlink()
    (filled.path / "clips.json").write_text("[]]")
    with pytest.raises(FormatError, match=r"clips\.json: is not the one that recipe\.json names"):
        FeatureStore.open(filled.path)
