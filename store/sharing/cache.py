"""The cache of shards: whole files on a local disk, found by the digest of their content, least recently used dropped.

`<place>/<first two digits>/<digest>`; a download in progress is `.<digest>.<random>.<size>.partial` beside it. The time
of last use is the file's modification time, set by us: access times depend on how the disk is mounted. Any number of
threads and processes may use one place: a file appears whole by a rename, and one that is dropped while somebody reads
it stays readable for them.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import time
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from store.digest import DIGEST_PATTERN, digest_file
from store.errors import FormatError, StoreError
from store.folder import LocalShard
from store.records import FileRecord
from store.sharing.room import entries, locked, make_room
from store.sharing.trouble import damaged
from store.sizes import show_size

log = logging.getLogger(__name__)

_DOWNLOADS = 2
"""A flaky connection deserves a second chance; bytes that are wrong twice are wrong at the source."""

Download = Callable[[Path], None]
"""Writes a whole shard into a file that exists, replacing what it holds."""


class NoRoomError(StoreError):
    """A shard cannot be kept: it is larger than the cache, or the disk is full."""


class ShardCache:
    """Whole shards on a local disk, at most `max_bytes` of them.

    Several processes that fill one cache at once may exceed the bound by a sixteenth until the next of them looks.

    Args:
        path: folder of the cache; made when the first shard arrives.
        max_bytes: bound on the sum of all files.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path, self.max_bytes = path, max_bytes

    def __repr__(self) -> str:
        return f"ShardCache({str(self.path)!r}, {show_size(self.max_bytes)})"

    def open(self, record: FileRecord, download: Download, where: str) -> LocalShard:
        """Open the shard, downloading it first if it is not here.

        Threads that ask for the same shard at the same time share one download.

        Args:
            record: size and digest of the shard.
            download: writes the shard into the file it is given.
            where: the shard's address, for messages.

        Raises:
            NoRoomError: it cannot be kept; nothing was downloaded, or what was is gone again.
            CorruptShardError: what arrives is not what the record says; nothing of it is kept.
            StoreError: the cache's folder cannot be written, or whatever `download` raises.
        """
        _check_digest(record, where)
        state = self._state
        while True:
            if (shard := self._held(record)) is not None:
                return shard
            with state.lock:
                mine = record.xxh3_128 not in state.arriving
                arriving = state.arriving.setdefault(record.xxh3_128, Future())
            if not mine:
                with suppress(CancelledError):
                    return arriving.result()
                continue
            try:
                # It may have arrived between the first look and this thread's turn.
                arriving.set_result(self._held(record) or self._fetch(record, download, where))
            except Exception as error:
                arriving.set_exception(error)
            except BaseException:  # this thread alone is stopped; those that wait try for themselves
                arriving.cancel()
                raise
            finally:
                with state.lock:
                    del state.arriving[record.xxh3_128]
            return arriving.result()

    def forget(self, record: FileRecord) -> None:
        """Drop one shard, for instance because its bytes turned out to be damaged."""
        _check_digest(record, str(self.path))
        self._place(record).unlink(missing_ok=True)

    def held_bytes(self) -> int:
        """Bytes of everything in the cache, downloads in progress included."""
        return sum(entry.size for entry in entries(self.path))

    def warn_once(self, about: str, message: str) -> None:
        """Log a warning about this cache, once in the life of a process."""
        with self._state.lock:
            if about in self._state.warned:
                return
            self._state.warned.add(about)
        log.warning("%s", message)

    def _held(self, record: FileRecord) -> LocalShard | None:
        path = self._place(record)
        try:
            shard = LocalShard(path)
            if shard.size != record.size:
                path.unlink(missing_ok=True)
                return None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        # A cache of a colleague may be readable only. And a file that was just dropped needs no date.
        with suppress(PermissionError, FileNotFoundError):
            os.utime(path, ns=(now := time.time_ns(), now))
        self._state.used[record.xxh3_128] = record.size
        return shard

    def _fetch(self, record: FileRecord, download: Download, where: str) -> LocalShard:
        if record.size > self.max_bytes:
            raise NoRoomError(f"{where}: has {show_size(record.size)}, the cache holds {show_size(self.max_bytes)}")
        try:
            partial = self._reserve(record, where)
            try:
                _download(record, download, where, partial)
                # Opened before it can be dropped again by another process that needs the room.
                shard = LocalShard(partial)
                with self._state.looking, locked(self.path):  # whoever counts now must not miss it under both names
                    os.rename(partial, self._place(record))
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoRoomError(f"{where}: the disk of the cache at {self.path} is full") from error
            raise self._unusable(error) from error
        self._state.used[record.xxh3_128] = record.size
        return shard

    def _reserve(self, record: FileRecord, where: str) -> Path:
        """An empty partial file whose name takes up the room of the shard, which was made free before.

        Looking at every file is slow where shards are many and small. So one look serves until a sixteenth of the room
        that it found is used up.
        """
        folder = self._place(record).parent
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{record.xxh3_128}.{uuid.uuid4().hex[:12]}.{record.size}.partial"
        state = self._state
        with state.looking, locked(self.path):
            if record.size > state.room:
                room, dropped = make_room(self.path, record.size, self.max_bytes)
                self._warn_if_used(dropped, record)
                if room < record.size:
                    raise NoRoomError(
                        f"{where}: the cache at {self.path} ({show_size(self.max_bytes)}) is full of shards that are "
                        "just arriving, or that others own"
                    )
                state.room = record.size + (room - record.size) // 16
            state.room -= record.size
            partial.touch(exist_ok=False)
        return partial

    def _warn_if_used(self, dropped: list[str], record: FileRecord) -> None:
        used = {**self._state.used, record.xxh3_128: record.size}
        if not used.keys().isdisjoint(dropped):
            self.warn_once(
                "too small",
                f"The shards read so far ({show_size(sum(used.values()))}) do not fit the cache at {self.path} "
                f"({show_size(self.max_bytes)}): those read longest ago are dropped, and every further epoch "
                "downloads them again. Set FEATURE_CACHE_SIZE to more, or copy the store to this machine.",
            )

    def _place(self, record: FileRecord) -> Path:
        return self.path / record.xxh3_128[:2] / record.xxh3_128

    def _unusable(self, error: OSError) -> StoreError:
        return StoreError(
            f"{error.filename or self.path}: the cache of shards cannot be used ({error.strerror}). Check its "
            "permissions, name another folder with FEATURE_CACHE, or do without: FEATURE_CACHE_SIZE=0."
        )

    @property
    def _state(self) -> _State:
        # A forked child must not wait for downloads that only its parent knows.
        return _STATES.setdefault((os.getpid(), str(self.path)), _State())


