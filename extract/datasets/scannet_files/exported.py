"""Recordings that ScanNet's `SensReader/python/reader.py` exported into folders.

color/0.jpg, color/1.jpg, …    depth/0.png, … (16 bits, millimetres)    pose/0.txt, … (camera to world)
intrinsic/intrinsic_color.txt, intrinsic_depth.txt, extrinsic_color.txt, extrinsic_depth.txt (4x4 each)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, Shaped, UInt8

from extract.datasets._sources import content
from extract.datasets.poses.rigid import matrix_of_text
from extract.datasets.scannet_files.errors import FAULTS, damaged, unreadable
from extract.datasets.scannet_files.pictures import decode
from extract.datasets.scannet_files.recording import Cameras, Kind, Recording, is_identity, known_pose, pinhole

PER_METRE = 1000.0
"""Units of exported depth per metre: the exporter drops the number, which is 1000 in all of ScanNet."""
_ENDINGS = {"color": "jpg", "depth": "png", "pose": "txt"}
_LARGEST = 1 << 26
_NAME = re.compile(r"(0|[1-9]\d{0,7})\.jpg")


class Exported(Recording):
    """A folder with `color`, `pose` and `intrinsic`, and mostly `depth`. Making one lists the colour pictures.

    Raises:
        DataError: there is none, or a part is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.where = folder
        self.has_depth = (folder / "depth").is_dir()
        for part in ("pose", "intrinsic"):
            if not (folder / part).is_dir():
                raise damaged(folder / part, "missing; export the .sens file with all options of its reader")
        try:
            found = [_NAME.fullmatch(file.name) for file in (folder / "color").iterdir()]
        except OSError as error:
            raise unreadable(folder / "color", error) from error
        self.numbers = sorted(int(match[1]) for match in found if match)
        if not self.numbers:
            raise damaged(folder / "color", "holds no picture with a name such as 0.jpg")

    def cameras(self) -> Cameras:
        """Both cameras."""
        same = all(is_identity(self._matrix(name)) for name in self._extrinsics())
        color = pinhole(self._matrix("intrinsic_color"), self.color_size, self._camera("intrinsic_color"))
        if not self.has_depth:
            return Cameras(color, self.color_size, None, None, same)
        depth = pinhole(self._matrix("intrinsic_depth"), self.depth_size, self._camera("intrinsic_depth"))
        return Cameras(color, self.color_size, depth, self.depth_size, same)

    @cached_property
    def color_size(self) -> tuple[int, int]:
        """(height, width) of the first colour picture; the others have to be like it."""
        height, width, _ = self._picture("color", 0, None).shape
        return height, width

    @cached_property
    def depth_size(self) -> tuple[int, int]:
        """(height, width) of the first depth picture; the others have to be like it."""
        height, width = self._picture("depth", 0, None).shape
        return height, width

    def color(self, position: int) -> UInt8[np.ndarray, "y x 3"]:
        """Decode a colour picture."""
        return self._picture("color", position, self.color_size)

    def depth(self, position: int) -> Float32[np.ndarray, "y x"]:
        """Decode a depth picture."""
        return (self._picture("depth", position, self.depth_size) / PER_METRE).astype(np.float32)

    def pose(self, position: int) -> Float64[np.ndarray, "4 4"]:
        """Camera to world."""
        path = self._path("pose", position)
        return known_pose(_matrix(_content(path), path), path)

    def read(self, kind: Kind, position: int) -> bytes:
        """The bytes of one file."""
        return _content(self._path(kind, position))

    def head(self) -> bytes:
        """The files of the cameras, one after another."""
        return b"\0".join(_content(path) for path in self._heads())

    def files(self, positions: Sequence[int], bank: Sequence[int]) -> list[Path]:
        """The pictures, poses and camera files."""
        found = [self._path("color", k) for k in positions]
        found += [self._path("pose", k) for k in bank]
        found += [self._path("depth", k) for k in bank if self.has_depth]
        return found + self._heads()

    def _picture(
        self, kind: Literal["color", "depth"], position: int, size: tuple[int, int] | None
    ) -> Shaped[np.ndarray, "y x *channel"]:
        packed, path = self.read(kind, position), self._path(kind, position)
        if kind == "color":
            return decode(packed, "JPEG", "RGB", path, size)
        return decode(packed, "PNG", "I;16", path, size)

    def _path(self, kind: Kind, position: int) -> Path:
        return self.where / kind / f"{self.numbers[position]}.{_ENDINGS[kind]}"

    def _camera(self, name: str) -> Path:
        return self.where / "intrinsic" / f"{name}.txt"

    def _heads(self) -> list[Path]:
        needed = ["intrinsic_color", *(["intrinsic_depth"] if self.has_depth else [])]
        return [self._camera(name) for name in [*needed, *self._extrinsics()]]

    def _extrinsics(self) -> list[str]:
        return [name for name in ("extrinsic_color", "extrinsic_depth") if self._camera(name).is_file()]

    def _matrix(self, name: str) -> Float64[np.ndarray, "4 4"]:
        return _matrix(_content(self._camera(name)), self._camera(name))


def _content(path: Path) -> bytes:
    return content(path, _LARGEST, FAULTS)


def _matrix(text: bytes, path: Path) -> Float64[np.ndarray, "4 4"]:
    """Four lines of four numbers; -inf is one."""
    try:
        return matrix_of_text(text)
    except ValueError as error:
        raise unreadable(path, error) from error
