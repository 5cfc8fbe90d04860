"""Writing clips: shards first, then the commit, in background threads while the next clip is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.arrays import ArrayInfo, load_arrays, shard_path
from store.clips import ClipRow, load_clips
from store.commits import ShardRecord, write_commit
from store.dtypes import to_logical, to_physical
from store.errors import ArrayValueError, UnknownArrayError
from store.files import write_atomic
from store.layout import Layout
from store.shard import encode_shard


class StoreWriter:
    """Writes clips into a store made by `store.create`. Any number of writers may work on one store.

    `put` returns once the values are checked and queued; at most `pending` clips wait. An error of a background write
    is raised by the next `put` or by leaving the `with` block. Nothing is committed unless all its shards are on disk.

    Args:
        path: directory of the store.
        threads: background writers; fsync waits, so more than one helps.
        pending: clips that may wait in memory.
    """

    def __init__(self, path: Path, *, threads: int = 2, pending: int = 2) -> None:
        self._layout = Layout(path)
        self._arrays = load_arrays(self._layout.group)
        self._clips = load_clips(self._layout.clips)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store-writer")
        self._limit = pending
        self._queue: deque[Future[None]] = deque()
        self.bytes_written = 0

    def put(self, row: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Queue one clip.

        Args:
            row: row of the clip table.
            values: array name -> values of the clip. Framed arrays have one entry per bank frame of the clip.
                Floating-point arrays may come in any floating-point type; they are cast and checked here.

        Raises:
            UnknownArrayError: no such array.
            ArrayValueError: wrong shape, NaN, infinity, or overflow of the type on disk. Nothing is written.
        """
        clip = self._clips[row]
        encoded = {name: self._check(clip, name, array) for name, array in values.items()}
        while len(self._queue) >= self._limit:
            self._queue.popleft().result()
        self._queue.append(self._pool.submit(self._write, clip, encoded))

    def flush(self) -> None:
        """Wait until everything queued is committed. Raises the first error of a background write."""
        while self._queue:
            self._queue.popleft().result()

    def close(self) -> None:
        """Flush and stop the threads."""
        try:
            self.flush()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:  # finish what is queued, but let the first error speak
            self._pool.shutdown(wait=True)

    def _check(self, clip: ClipRow, name: str, values: NDArray[Any]) -> tuple[ArrayInfo, NDArray[Any]]:
        if name not in self._arrays:
            raise UnknownArrayError(f"{self._layout.group}: has no array {name!r}. It has: {', '.join(self._arrays)}.")
        info = self._arrays[name]
        expected = (len(clip.bank), *info.shape[2:]) if info.framed else info.shape[1:]
        where = f"clip {clip.id} (row {clip.row}), array {name}"
        if values.shape != expected:
            raise ArrayValueError(f"{where}: got shape {values.shape}, expected {expected}.")
        already = info.dtype == "bfloat16" and values.dtype == np.uint16
        return info, np.ascontiguousarray(values) if already else to_physical(values, info.dtype, where)

    def _write(self, clip: ClipRow, arrays: Mapping[str, tuple[ArrayInfo, NDArray[Any]]]) -> None:
        records = {}
        for name, (info, values) in arrays.items():
            shard = encode_shard(values, info)
            write_atomic(shard_path(self._layout.group, name, clip.row, len(info.shape)), shard.buffers)
            records[name] = _record(shard.size, shard.digest, to_logical(values, info.dtype))
            self.bytes_written += shard.size
        write_commit(self._layout.commits, clip.row, clip.id, len(clip.bank), records)


def _record(size: int, digest: str, values: NDArray[Any]) -> ShardRecord:
    wide = values.astype(np.float32) if values.dtype == np.float16 else values
    return ShardRecord(
        size=size,
        xxh3_128=digest,
        minimum=float(wide.min()),
        maximum=float(wide.max()),
        mean=float(wide.mean(dtype=np.float64)),
        std=float(wide.std(dtype=np.float64)),
    )