@dataclass
class _State:
    """What one process knows of one place.

    Attributes:
        lock: guards `arriving` and `warned`.
        looking: held by the thread that makes room.
        arriving: digest -> the download that other threads wait for.
        used: digest -> size of what this process opened.
        room: bytes that may be added before the files must be looked at again.
        warned: what this process has been told already.
    """

    lock: Lock = field(default_factory=Lock)
    looking: Lock = field(default_factory=Lock)
    arriving: dict[str, Future[LocalShard]] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    room: int = 0
    warned: set[str] = field(default_factory=set)


_STATES: dict[tuple[int, str], _State] = {}


def _check_digest(record: FileRecord, where: str) -> None:
    """The digest becomes a file name here, and records may have been made without any check."""
    if not re.fullmatch(DIGEST_PATTERN, record.xxh3_128):
        raise FormatError(
            f"{where}: {record.xxh3_128!r} is no xxh3_128 of 32 hexadecimal digits. Restore the commit from a copy."
        )


def _download(record: FileRecord, download: Download, where: str, partial: Path) -> None:
    found = ""
    for _ in range(_DOWNLOADS):
        download(partial)
        size = partial.stat().st_size
        if size != record.size:
            found = f"has {size} bytes, committed were {record.size}"
        elif (digest := digest_file(partial)) != record.xxh3_128:
            found = f"has the digest {digest}, committed was {record.xxh3_128}"
        else:
            _sync(partial)
            return
    raise damaged(where, found)


def _sync(path: Path) -> None:
    """After power loss, a rename may outlive the content of the file that was renamed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
