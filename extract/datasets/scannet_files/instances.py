"""Instance ids per frame, read out of `<scan>_2d-instance-filt.zip` where it lies. Nothing is unpacked to disk."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from jaxtyping import UInt8

from extract.datasets.scannet_files.errors import damaged, unreadable
from extract.datasets.scannet_files.pictures import decode

FOLDER = "instance-filt"
_LARGEST = 1 << 24
"""Bytes of a member. The plain pixels of a picture of 1296x968 are a twelfth of it."""
_ENCRYPTED = 1


class InstanceArchive:
    """The archive of one scan. Only members with the name of a frame are looked at. Threads may read at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, numbers: Iterable[int]) -> dict[int, bytes]:
        """The PNG files of these frames. Raises `DataError` if one is missing, damaged, or larger than it says."""
        with self._opened() as archive:
            return {number: self._member(archive, number) for number in numbers}

    def decode(self, number: int, content: bytes, size: tuple[int, int]) -> UInt8[np.ndarray, "y x"]:
        """Instance ids of a picture, which has to have this size (height, width). Raises `DataError`."""
        return decode(content, "PNG", "L", f"{self.path}: {FOLDER}/{number}.png", size)

    def _member(self, archive: ZipFile, number: int) -> bytes:
        name = f"{FOLDER}/{number}.png"
        try:
            member = archive.getinfo(name)
        except KeyError as error:
            raise damaged(self.path, f"has no {name}") from error
        if member.file_size > _LARGEST or member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise damaged(self.path, f"{name} says {member.file_size} bytes, method {member.compress_type}")
        if member.flag_bits & _ENCRYPTED:
            raise damaged(self.path, f"{name} is encrypted")
        return self._content(archive, member)

    def _content(self, archive: ZipFile, member: ZipInfo) -> bytes:
        with archive.open(member) as stream:
            content = stream.read(member.file_size + 1)  # never more, whatever the member unpacks to
        if len(content) != member.file_size:
            raise damaged(self.path, f"{member.filename} says {member.file_size} bytes and holds {len(content)}")
        return content

    @contextmanager
    def _opened(self) -> Iterator[ZipFile]:
        try:
            with ZipFile(self.path) as archive:
                yield archive
        except (OSError, BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise unreadable(self.path, error) from error
