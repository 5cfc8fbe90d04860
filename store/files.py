"""Files that are either whole or absent: temporary name, fsync, rename or link, fsync of the directory."""

from __future__ import annotations

import errno
import logging
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NoReturn

from store.errors import StorageFullError, StoreError

Buffer = bytes | memoryview
_IOV_MAX = 1024
PARTIAL = ".partial"
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

log = logging.getLogger(__name__)


def partial_name(path: Path) -> Path:
    """A temporary sibling of `path` that no other writer uses."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{PARTIAL}")


def write_atomic(path: Path, buffers: Sequence[Buffer]) -> None:
    """Write the buffers one after another so that `path` holds all of them or does not change, even after power loss.

    Raises `StorageFullError` when the disk is full, `StoreError` for any other failure of the file system.
    """
    with _draft(path, buffers) as partial:
        os.rename(partial, path)


def write_once(path: Path, buffers: Sequence[Buffer]) -> bool:
    """`write_atomic`, but a file that is already at `path` stays. Returns whether ours is the one that is there now.

    Of any number of writers at once, on one machine or on many that share the file system, exactly one wins.
    """
    with _draft(path, buffers) as partial:
        try:
            os.link(partial, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Without hard links two writers cannot be kept apart; one alone is safe.
            _warn_no_links(path.parent)
            if path.exists():
                return False
            os.rename(partial, path)
    return True


@contextmanager
def _draft(path: Path, buffers: Sequence[Buffer]) -> Iterator[Path]:
    """A whole, synced file beside `path`, to be published by the body of the `with`. Nothing of it is left behind."""
    partial = partial_name(path)
    try:
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                _write_all(descriptor, [memoryview(buffer).cast("B") for buffer in buffers])
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            yield partial
        finally:
            partial.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise_for(error, path)


@cache
def _warn_no_links(directory: Path) -> None:
    log.warning(
        "%s: this file system has no hard links. Let only one extraction write here at a time: two that compute the "
        "same clip could not be told apart.",
        directory,
    )


def sync_directory(path: Path) -> None:
    """Make renames inside the directory survive power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Make a folder with all files and folders in it survive power loss, whoever wrote them."""
    for folder, _, names in os.walk(root):
        for name in names:
            descriptor = os.open(Path(folder, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(folder))


def raise_for(error: OSError, path: Path) -> NoReturn:
    """Turn a failure of the file system into an error that names the remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise StorageFullError(
            f"{path}: no room left on the disk. Every clip committed so far is valid: free some space, "
            "or move the store (FEATURE_STORE, --out), and run the same command again to go on from there."
        ) from error
    raise StoreError(f"{path}: cannot be written ({error.strerror}). Check the path and its permissions.") from error


def _write_all(descriptor: int, pending: list[memoryview]) -> None:
    pending = [view for view in pending if view.nbytes]
    while pending:
        written = os.writev(descriptor, pending[:_IOV_MAX])
        while pending and written >= pending[0].nbytes:
            written -= pending.pop(0).nbytes
        if written:
            pending[0] = pending[0][written:]
