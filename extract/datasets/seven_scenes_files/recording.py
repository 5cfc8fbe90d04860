"""A sequence as it lies on the disk: the folder `seq-01`, or the `seq-01.zip` that the release has in its place.

frame-000000.color.png    640x480, 24 bits          frame-000000.depth.png    640x480, 16 bits, millimetres
frame-000000.pose.txt     camera to world, four lines of four numbers, metres
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from extract.datasets._pictures import decode
from extract.datasets._sources import Faults, archive, content, member
from extract.datasets.poses.rigid import checked, matrix_of_text

Kind = Literal["color", "depth", "pose"]
SIZE = (480, 640)
"""(height, width) of every picture, colour and depth."""
FAULTS = Faults("unpack the scene's zip file anew, or move the sequence out of its scene's folder to leave it out.")
INVALID = (0, 65535)
"""Depths that mean: not measured. The release names the second."""
_NAMES: dict[Kind, str] = {"color": "color.png", "depth": "depth.png", "pose": "pose.txt"}
_LARGEST: dict[Kind, int] = {"color": 1 << 22, "depth": 1 << 22, "pose": 1 << 12}
"""Bytes. The plain pixels of a colour picture are a quarter of it."""
_COLOR = re.compile(r"(?P<folder>.*/)?frame-(?P<number>\d{6})\.color\.png")
_RIGID = 1e-2
"""How far R R^T may be from the identity: poses are products of many float32 matrices."""


class Recording(ABC):
    """Frames of one sequence. Making one lists their names. Threads may read at once.

    Attributes:
        where: the folder, or the zip file.
        total: number of frames; they are numbered from 0.
    """

    where: Path
    total: int

    @abstractmethod
    def read(self, kind: Kind, numbers: Iterable[int]) -> list[bytes]:
        """The files of these frames. Raises `DataError` if one is missing, damaged or too large."""

    @abstractmethod
    def files(self, colors: Sequence[int], bank: Sequence[int]) -> list[Path]:
        """Files that colour of `colors`, and depth and poses of `bank`, are read from."""

    def colors(self, numbers: Sequence[int]) -> UInt8[np.ndarray, "frame y x 3"]:
        """Decode colour pictures. Raises `DataError`."""
        images = np.empty((len(numbers), *SIZE, 3), np.uint8)
        for row, (number, packed) in enumerate(zip(numbers, self.read("color", numbers), strict=True)):
            images[row] = decode(packed, "PNG", "RGB", self._name("color", number), SIZE, FAULTS)
        return images

    def depths(self, numbers: Sequence[int]) -> Float32[np.ndarray, "frame y x"]:
        """Decode depth: planar z in metres, 0 = invalid. Raises `DataError`."""
        depths = np.empty((len(numbers), *SIZE), np.float32)
        for row, (number, packed) in enumerate(zip(numbers, self.read("depth", numbers), strict=True)):
            raw = decode(packed, "PNG", "I;16", self._name("depth", number), SIZE, FAULTS)
            depths[row] = np.where(np.isin(raw, INVALID), 0, raw / 1000)
        return depths

    def poses(self, numbers: Sequence[int]) -> Float64[np.ndarray, "frame 4 4"]:
        """Depth camera to world, OpenCV axes, metres; all zero if it is not finite. Raises `DataError`."""
        return np.stack([self._pose(*each) for each in zip(numbers, self.read("pose", numbers), strict=True)])

    def _pose(self, number: int, text: bytes) -> Float64[np.ndarray, "4 4"]:
        name = self._name("pose", number)
        try:
            matrix = matrix_of_text(text)
        except ValueError as error:
            raise FAULTS.unreadable(name, error) from error
        return checked(matrix, name, _RIGID)

    def _name(self, kind: Kind, number: int) -> str:
        return f"{self.where}/{file_of(kind, number)}"


class Folder(Recording):
    """An unpacked sequence. Raises `DataError` if colour pictures are missing between others, or all are."""

    def __init__(self, where: Path) -> None:
        self.where = where
        try:
            names = os.listdir(where)
        except OSError as error:
            raise FAULTS.unreadable(where, error) from error
        self.total, _ = _count(where, (name for name in names if "/" not in name))

    def read(self, kind: Kind, numbers: Iterable[int]) -> list[bytes]:
        """The bytes of single files."""
        return [content(self.where / file_of(kind, number), _LARGEST[kind], FAULTS) for number in numbers]

    def files(self, colors: Sequence[int], bank: Sequence[int]) -> list[Path]:
        """The pictures and poses."""
        wanted: list[tuple[Kind, Sequence[int]]] = [("color", colors), ("depth", bank), ("pose", bank)]
        return [self.where / file_of(kind, number) for kind, numbers in wanted for number in numbers]


class Zip(Recording):
    """A packed sequence; nothing is unpacked to disk.

    Raises:
        DataError: it is no zip file, names a file outside, or lacks colour pictures as in `Folder`.
    """

    def __init__(self, where: Path) -> None:
        self.where = where
        with archive(where, FAULTS) as opened:
            names = opened.namelist()
        for name in names:
            if PurePosixPath(name).is_absolute() or ".." in name.replace("\\", "/").split("/"):
                raise FAULTS.damaged(where, f"names the file {name!r}, which is not inside")
        self.total, self._folder = _count(where, names)

    def read(self, kind: Kind, numbers: Iterable[int]) -> list[bytes]:
        """The bytes of members."""
        with archive(self.where, FAULTS) as opened:
            names = [self._folder + file_of(kind, number) for number in numbers]
            return [member(opened, name, _LARGEST[kind], FAULTS) for name in names]

    def files(self, colors: Sequence[int], bank: Sequence[int]) -> list[Path]:
        """The one file."""
        return [self.where]


def file_of(kind: Kind, number: int) -> str:
    """`frame-000042.color.png`."""
    return f"frame-{number:06d}.{_NAMES[kind]}"


def find_recordings(scene: Path) -> dict[str, Path]:
    """`seq-01` -> its folder, or its zip file if it was not unpacked; by name."""
    found = {each.stem: each for each in scene.glob("seq-[0-9][0-9].zip") if each.is_file()}
    found |= {each.name: each for each in scene.glob("seq-[0-9][0-9]") if each.is_dir()}
    return dict(sorted(found.items()))


def open_recording(where: Path) -> Recording:
    """What `find_recordings` found. Raises `DataError` if it is damaged."""
    return Folder(where) if where.is_dir() else Zip(where)


def _count(where: Path, names: Iterable[str]) -> tuple[int, str]:
    """How many frames there are, and the folder in the archive that they lie in."""
    found = [match for match in map(_COLOR.fullmatch, names) if match]
    folders = {match["folder"] or "" for match in found}
    if len(folders) != 1:
        what = (
            f"frames in several folders: {sorted(folders)}" if folders else f"no picture such as {file_of('color', 0)}"
        )
        raise FAULTS.damaged(where, f"holds {what}")
    numbers = sorted(int(match["number"]) for match in found)
    for expected, number in enumerate(numbers):
        if number != expected:
            raise FAULTS.damaged(where, f"{file_of('color', min(expected, number))} is missing, or there twice")
    return len(numbers), folders.pop()
