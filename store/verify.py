"""Checking a store: does every committed shard have the committed size, and on request the committed digest?"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import xxhash

from store.arrays import shard_path
from store.commits import Commit, ShardRecord
from store.feature_store import FeatureStore


@dataclass(frozen=True)
class BadShard:
    """A committed shard that is not what was committed. Row -1: not a shard but a file that the store needs."""

    row: int
    array: str
    path: Path
    problem: str


def verify(store: FeatureStore, *, deep: bool = False, threads: int = 4) -> Iterator[BadShard]:
    """All bad shards of the store, in row order. `deep` reads every byte and compares digests; else sizes only."""
    for path in (store.layout.commits, store.layout.group / "zarr.json"):
        if not path.exists():
            yield BadShard(-1, "", path, "missing")
    work = [
        (row, name, record)
        for row, arrays in sorted(store.committed.items())
        for name, record in sorted(arrays.items())
    ]

    def check(item: tuple[int, str, ShardRecord]) -> BadShard | None:
        row, name, record = item
        if name not in store.arrays:
            return BadShard(row, name, store.layout.group / name, "the array's metadata is missing")
        path = shard_path(store.layout.group, name, row, len(store.arrays[name].shape))
        if not path.exists():
            return BadShard(row, name, path, "missing")
        if path.stat().st_size != record.size:
            return BadShard(row, name, path, f"has {path.stat().st_size} bytes, committed were {record.size}")
        try:
            if deep and file_digest(path) != record.xxh3_128:
                return BadShard(row, name, path, "its content differs from what was committed")
        except OSError as error:
            return BadShard(row, name, path, f"cannot be read ({error.strerror})")
        return None

    with ThreadPoolExecutor(threads) as pool:
        yield from (bad for bad in pool.map(check, work) if bad is not None)


def drop(store: FeatureStore, bad: list[BadShard]) -> int:
    """Un-commit the clips that have bad shards, so that the next extraction refills them. Returns how many clips."""
    rows = {shard.row for shard in bad if shard.row >= 0}
    for path in store.layout.commits.glob("*.json"):
        if Commit.model_validate_json(path.read_bytes()).row in rows:
            path.unlink()
    store.layout.manifest.unlink(missing_ok=True)  # it lists the dropped clips; `finalize` writes it again
    return len(rows)


def file_digest(path: Path) -> str:
    """xxh3_128 of a file."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
