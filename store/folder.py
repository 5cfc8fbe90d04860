"""Where the files of one store are: a directory here, and what any other place must offer to be read like one.

Names are relative and POSIX (`features.zarr/blocks.1/c.3.0.0.0.0`), whatever the place.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from store.errors import CorruptShardError, FormatError, StoreError
from store.files import Buffer, raise_for, write_atomic
from store.records import FileRecord

REPAIR = (
    "Restore it from a copy; or, where the store was made, run `python -m store verify STORE --drop` to un-commit "
    "damaged clips, then extract again to refill them."
)
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@=+~-]{0,254}")


@runtime_checkable
class ShardFile(Protocol):
    """A shard that is open. Any number of threads may read it at once."""

    size: int

    def read_into(self, offset: int, buffers: Sequence[memoryview | bytearray]) -> int:
        """Fill the buffers one after another with the bytes from `offset` on. Returns how many bytes were read."""


@runtime_checkable
class Folder(Protocol):
    """The files of one store."""

    url: str
    """For messages: the path, or `s3://bucket/key`."""

    def read(self, name: str, limit: int) -> bytes:
        """A whole small file. Raises `FileNotFoundError`; `FormatError` if it has more than `limit` bytes."""

    def names(self, under: str) -> list[str] | None:
        """Names of what lies directly inside folder `under`, sorted; empty if there is none, `None` if unknowable."""

    def open(self, name: str, record: FileRecord) -> ShardFile:
        """Open a committed shard. Raises `CorruptShardError` if it is missing or is not of the committed size."""

    def forget(self, record: FileRecord) -> bool:
        """Drop the copy that is kept of a shard, since its bytes are damaged. Returns whether there can be a copy."""

    def write(self, name: str, buffers: Sequence[Buffer]) -> None:
        """Publish a file: whole or absent. Replaces what has that name."""


class LocalFolder:
    """A directory on a local or shared file system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = str(path)

    def read(self, name: str, limit: int) -> bytes:
        """See `Folder.read`. Links are not followed, so that a store reads nothing outside of itself."""
        path = self._place(name)
        descriptor = _open(path)
        try:
            size = os.fstat(descriptor).st_size
            if size > limit:
                raise FormatError(f"{path}: has {size} bytes, at most {limit} are sensible. Restore it from a copy.")
            parts, left = [], size
            while left and (part := os.read(descriptor, left)):
                parts.append(part)
                left -= len(part)
            return b"".join(parts)
        finally:
            os.close(descriptor)

    def names(self, under: str) -> list[str] | None:
        """See `Folder.names`. Temporary files of writers are left out. A link is an error: it could lead anywhere."""
        place = self._place(under)
        try:
            if place.is_symlink():
                raise FormatError(_link(place))
            with os.scandir(place) as entries:
                found = [entry for entry in entries if entry.name[0] != "."]
        except (FileNotFoundError, NotADirectoryError):
            return []
        for entry in found:
            if entry.is_symlink():
                raise FormatError(_link(place / entry.name))
        return sorted(entry.name for entry in found)

    def open(self, name: str, record: FileRecord) -> LocalShard:
        """See `Folder.open`."""
        path = self._place(name)
        try:
            shard = LocalShard(path)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise StoreError(
                    f"{path}: cannot be opened ({error.strerror}). The store is sound: let this process open more "
                    "files (`ulimit -n 4096`), or use fewer stores at once."
                ) from error
            raise CorruptShardError(f"{path}: committed, but cannot be opened ({error.strerror}). {REPAIR}") from error
        if shard.size != record.size:
            raise CorruptShardError(f"{path}: has {shard.size} bytes, committed were {record.size}. {REPAIR}")
        return shard

    def forget(self, record: FileRecord) -> bool:
        """See `Folder.forget`: there are no copies."""
        return False

    def write(self, name: str, buffers: Sequence[Buffer]) -> None:
        """See `Folder.write`: temporary name, fsync, rename."""
        path = self._place(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise_for(error, path)
        write_atomic(path, buffers)

    def _place(self, name: str) -> Path:
        check_name(name)
        return self.path / name


class LocalShard:
    """A file that stays open as long as somebody holds this object."""

    def __init__(self, path: Path) -> None:
        self._descriptor = -1
        self._descriptor = _open(path)
        self.size = os.fstat(self._descriptor).st_size

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read_into(self, offset: int, buffers: Sequence[memoryview | bytearray]) -> int:
        """See `ShardFile.read_into`: one `preadv`."""
        return os.preadv(self._descriptor, buffers, offset)


def check_name(name: str) -> None:
    """Raise `FormatError` for a name that could lead out of the folder, or that not every file system can hold."""
    if not is_name(name):
        raise FormatError(
            f"{name!r}: not a name that a store may hold. Names are made of letters, digits and _.@=+~- only."
        )


def is_name(name: str) -> bool:
    """Whether a store may hold a file of this name."""
    return all(_PART.fullmatch(part) and ".." not in part for part in name.split("/"))


def _link(path: Path) -> str:
    return f"{path}: is a symbolic link, which could lead out of the store. Put the files themselves there."


def _open(path: Path) -> int:
    # Without O_NONBLOCK, opening a FIFO would wait for somebody to write into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return descriptor
