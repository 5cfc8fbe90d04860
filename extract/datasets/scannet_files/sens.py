"""ScanNet's `.sens` files, version 4: a header, then frames one after another, each with its sizes before it.

header   uint32 version; uint64 length, then the sensor's name; 4 float32 matrices 4x4, rows first: intrinsics and
         extrinsics of colour, then of depth; int32 compression of colour, of depth; uint32 width and height of colour,
         of depth; float32 depth units per metre; uint64 number of frames
frame    float32 4x4 camera to world; uint64 time of colour, of depth; uint64 bytes of colour, of depth; colour; depth

Inertial measurements follow the frames; they are not read. All numbers are little-endian. Format after
`SensReader/c++/src/sensorData.h` of github.com/ScanNet/ScanNet.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from extract.datasets._pictures import MOST_PIXELS
from extract.datasets.scannet_files.errors import damaged, unreadable
from extract.datasets.scannet_files.pictures import decode
from extract.datasets.scannet_files.recording import Cameras, Kind, Recording, is_identity, known_pose, pinhole

VERSION = 4
JPEG, ZLIB_USHORT = 2, 1
"""The compressions that ScanNet's release uses."""
_NAME = struct.Struct("<IQ")
_HEADER = struct.Struct("<64f2i4IfQ")
_FRAME = struct.Struct("<64x2Q2Q")
_POSE = 64
_LONGEST_NAME = 1 << 12
_SLACK = 1 << 16
"""A compressed picture may be larger than the plain one by its own header."""


@dataclass(frozen=True)
class Header:
    """What stands before the frames. Sizes are (height, width); `start` is where the first frame begins."""

    raw: bytes
    color: Float32[np.ndarray, "4 4"]
    color_extrinsics: Float32[np.ndarray, "4 4"]
    depth: Float32[np.ndarray, "4 4"]
    depth_extrinsics: Float32[np.ndarray, "4 4"]
    color_size: tuple[int, int]
    depth_size: tuple[int, int]
    depth_shift: float
    n_frames: int
    start: int


class Sens(Recording):
    """A `.sens` file. Making one reads its header; the places of all frames are found when the first is asked for.

    Raises:
        DataError: it is no such file, of another version, or says what cannot be.
    """

    has_depth = True

    def __init__(self, path: Path) -> None:
        self.where = path
        self.header = read_header(path)
        self.numbers = range(self.header.n_frames)

    def cameras(self) -> Cameras:
        """Both cameras."""
        head = self.header
        return Cameras(
            pinhole(head.color, head.color_size, f"{self.where}: colour"),
            head.color_size,
            pinhole(head.depth, head.depth_size, f"{self.where}: depth"),
            head.depth_size,
            is_identity(head.color_extrinsics) and is_identity(head.depth_extrinsics),
        )

    def color(self, position: int) -> UInt8[np.ndarray, "y x 3"]:
        """Decode a colour picture."""
        where = f"{self.where}: frame {position}: colour"
        return decode(self.read("color", position), "JPEG", "RGB", where, self.header.color_size)

    def depth(self, position: int) -> Float32[np.ndarray, "y x"]:
        """Decode a depth picture."""
        height, width = self.header.depth_size
        where, expected = f"{self.where}: frame {position}: depth", height * width * 2
        stream = zlib.decompressobj()
        try:
            plain = stream.decompress(self.read("depth", position), expected + 1)
        except zlib.error as error:
            raise unreadable(where, error) from error
        if len(plain) != expected or not stream.eof:
            raise damaged(where, f"{width}x{height} pixels of 16 bits are {expected} bytes, but it holds others")
        values = np.frombuffer(plain, "<u2").reshape(height, width)
        return (values / self.header.depth_shift).astype(np.float32)

    def pose(self, position: int) -> Float64[np.ndarray, "4 4"]:
        """Camera to world."""
        values = np.frombuffer(self.read("pose", position), "<f4").reshape(4, 4)
        return known_pose(values, f"{self.where}: frame {position}")

    def read(self, kind: Kind, position: int) -> bytes:
        """The bytes of one picture or pose."""
        start, color, depth = self._frames[position].tolist()
        first = start + _FRAME.size
        place, length = {
            "pose": (start, _POSE),
            "color": (first, color),
            "depth": (first + color, depth),
        }[kind]
        with _opened(self.where) as file:
            return _read(file, self.where, place, length, f"frame {position}")

    def head(self) -> bytes:
        """The header, without the sensor's name."""
        return self.header.raw

    def files(self, positions: Sequence[int], bank: Sequence[int]) -> list[Path]:
        """The one file."""
        return [self.where]

    @cached_property
    def _frames(self) -> Int64[np.ndarray, "frame 3"]:
        """Where every frame lies, and its bytes of colour and of depth. The release has 2.5 million: an array is small.

        Reads 96 bytes of each, and no picture. Raises `DataError` if the file is cut off.
        """
        limits = [_most_bytes(self.header.color_size, 3), _most_bytes(self.header.depth_size, 2)]
        place, frames = self.header.start, []
        with _opened(self.where) as file:
            size = os.fstat(file).st_size
            for position in self.numbers:
                _, _, color, depth = _FRAME.unpack(_read(file, self.where, place, _FRAME.size, f"frame {position}"))
                if color > limits[0] or depth > limits[1] or place + _FRAME.size + color + depth > size:
                    raise damaged(
                        self.where,
                        f"frame {position} of {len(self.numbers)} says {color} bytes of colour and {depth} of depth; "
                        f"the file ends {size - place - _FRAME.size} bytes later, and no picture of the stated size "
                        f"needs more than {limits[0]} and {limits[1]}. It is truncated or damaged",
                    )
                frames.append((place, color, depth))
                place += _FRAME.size + color + depth
        return np.array(frames, np.int64)


