"""Sparse models of COLMAP, text or binary: cameras and images. Points are not read: no label is made of them.

Source of the format: colmap.github.io/format.html and /cameras.html. A pose is world-to-camera, a Hamilton quaternion
(w, x, y, z) and a translation, OpenCV axes; the unit is arbitrary. The centre of the first pixel is (0.5, 0.5). Models
with rigs (3.12 and later) repeat each image's pose in `images`, so rigs and frames are not needed.

    cameras.txt   CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]
    images.txt    IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of its 2D points, which may be empty
    cameras.bin   u64 count, each: u32 id, i32 model, u64 width, u64 height, f64 PARAMS[]
    images.bin    u64 count, each: u32 id, 4 f64 q, 3 f64 t, u32 camera, NAME NUL, u64 points, each 2 f64 and u64
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from extract.datasets.poses.camera import MOST_SIDE, Camera, PosedImage
from extract.datasets.poses.rigid import from_quaternion, inverse, pose, unknown
from extract.errors import DataError

MODELS: tuple[tuple[str, str], ...] = (
    ("SIMPLE_PINHOLE", "f cx cy"),
    ("PINHOLE", "fx fy cx cy"),
    ("SIMPLE_RADIAL", "f cx cy k"),
    ("RADIAL", "f cx cy k1 k2"),
    ("OPENCV", "fx fy cx cy k1 k2 p1 p2"),
    ("OPENCV_FISHEYE", "fx fy cx cy k1 k2 k3 k4"),
    ("FULL_OPENCV", "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6"),
    ("FOV", "fx fy cx cy omega"),
    ("SIMPLE_RADIAL_FISHEYE", "f cx cy k"),
    ("RADIAL_FISHEYE", "f cx cy k1 k2"),
    ("THIN_PRISM_FISHEYE", "fx fy cx cy k1 k2 p1 p2 k3 k4 sx1 sy1"),
    ("RAD_TAN_THIN_PRISM_FISHEYE", "fx fy cx cy k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3"),
)
"""Names and parameters of the camera models; a model's place is its number in binary files."""
_PARAMETERS = dict(MODELS)
_POINT = 24


def find_model(folder: Path) -> tuple[Path, Path] | None:
    """cameras and images of the model in `folder`, binary before text as COLMAP does; `None` if there is none."""
    for ending in (".bin", ".txt"):
        cameras, images = folder / f"cameras{ending}", folder / f"images{ending}"
        if cameras.is_file() and images.is_file():
            return cameras, images
    return None


def parse_model(cameras: tuple[bytes, str], images: tuple[bytes, str], *, binary: bool) -> list[PosedImage]:
    """All registered images, in the order of the file. `cameras` and `images` are contents, and names for errors.

    Raises:
        DataError: a file is damaged, or an image has a camera that is not there.
    """
    known = (parse_cameras_binary if binary else parse_cameras_text)(*cameras)
    return (_images_binary if binary else _images_text)(*images, known)


def parse_cameras_text(content: bytes, where: str) -> dict[int, Camera]:
    """cameras.txt: camera id -> camera. Raises `DataError`."""
    cameras = {}
    for number, line in enumerate(_text(content, where), 1):
        if not line.strip() or line.startswith("#"):
            continue
        here = f"{where}, line {number}"
        try:
            ident, model, width, height, *params = line.split()
            size, values = (int(height), int(width)), [float(value) for value in params]
            cameras[int(ident)] = _camera(model, size, values, here)
        except ValueError as error:
            raise DataError(
                f"{here}: expected `CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]`, got {line[:80]!r} ({error})."
            ) from error
    return cameras


def parse_cameras_binary(content: bytes, where: str) -> dict[int, Camera]:
    """cameras.bin: camera id -> camera. Raises `DataError`."""
    reader, cameras = _Reader(content, where), {}
    for _ in range(reader.count(24)):
        ident, model, width, height = reader.take("<IiQQ")
        if not 0 <= model < len(MODELS):
            raise DataError(
                f"{where}: camera {ident} has model number {model}, which is not known here. Remedy: undistort the "
                "pictures with COLMAP (colmap image_undistorter), which writes PINHOLE cameras."
            )
        name, parameters = MODELS[model]
        cameras[ident] = _camera(name, (height, width), reader.take(f"<{len(parameters.split())}d"), where)
    return cameras


