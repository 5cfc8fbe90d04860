"""Who is at work on which clip: files that show signs of life, so that several writers share the work of one store.

A claim is a hint and nothing else. Whoever ignores it, or takes one over too early, computes a clip that another
computes as well; what is published stays right, since a shard is written once and a clip exists by its commit alone.

Signs of life are changes of a claim's time stamp, seen by a watch of our own: no two clocks are compared, so that one
that is wrong, or jumps, can neither keep a dead claim alive nor end a living one.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import threading
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import NamedTuple

from store.commits import COMMITS

log = logging.getLogger(__name__)

BEAT = 10.0
"""Seconds between signs of life."""
EXPIRY = 150.0
"""Seconds without a sign of life after which a claim counts for nothing; NFS shows a change up to 60 seconds late."""
_NAME = ".claim-{row:06d}.000000000000.partial"  # as drafts are named, so that tools pass over it and `gc` removes it
_PATTERN = re.compile(r"\.claim-([0-9]{6,12})\.0{12}\.partial")


_LIVING: set[str] = set()
"""What is claimed in this process, by whom."""


class Holder(NamedTuple):
    """Who made a claim: host, process, what tells one start and one container of the host from another, and a nonce."""

    host: str
    process: int
    boot: str
    nonce: str

    def __str__(self) -> str:
        return f"{self.host}-{self.process}"


class Claims:
    """The rows that this process is at work on, in one store, kept alive by a thread while there are any.

    As a context manager it gives all of them back at the end.

    Args:
        path: directory of the store.
        beat, expiry: seconds; see `BEAT` and `EXPIRY`.
    """

    def __init__(self, path: Path, *, beat: float = BEAT, expiry: float = EXPIRY) -> None:
        self._folder, self._beat, self._expiry = path / COMMITS, beat, expiry
        self._me = Holder(socket.gethostname(), os.getpid(), _boot(), uuid.uuid4().hex)
        _LIVING.add(self._me.nonce)
        self._held: set[int] = set()
        self._seen: dict[int, tuple[int, float]] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, row: int) -> bool:
        """Claim a row. Returns `False` if another process is at work on it, and shows that it is alive.

        Where no claim can be made, on a read-only or a strange file system, every row is ours.
        """
        path = self._path(row)
        for _ in range(2):
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            except FileExistsError:
                if self._is_alive(row):
                    return False
                with suppress(OSError):
                    path.unlink()
                continue
            except OSError as error:
                log.debug("%s: no claim can be made (%s)", path, error)
                return True
            with suppress(OSError), os.fdopen(descriptor, "w") as file:  # on a full disk it says nothing, but it lives
                json.dump(self._me._asdict(), file)
            with self._lock:
                self._held.add(row)
            self._start()
            return True
        return False

    def release(self, row: int) -> None:
        """Give a row back; nothing happens if it is not ours."""
        with self._lock:
            if row not in self._held:
                return
            self._held.discard(row)
        with suppress(OSError):
            self._path(row).unlink()

    def holder(self, row: int) -> Holder | None:
        """Who claims a row; `None` if nobody does."""
        with suppress(OSError, ValueError, TypeError):
            return Holder(**json.loads(self._path(row).read_bytes()))
        return None

    @staticmethod
    def rows_in(path: Path) -> set[int]:
        """All rows of the store in directory `path` that anybody claims, alive or not."""
        with suppress(OSError), os.scandir(path / COMMITS) as entries:
            return {int(match[1]) for entry in entries if (match := _PATTERN.fullmatch(entry.name))}
        return set()

    @staticmethod
    def drop(path: Path, rows: Iterable[int]) -> None:
        """Take away claims on rows of the store in directory `path`, whose holder is known to be dead."""
        for row in rows:
            with suppress(OSError):
                (path / COMMITS / _NAME.format(row=row)).unlink()

    def close(self) -> None:
        """Give everything back."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        for row in list(self._held):
            self.release(row)
        _LIVING.discard(self._me.nonce)

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _path(self, row: int) -> Path:
        return self._folder / _NAME.format(row=row)

    def _is_alive(self, row: int) -> bool:
        """Whether a claim has changed of late, as far as we have watched it. The dead of this machine are known."""
        try:
            stamp = self._path(row).stat().st_mtime_ns
        except OSError:
            return False
        holder = self.holder(row)
        if holder is not None and self._is_dead(holder):
            return False
        now = monotonic()
        known, since = self._seen.get(row, (None, now))
        if known != stamp:
            self._seen[row] = stamp, now
            return True
        return now - since <= self._expiry

    def _is_dead(self, holder: Holder) -> bool:
        if (holder.host, holder.boot) != (self._me.host, self._me.boot):
            return False  # nobody here can tell
        if holder.process == self._me.process:
            return holder.nonce not in _LIVING
        try:
            os.kill(holder.process, 0)
        except ProcessLookupError:
            return True
        except OSError:  # alive, and another user's
            return False
        return False

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._live, name="claims", daemon=True)
            self._thread.start()

    def _live(self) -> None:
        while not self._over.wait(self._beat):
            with self._lock:
                held = list(self._held)
            for row in held:
                with suppress(OSError):  # taken over while we were asleep: both compute the clip, and one is published
                    os.utime(self._path(row))


def _boot() -> str:
    """What tells one start of this host, or one container on it, from another; empty where nothing does."""
    parts = []
    for source in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with suppress(OSError):
            parts.append(os.readlink(source) if source.endswith("pid") else Path(source).read_text().strip())
    return " ".join(parts)