def read_header(path: Path) -> Header:
    """Read the header alone, a few hundred bytes, and believe no number before it is checked. Raises `DataError`."""
    with _opened(path) as file:
        size = os.fstat(file).st_size
        version, length = _NAME.unpack(_read(file, path, 0, _NAME.size, "header"))
        if version != VERSION or length > _LONGEST_NAME:
            raise damaged(path, f"version {version}, sensor name of {length} bytes: no .sens file of version {VERSION}")
        raw = _read(file, path, _NAME.size + length, _HEADER.size, "header")
    start = _NAME.size + length + _HEADER.size
    *_, how_color, how_depth, width, height, depth_width, depth_height, shift, n_frames = _HEADER.unpack(raw)
    if (how_color, how_depth) != (JPEG, ZLIB_USHORT):
        raise damaged(
            path, f"compressions {how_color} and {how_depth}; ScanNet has JPEG ({JPEG}) and zlib ({ZLIB_USHORT})"
        )
    sizes = (height, width), (depth_height, depth_width)
    if not all(0 < rows * columns <= MOST_PIXELS for rows, columns in sizes) or not 0 < shift < np.inf:
        raise damaged(path, f"colour of {width}x{height}, depth of {depth_width}x{depth_height}, {shift} per metre")
    if not 0 < n_frames <= (size - start) // _FRAME.size:
        raise damaged(path, f"says that it holds {n_frames} frames, and has {size - start} bytes for them")
    color, color_extrinsics, depth, depth_extrinsics = np.frombuffer(raw, "<f4", 64).reshape(4, 4, 4)
    return Header(raw, color, color_extrinsics, depth, depth_extrinsics, *sizes, shift, n_frames, start)


def _most_bytes(size: tuple[int, int], each: int) -> int:
    return size[0] * size[1] * each + _SLACK


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A file descriptor of one's own, so that threads do not move each other's place."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        if hasattr(os, "posix_fadvise"):
            # Frames are skipped: reading ahead would fetch the pictures after all.
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
        yield file
    finally:
        os.close(file)


def _read(file: int, path: Path, place: int, length: int, what: str) -> bytes:
    try:
        content = b""
        while len(content) < length and (more := os.pread(file, length - len(content), place + len(content))):
            content += more
    except OSError as error:
        raise unreadable(path, error) from error
    if len(content) < length:
        raise damaged(path, f"truncated: the file ends inside {what}, {length - len(content)} bytes are missing")
    return content