def _images_text(content: bytes, where: str, cameras: Mapping[int, Camera]) -> list[PosedImage]:
    """Every other line that is no comment is an image; those between are points, and may be empty."""
    lines = [(number, line) for number, line in enumerate(_text(content, where), 1) if not line.startswith("#")]
    while lines and not lines[0][1].strip():
        lines.pop(0)
    for number, line in lines[1::2]:
        if len(line.split()) % 3:
            raise DataError(
                f"{where}, line {number}: expected 2D points `X Y POINT3D_ID …` or an empty line after each image, got "
                f"{line[:80]!r}. Remedy: write that line too."
            )
    images = []
    for number, line in lines[::2]:
        if not line.strip():
            continue
        here = f"{where}, line {number}"
        try:
            parts = line.split(maxsplit=9)
            numbers, ident, name = [float(value) for value in parts[1:8]], int(parts[8]), parts[9].strip()
        except (ValueError, IndexError) as error:
            raise DataError(
                f"{here}: expected `IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME`, got {line[:80]!r} ({error})."
            ) from error
        images.append(_image(numbers, ident, name, cameras, here))
    return images


def _images_binary(content: bytes, where: str, cameras: Mapping[int, Camera]) -> list[PosedImage]:
    reader, images = _Reader(content, where), []
    for _ in range(reader.count(4 + 7 * 8 + 4 + 1 + 8)):
        _, *numbers, ident = reader.take("<I7dI")
        name = reader.name()
        reader.skip(reader.count(_POINT) * _POINT)
        images.append(_image(numbers, ident, name, cameras, f"{where}, {name}"))
    return images


def _image(numbers: Sequence[float], camera: int, name: str, cameras: Mapping[int, Camera], where: str) -> PosedImage:
    """From quaternion and translation of the world-to-camera motion."""
    if camera not in cameras:
        raise DataError(
            f"{where}: camera {camera} is not among cameras {sorted(cameras)}. Remedy: export both files anew."
        )
    values = np.array(numbers, np.float64)
    known = np.isfinite(values).all()
    cam_to_world = inverse(pose(from_quaternion(values[:4], where), values[4:])) if known else unknown()
    return PosedImage(name.replace("\\", "/"), cam_to_world, cameras[camera])


def _camera(model: str, size: tuple[int, int], values: Sequence[float], where: str) -> Camera:
    fits = model in _PARAMETERS and len(values) == len(_PARAMETERS[model].split())
    if not fits or not all(0 < side < MOST_SIDE for side in size):
        raise DataError(
            f"{where}: camera model {model} with {len(values)} parameters, {size[1]}x{size[0]} pixels; expected "
            f"one of {', '.join(f'{name} ({params})' for name, params in MODELS[:5])} … Remedy: undistort with COLMAP."
        )
    named = dict(zip(_PARAMETERS[model].split(), values, strict=True))
    x = named.pop("f", None)
    focal = (named.pop("fx"), named.pop("fy")) if x is None else (x, x)
    centre = named.pop("cx"), named.pop("cy")
    return Camera(model, size, focal, centre, {key: value for key, value in named.items() if value != 0})


def _text(content: bytes, where: str) -> list[str]:
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: is no text ({error}). Remedy: export the model anew.") from error


class _Reader:
    """A cursor over little-endian bytes that never runs past their end."""

    def __init__(self, content: bytes, where: str) -> None:
        self.content, self.where, self.at = content, where, 0

    def take(self, layout: str) -> tuple[Any, ...]:
        size = struct.calcsize(layout)
        self._need(size)
        values = struct.unpack_from(layout, self.content, self.at)
        self.at += size
        return values

    def count(self, least: int) -> int:
        """A count of things of at least `least` bytes each, which have to fit into the file."""
        (found,) = self.take("<Q")
        self._need(found * least)
        return int(found)

    def name(self) -> str:
        end = self.content.find(b"\0", self.at)
        if end < 0:
            self._need(len(self.content))
        raw, self.at = self.content[self.at : end], end + 1
        return raw.decode(errors="surrogateescape")

    def skip(self, size: int) -> None:
        self._need(size)
        self.at += size

    def _need(self, size: int) -> None:
        if self.at + size > len(self.content):
            raise DataError(
                f"{self.where}: truncated, or no such file: needs {size} bytes at {self.at}, has "
                f"{len(self.content) - self.at}. Remedy: copy or export the model anew."
            )
