"""Instance ids per frame, read out of `<scan>_2d-instance-filt.zip` where it lies. Nothing is unpacked to disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from extract.datasets._sources import archive, member
from extract.datasets.scannet_files.errors import FAULTS
from extract.datasets.scannet_files.pictures import decode

FOLDER = "instance-filt"
_PNG_BITS = 24
"""Place of the bits per sample in a PNG file (ISO/IEC 15948, 11.2.2)."""
_LARGEST = 1 << 24
"""Bytes of a member. The plain pixels of a picture of 1296x968 are a twelfth of it."""


class InstanceArchive:
    """The archive of one scan. Only members with the name of a frame are looked at. Threads may read at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, numbers: Iterable[int]) -> dict[int, bytes]:
        """The PNG files of these frames. Raises `DataError` if one is missing, damaged, or larger than it says."""
        with archive(self.path, FAULTS) as opened:
            return {number: member(opened, f"{FOLDER}/{number}.png", _LARGEST, FAULTS) for number in numbers}

    def decode(self, number: int, content: bytes, size: tuple[int, int]) -> UInt8[np.ndarray, "y x"]:
        """Instance ids of a picture, which has to have this size (height, width). Raises `DataError`."""
        where = f"{self.path}: {FOLDER}/{number}.png"
        ids: UInt8[np.ndarray, "y x"] = decode(content, "PNG", "L", where, size)
        if (bits := content[_PNG_BITS]) != 8:  # Pillow spreads them over 0 to 255
            raise FAULTS.damaged(where, f"grey of {bits} bits; ids have 8")
        return ids
