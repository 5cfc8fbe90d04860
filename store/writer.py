"""Writing clips: shards first, then the commit, in background threads while the next clip is computed."""

from __future__ import annotations

import errno
import logging
import os
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from store.arrays import ArrayInfo
from store.casting import absmax_scale, quantise, to_physical
from store.catalogue import load_arrays
from store.clips import CLIPS, ClipRow, load_clips
from store.commits import write_commit
from store.digest import digest_file
from store.errors import ArrayValueError, CorruptShardError, MissingClipError, StoreError, UnknownArrayError
from store.fallback import read_whole
from store.files import write_atomic, write_once
from store.folder import LocalFolder, LocalShard
from store.head import load_head
from store.manifest import load_manifest
from store.records import ShardRecord
from store.shard import EncodedShard, OpenShard, encode_shard
from store.statistics import statistics

log = logging.getLogger(__name__)

Timed = Callable[[str, str], AbstractContextManager[None]]
"""Called with what is done (`check`, `wait for the writer`, `write`) and the clip's id; around it."""


class StoreWriter:
    """Writes clips into a store made by `store.create`. Any number of writers may work on one store, also on one row.

    `put` returns once the values are checked and queued; at most `pending` clips wait. An error of a background write
    is raised by the next `put` or by leaving the `with` block. Nothing is committed unless all its shards are on disk.

    A shard that is published never changes. If another writer was first, its shard is the one that is committed, and
    ours is dropped: a clip computed twice on hardware that does not repeat itself to the bit is still one valid clip.

    Args:
        path: directory of the store.
        threads: background writers; fsync waits, so more than one helps.
        pending: clips that may wait in memory.
        committed: is called with each row once it is on disk, or cannot be written; in a background thread.
        timed: is entered around what takes time; in whichever thread does it.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 3,
        pending: int = 3,
        committed: Callable[[int], None] | None = None,
        timed: Timed | None = None,
    ) -> None:
        self._path, self._folder, self._committed = path, LocalFolder(path), committed
        self._timed = timed or _untimed
        head = load_head(self._folder)
        self._clips = load_clips(self._folder, head.files.get(CLIPS))
        merged = load_manifest(self._folder, head.recipe.fingerprint, len(self._clips))
        # Commits say nothing that a writer needs, and there may be thousands.
        self._arrays = load_arrays(self._folder, merged.manifest if merged else None, (), self._clips)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store-writer")
        self._limit = pending
        self._queue: deque[Future[None]] = deque()
        self.bytes_written = 0

    def put(self, row: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Queue one clip.

        Args:
            row: row of the clip table.
            values: array name -> values of the clip. Framed arrays have one entry per bank frame of the clip.
                Floating-point arrays may come in any floating-point type; they are cast and checked here. Do not
                change an array that was put before `flush`: it may not have been copied.

        Raises:
            UnknownArrayError: no such array.
            ArrayValueError: no such row, wrong shape, NaN, infinity, or overflow of the type on disk. Nothing is
                written.
        """
        if not 0 <= row < len(self._clips):
            raise ArrayValueError(f"{self._path}: got row {row}, the clip table has {len(self._clips)} clips.")
        clip = self._clips[row]
        with self._timed("check", clip.id):
            checked = {name: self._check(clip, name, array) for name, array in values.items()}
        self._wait(self._limit - 1, clip.id)
        self._queue.append(self._pool.submit(self._write, clip, checked))

    def flush(self) -> None:
        """Wait until everything queued is committed. Raises the first error of a background write."""
        self._wait(0)

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

    def _wait(self, left: int, clip: str = "") -> None:
        """Until so many clips are left in the queue."""
        if len(self._queue) <= left:
            return
        with self._timed("wait for the writer", clip):
            while len(self._queue) > left:
                self._queue.popleft().result()

    def _check(self, clip: ClipRow, name: str, values: NDArray[Any]) -> NDArray[Any]:
        if name not in self._arrays:
            raise UnknownArrayError(f"{self._path}: has no array {name!r}. It has: {', '.join(self._arrays)}.")
        info = self._arrays[name]
        expected = (len(clip.bank), *info.shape[2:]) if info.framed else info.shape[1:]
        where = f"clip {clip.id} (row {clip.row}), array {name}"
        if values.shape != expected:
            raise ArrayValueError(f"{where}: got shape {values.shape}, expected {expected}.")
        if not values.flags.writeable:
            values = values.copy()  # torch warns of what it may not write to
        return to_physical(values, info.dtype, where)

    def _write(self, clip: ClipRow, arrays: Mapping[str, NDArray[Any]]) -> None:
        try:
            with self._timed("write", clip.id):
                self._commit(clip, arrays)
        finally:
            if self._committed is not None:
                self._committed(clip.row)

    def _commit(self, clip: ClipRow, arrays: Mapping[str, NDArray[Any]]) -> None:
        records = {}
        for name, values in arrays.items():
            info = self._arrays[name]
            if info.scale is None:
                records[name] = self._publish(clip, info, values)
                continue
            # The scale goes first, and whoever comes second quantises by the one that is there.
            scale = absmax_scale(values)
            records[info.scale] = self._publish(clip, self._arrays[info.scale], scale)
            scale = self._read(clip, self._arrays[info.scale])
            records[name] = self._publish(clip, info, quantise(values, scale), scale)
        metadata = {name: self._arrays[name].digest for name in records}
        write_commit(self._folder, clip.row, clip.id, len(clip.bank), records, metadata)

    def _publish(
        self, clip: ClipRow, info: ArrayInfo, values: NDArray[Any], scale: NDArray[np.float32] | None = None
    ) -> ShardRecord:
        """Put the shard in its place, or take the one that another writer put there. Returns what is there."""
        shard = encode_shard(values, info)
        path = self._path / info.shard(clip.row)
        while not write_once(path, shard.buffers):
            try:
                with suppress(PermissionError):  # it may be old and unclaimed: `gc` goes by age, and must see it wanted
                    os.utime(path, follow_symlinks=False)
                theirs = self._read(clip, info)
                found = EncodedShard([], path.stat().st_size, digest_file(path))
                adopted = _record(found, theirs, info, scale)
            except FileNotFoundError:  # taken back since
                continue
            except (CorruptShardError, MissingClipError, OSError, ValidationError) as error:  # or not a finite number
                _check_damaged(error, path)
                log.warning("%s: replaced, since what was there is damaged (%s)", path, error)
                write_atomic(path, shard.buffers)
                break
            if found.digest == shard.digest:
                break
            log.info("%s: another writer was first; its values are kept", path)
            return adopted
        self.bytes_written += shard.size
        return _record(shard, values, info, scale)

    def _read(self, clip: ClipRow, info: ArrayInfo) -> NDArray[Any]:
        """What is published of a clip, every checksum compared."""
        path = self._path / info.shard(clip.row)
        shard = OpenShard(LocalShard(path), info, str(path))
        held = len(clip.bank)
        if not info.direct:
            return read_whole(shard, info, clip.row, held)
        out = np.empty((held, *info.shape[2:]) if info.framed else info.shape[1:], info.physical)
        shard.read(range(held) if info.framed else (0,), out if info.framed else out[None], verify=True)
        return out


def _untimed(what: str, clip: str) -> AbstractContextManager[None]:
    return nullcontext()


def _check_damaged(error: Exception, path: Path) -> None:
    """Raise unless the shard is damaged: one that cannot be read now may be sound, and must not be replaced."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError) and cause.errno not in (errno.ELOOP, errno.EINVAL):  # a link, or no file at all
        raise StoreError(f"{path}: is there, but cannot be read ({cause.strerror}). Check the disk.") from error


def _record(
    shard: EncodedShard, values: NDArray[Any], info: ArrayInfo, scale: NDArray[np.float32] | None
) -> ShardRecord:
    found = statistics(values, info.dtype, scale)
    return ShardRecord(size=shard.size, xxh3_128=shard.digest, **found._asdict())
