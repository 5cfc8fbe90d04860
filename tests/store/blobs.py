"""Shards to fill a cache with, and a source that counts how often it is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from store.digest import digest_bytes
from store.folder import LocalShard
from store.records import FileRecord
from store.sharing.cache import ShardCache
from store.sharing.room import locked


def blob(number: int, size: int = 1000) -> tuple[bytes, FileRecord]:
    content = np.random.default_rng(number).bytes(size)
    return content, FileRecord(size=size, xxh3_128=digest_bytes(content))


class Source:
    """Hands out blobs and counts."""

    def __init__(self, cache: ShardCache) -> None:
        self.cache, self.downloads = cache, 0

    def open(self, number: int, size: int = 1000) -> LocalShard:
        content, record = blob(number, size)
        return self.cache.open(record, self.writing(content), f"far://away/{number}")

    def writing(self, content: bytes) -> Callable[[Path], None]:
        def download(path: Path) -> None:
            self.downloads += 1
            path.write_bytes(content)

        return download

    def holds(self, number: int) -> bool:
        digest = blob(number)[1].xxh3_128
        return (self.cache.path / digest[:2] / digest).exists()


@pytest.fixture(name="source")
def source_of_blobs(tmp_path: Path) -> Source:
    return Source(ShardCache(tmp_path / "cache", 3500))


def content_of(shard: LocalShard) -> bytes:
    content = bytearray(shard.size)
    assert shard.read_into(0, [content]) == shard.size
    return bytes(content)


def taken(cache: ShardCache) -> int:
    """Bytes in the cache at one moment: while files are counted, none is dropped for another."""
    cache.path.mkdir(parents=True, exist_ok=True)
    with locked(cache.path):
        return cache.held_bytes()


def files_in(cache: ShardCache) -> list[str]:
    return sorted(path.name for path in cache.path.rglob("*") if path.is_file() and path.name != "lock")
