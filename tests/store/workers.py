"""What the processes of the tests do: functions of a module that imports nothing that a fork would not survive."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

from store import ArraySpec, FeatureStore
from store.upkeep.finalize import finalize, finalize_if_stale
from store.writer import StoreWriter
from tests.store.truth import check_committed, make, values, write

_STEPS = ("open", "writev", "fsync", "close", "link", "rename", "unlink", "mkdir")


def extraction(path: Path, clips: int, rows: Sequence[int], threads: int = 2) -> None:
    """What `python -m extract` does with a store: create or join, write what is not committed, finalize."""
    make(path, clips)
    store = FeatureStore.open(path)
    with StoreWriter(path, threads=threads) as writer:
        for row in rows:
            if row not in store.committed:
                writer.put(row, values(store.clips[row]))
    finalize_if_stale(path)


def extraction_that_dies(path: Path, clips: int, moment: int, passed: Connection) -> None:
    """`extraction` of one clip, then of one more, and so on: the store is closed anew each time.

    It is killed right before the `moment`-th step that changes a disk, or in the middle of a write. Sends the names of
    all such moments, if it survives them.
    """
    moments = Moments(moment)
    for name in _STEPS:
        setattr(os, name, moments.before(name, getattr(os, name)))
    os.writev = moments.amid(os.writev)
    for row in range(clips):
        extraction(path, clips, range(row + 1), threads=1)
    passed.send(moments.passed)


def overwrite(path: Path, rows: Sequence[int], writer: int, begin: Barrier) -> None:
    """Write rows whoever else writes them, each writer other values; close the store as `python -m extract` does."""
    begin.wait()
    write(path, rows, writer)
    finalize_if_stale(path)


def watch(path: Path, begin: Barrier, end: Event, opened: Connection) -> None:
    """Open the store again and again, and check all that it says is committed. Sends how often it saw how many."""
    begin.wait()
    seen: dict[int, int] = {}
    while True:
        last = end.is_set()
        count = check_committed(path)
        seen[count] = seen.get(count, 0) + 1
        if last:
            opened.send(seen)
            return


def close_often(path: Path, begin: Barrier, end: Event) -> None:
    """Finalize all the time."""
    begin.wait()
    while not end.is_set():
        finalize(FeatureStore.open(path))


def join(path: Path, clips: int, specs: Sequence[ArraySpec], begin: Barrier) -> None:
    """Create the store, or join it, with some arrays."""
    begin.wait()
    make(path, clips, specs)


class Moments:
    """Counts the moments at which a process could be killed, and kills it at one of them, as `kill -9` would."""

    def __init__(self, last: int) -> None:
        self.passed: list[str] = []
        self._last = last

    def pass_one(self, name: str) -> None:
        if len(self.passed) == self._last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed.append(name)

    def before(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.pass_one(name)
            return call(*arguments, **options)

        return wrapped

    def amid(self, writev: Callable[[int, Sequence[memoryview]], int]) -> Callable[[int, Sequence[memoryview]], int]:
        """Writes half of what is to be written first."""

        def wrapped(descriptor: int, buffers: Sequence[memoryview]) -> int:
            content = b"".join(buffers)
            written = writev(descriptor, [memoryview(content)[: len(content) // 2]])
            self.pass_one("amid")
            return written + writev(descriptor, [memoryview(content)[written:]])

        return wrapped
