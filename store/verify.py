"""Checking a store: does every committed shard have the committed size, and on request the committed digest?"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import xxhash

from store.arrays import shard_path
from store.commits import ShardRecord, load_commits
from store.feature_store import FeatureStore


@dataclass(frozen=True)
class BadShard:
    """A committed shard that is not what was committed."""

    row: int
    array: str
    path: Path
    problem: str


def verify(store: FeatureStore, *, deep: bool = False, threads: int = 4) -> Iterator[BadShard]:
    """All bad shards of the store, in row order. `deep` reads every byte and compares digests; else sizes only."""
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
        if deep and file_digest(path) != record.xxh3_128:
            return BadShard(row, name, path, "its content differs from what was committed")
        return None

    with ThreadPoolExecutor(threads) as pool:
        yield from (bad for bad in pool.map(check, work) if bad is not None)


def drop(store: FeatureStore, bad: list[BadShard]) -> int:
    """Un-commit the clips that have bad shards, so that the next extraction refills them. Returns how many clips."""
    rows = {shard.row for shard in bad}
    for path in store.layout.commits.glob("*.json"):
        if int(path.name.split("-")[0]) in rows:
            path.unlink()
    store.layout.manifest.unlink(missing_ok=True)  # it lists the dropped clips; `finalize` writes it again
    load_commits(store.layout.commits)
    return len(rows)


def file_digest(path: Path) -> str:
    """xxh3_128 of a file."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
