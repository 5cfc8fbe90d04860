"""Bytes of files and of members of zip archives, never more than is allowed, and the message for what is wrong."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

from extract.errors import DataError

_ENCRYPTED = 1


@dataclass(frozen=True)
class Faults:
    """Errors of one data set. Attributes: remedy: what a user can do about a damaged file of it."""

    remedy: str

    def damaged(self, where: object, what: str) -> DataError:
        """The error that says which file is wrong (a path names its recording too), and what to do."""
        return DataError(f"{where}: {what}. Remedy: {self.remedy}")

    def unreadable(self, where: object, error: Exception) -> DataError:
        """The error for a file that is missing or that the system or a library cannot read."""
        return self.damaged(where, "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})")


def content(path: Path, largest: int, faults: Faults) -> bytes:
    """The bytes of a file. Raises `DataError` if it is missing, or larger than `largest` bytes."""
    try:
        if path.stat().st_size > largest:
            raise faults.damaged(path, f"is larger than {largest} bytes, and no such file of the release is")
        return path.read_bytes()
    except OSError as error:
        raise faults.unreadable(path, error) from error


@contextmanager
def archive(path: Path, faults: Faults) -> Iterator[ZipFile]:
    """A zip file, read where it lies and opened for the caller alone. Raises `DataError` for what goes wrong inside."""
    try:
        with ZipFile(path) as opened:
            yield opened
    except (OSError, BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise faults.unreadable(path, error) from error


def member(opened: ZipFile, name: str, largest: int, faults: Faults) -> bytes:
    """The bytes of one member of an `archive`.

    Raises:
        DataError: it is missing, encrypted, packed in another way than stored or deflated, or says or has more than
            `largest` bytes.
    """
    where = opened.filename
    try:
        found = opened.getinfo(name)
    except KeyError as error:
        raise faults.damaged(where, f"has no {name}") from error
    if found.file_size > largest or found.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise faults.damaged(where, f"{name} says {found.file_size} bytes, method {found.compress_type}")
    if found.flag_bits & _ENCRYPTED:
        raise faults.damaged(where, f"{name} is encrypted")
    with opened.open(found) as stream:
        unpacked = stream.read(found.file_size + 1)  # never more, whatever the member unpacks to
    if len(unpacked) != found.file_size:
        raise faults.damaged(where, f"{name} says {found.file_size} bytes and holds {len(unpacked)}")
    return unpacked
