"""Writes version 4 of ScanNet's `.sens` files: a recording's colour, depth and camera poses.

Layout, by the official reader (github.com/ScanNet/ScanNet, SensReader/c++/src/sensorData.h and
SensReader/python/SensorData.py). Little-endian, nothing is padded; matrices are 4 x 4 float32, row by row:

    uint32              version, 4
    uint64, bytes       length of the sensor's name, and the name
    matrix x 4          colour intrinsics, colour extrinsics, depth intrinsics, depth extrinsics
    int32               how colour is compressed: -1 unknown, 0 raw RGB, 1 PNG, 2 JPEG
    int32               how depth is compressed: -1 unknown, 0 raw uint16, 1 zlib of uint16, 2 a codec of its own
    uint32 x 4          width and height of colour, width and height of depth
    float32             depth shift: depth value / shift = metres (1000 in the release)
    uint64              number of frames, and for each:
        matrix          camera to world; all -inf = tracking was lost
        uint64 x 2      time of colour, time of depth (the official reader states no unit)
        uint64 x 2      bytes of colour, bytes of depth
        bytes           colour, then depth; depth is row by row, 0 = nothing measured
    uint64              number of IMU frames (version 3 ended before it), and for each 128 bytes:
        float64 x 15    rotation rate, acceleration, magnetic field, attitude, gravity
        uint64          time

Axes are OpenCV's: x right, y down, z forward; poses are in metres. Intrinsics are (fx 0 cx 0 / 0 fy cy 0 / 0 0 1 0 /
0 0 0 1) and count from the *centre* of the first pixel: the official tools unproject column x as (x - cx) / fx and
round projections to whole numbers (AnnotationTools/Filter2dAnnotations/filter.cu), and the scanning app's depth has
cx = 319.5 for 640 columns (ScannerApp/README.md). Where an image spans [0, width], so that pixel centres are at
integer + 0.5, cx and cy are larger by 0.5. Extrinsics are identities in the release: depth is aligned with colour.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

VERSION = 4
JPEG, ZLIB_USHORT = 2, 1
DEPTH_SHIFT = 1000.0
HALF = 0.5
"""From the corner of the first pixel, where this project counts from, to its centre, where `.sens` files do."""


class SensFrame(NamedTuple):
    """A JPEG file, depth in millimetres (y, x; 0 = nothing measured), and camera to world in OpenCV axes and metres."""

    jpeg: bytes
    depth: NDArray[np.uint16]
    cam_to_world: NDArray[np.float64]


def write_sens(
    path: Path, frames: Sequence[SensFrame], intrinsics: NDArray[np.float64], size: tuple[int, int], sensor: str
) -> None:
    """Write a recording whose colour and depth are seen by one camera.

    Args:
        path: to write.
        frames: in order; their times are written as 0 = not known.
        intrinsics: 3 x 3, in pixels of colour, which spans [0, width] x [0, height].
        size: (height, width) of colour. Depth may have another: its intrinsics are scaled to it.
        sensor: name of what recorded it.
    """
    depth_size = frames[0].depth.shape
    name = sensor.encode()
    with path.open("wb") as file:
        file.write(struct.pack("<IQ", VERSION, len(name)) + name)
        for height, width in (size, depth_size):
            scale = np.diag([width / size[1], height / size[0], 1])
            file.write(_matrix(_from_centre(scale @ intrinsics)) + _matrix(np.eye(4)))
        file.write(struct.pack("<2i4If", JPEG, ZLIB_USHORT, *size[::-1], *depth_size[::-1], DEPTH_SHIFT))
        file.write(struct.pack("<Q", len(frames)))
        for frame in frames:
            depth = zlib.compress(frame.depth.astype("<u2").tobytes())
            file.write(_matrix(frame.cam_to_world) + struct.pack("<4Q", 0, 0, len(frame.jpeg), len(depth)))
            file.write(frame.jpeg + depth)
        file.write(struct.pack("<Q", 0))


def _from_centre(intrinsics: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = intrinsics
    matrix[:2, 2] -= HALF
    return matrix


def _matrix(values: NDArray[np.float64]) -> bytes:
    return values.astype("<f4").tobytes()
