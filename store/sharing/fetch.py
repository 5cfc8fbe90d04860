"""Whole shards of a store, here or elsewhere, each compared with its committed digest before anybody sees it."""

from __future__ import annotations

import threading
from pathlib import Path

from store.arrays import ArrayInfo
from store.digest import digest_bytes
from store.errors import CorruptShardError, FormatError
from store.feature_store import FeatureStore
from store.folder import LocalFolder
from store.records import ShardRecord

_REMEDY = (
    "Run `python -m store verify STORE --deep` where the store lies. Nothing of this shard was copied; run the same "
    "command again once it is repaired."
)


class Fetcher:
    """Reads whole shards. Threads may share one; each has a buffer that its next shard overwrites.

    Memory that is used again is several times faster than new memory, which the system has to clear.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._folder, self._arrays = store.folder, store.arrays
        self._own = threading.local()

    def path(self, array: str, row: int) -> Path | None:
        """The file of a shard, if it is on this machine."""
        return self._folder.path / self._arrays[array].shard(row) if isinstance(self._folder, LocalFolder) else None

    def fetch(self, array: str, row: int, record: ShardRecord) -> memoryview:
        """The bytes of a shard, until the same thread asks for the next.

        Raises:
            CorruptShardError: it is missing, or not what was committed.
        """
        info = self._arrays[array]
        name = info.shard(row)
        where = f"{self._folder.url}/{name}"
        if record.size > most_bytes(info):
            raise CorruptShardError(
                f"{where}: {record.size} bytes were committed, a clip of this array has {most_bytes(info)} at most. "
                f"{_REMEDY}"
            )
        content = self._read_local(name, record) if isinstance(self._folder, LocalFolder) else self._read(name, record)
        if len(content) != record.size or digest_bytes(content) != record.xxh3_128:
            raise CorruptShardError(f"{where}: its content differs from what was committed. {_REMEDY}")
        return content

    def _read_local(self, name: str, record: ShardRecord) -> memoryview:
        shard = self._folder.open(name, record)
        content = self._buffer(record.size)
        got = 0
        while got < record.size and (more := shard.read_into(got, [content[got:]])):
            got += more
        return content[:got]

    def _read(self, name: str, record: ShardRecord) -> memoryview:
        """One request for the whole file, which every server can answer."""
        try:
            return memoryview(self._folder.read(name, record.size))
        except (FileNotFoundError, FormatError) as error:
            problem = "is committed, but not there" if isinstance(error, FileNotFoundError) else "is too long"
            raise CorruptShardError(f"{self._folder.url}/{name}: {problem}. {_REMEDY}") from error

    def _buffer(self, size: int) -> memoryview:
        held: memoryview = getattr(self._own, "buffer", memoryview(b""))
        if len(held) < size:
            held = self._own.buffer = memoryview(bytearray(size))
        return held[:size]


def most_bytes(info: ArrayInfo) -> int:
    """The most that a shard of the array can have, chunks that do not compress included."""
    chunk = info.chunk_bytes + info.chunk_bytes // 64 + 1024
    return info.chunks_per_clip * (chunk + 16) + 4
