"""Reads what rooms are exported as, by the formats' definitions: shares nothing with what writes it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Recording:
    """What a `.sens` file says."""

    sensor: str
    matrices: NDArray[np.float32]  # colour intrinsics and extrinsics, those of depth
    colour_size: tuple[int, int]  # width, height
    depth_size: tuple[int, int]
    poses: NDArray[np.float32]
    times: list[tuple[int, int]]
    jpegs: list[bytes]
    depth: NDArray[np.uint16]


def read_sens(path: Path) -> Recording:
    """Read all bytes of a file of version 4 with JPEG and zlib."""
    file = BytesIO(path.read_bytes())

    def take(form: str) -> tuple[Any, ...]:
        return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))

    def matrix() -> list[float]:
        return list(take("16f"))

    assert take("I") == (4,)
    sensor = file.read(take("Q")[0]).decode()
    matrices = np.array([matrix() for _ in range(4)], np.float32).reshape(4, 4, 4)
    assert take("ii") == (2, 1)
    width, height, depth_width, depth_height = take("4I")
    assert take("f") == (1000,)
    poses, times, jpegs, depth = [], [], [], []
    for _ in range(take("Q")[0]):
        poses.append(matrix())
        times.append(take("QQ"))
        of_colour, of_depth = take("QQ")
        jpegs.append(file.read(of_colour))
        raw = zlib.decompress(file.read(of_depth))
        depth.append(np.frombuffer(raw, "<u2").reshape(depth_height, depth_width))
    assert take("Q") == (0,)  # IMU frames
    assert file.read() == b""
    return Recording(
        sensor,
        matrices,
        (width, height),
        (depth_width, depth_height),
        np.array(poses, np.float32).reshape(-1, 4, 4),
        times,
        jpegs,
        np.stack(depth),
    )


def picture(path: Path) -> NDArray[Any]:
    """As it is stored."""
    with Image.open(path) as image:
        return np.asarray(image)


def scene_of(number: int) -> str:
    """Name of a room's scene."""
    return f"scene{number:04d}_00"


def scan(exported: Path, number: int, ending: str) -> Path:
    """A file of a room's scene."""
    return exported / "scans" / scene_of(number) / f"{scene_of(number)}{ending}"
