"""Room in a folder of files that may be fetched again: how much is taken, and what goes when more is needed.

Files lie in folders named by the first two digits of their digest; see `store.sharing.cache` for the names.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_FILE = re.compile(r"[0-9a-f]{32}|\.[0-9a-f]{32}\.[0-9a-f]{12}\.(?P<reserved>\d+)\.partial")
_ABANDONED_SECONDS = 3600
"""A partial file that nothing was written to for so long belongs to a process that is gone."""


@dataclass(frozen=True)
class Entry:
    """A file, or a download in progress, which takes the room that it will need in the end.

    Attributes:
        path: where it is.
        size: bytes.
        used: seconds since the epoch of its last use; of a partial file, of the last byte that arrived.
        partial: whether it is a download in progress.
    """

    path: Path
    size: int
    used: float
    partial: bool


def entries(path: Path) -> Iterator[Entry]:
    """Everything below `path` that takes room, in no order. What is not ours is passed by."""
    for folder in _scan(path):
        if len(folder.name) != 2 or not folder.is_dir(follow_symlinks=False):
            continue
        for file in _scan(folder.path):
            if (name := _FILE.fullmatch(file.name)) is None:
                continue
            with suppress(FileNotFoundError):
                status = file.stat(follow_symlinks=False)
                reserved = name["reserved"]
                size = status.st_size if reserved is None else int(reserved)
                yield Entry(Path(file.path), size, status.st_mtime, reserved is not None)


def make_room(path: Path, size: int, max_bytes: int) -> tuple[int, list[str]]:
    """Drop what was used longest ago until `size` more bytes fit.

    Dropping goes on for a further sixty-fourth of the bound, so that not every small file that comes after needs a look
    at all files.

    Returns:
        The room there is now, less than `size` if nothing more can be dropped; the names of what was dropped.
    """
    found = sorted(entries(path), key=lambda entry: entry.used)
    taken = sum(entry.size for entry in found)
    allowed, dropped = max_bytes - size, []
    for entry in found:
        if taken <= allowed:
            break
        if entry.partial and entry.used > time.time() - _ABANDONED_SECONDS:
            continue
        allowed = max(0, max_bytes - size - max_bytes // 64)
        with suppress(PermissionError):  # in a shared cache, what a colleague fetched
            entry.path.unlink(missing_ok=True)
            taken -= entry.size
            dropped.append(entry.path.name)
    return max_bytes - taken, dropped


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes of this machine from making room, or renaming what is counted, at the same time."""
    with ExitStack() as held:
        # Some shared file systems have no locks, and in a shared cache the file may belong to a colleague. Processes
        # that look at once then drop a little more, or leave a little more, than they should.
        with suppress(OSError):
            descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            held.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _scan(path: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return list(found)
    except FileNotFoundError:
        return []
