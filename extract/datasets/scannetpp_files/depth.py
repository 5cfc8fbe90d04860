"""depth.bin: depth of every frame of the video, 256x192, in one of three packings.

frames   uint32 length, little-endian; then so many bytes: an LZ4 block of uint16 millimetres, or, if it is none,
         a deflated stream of float32 metres
whole    one deflated stream of float32 metres of all frames, one after another

Streams have no header (RFC 1951). Format after `extract_depth` in iphone/prepare_iphone_data.py of
github.com/scannetpp/scannetpp. Depth k is of frame k of the video. Values are planar z, seen by the video's camera:
iphone/arkit_pcl.py there, of December 2023, multiplies rays with z = 1 by them.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32

from extract.datasets.scannetpp_files.errors import FAULTS

SIZE = (192, 256)
"""(height, width)."""
PER_METRE = 1000
_PIXELS = SIZE[0] * SIZE[1]
_MILLIMETRES, _METRES = 2 * _PIXELS, 4 * _PIXELS
"""Bytes of a frame, unpacked."""
_MOST = _METRES + (1 << 12)
"""Bytes of a frame, packed: what cannot be packed is a little larger than before."""
_BLOCK = 1 << 20


def read_depth(path: Path, numbers: Sequence[int]) -> Float32[np.ndarray, "frame y x"]:
    """Metres, 0 = invalid, of the frames with these numbers, ascending and each once.

    No more than a frame is unpacked at a time. Frames that lie in streams of their own are skipped unread.

    Raises:
        DataError: the file is missing, truncated, packed otherwise, or has fewer frames.
    """
    try:
        with path.open("rb") as file:
            read = _frames if _has_lengths(file) else _whole
            found = list(read(file, numbers, path))
    except OSError as error:
        raise FAULTS.unreadable(path, error) from error
    return np.stack(found) if found else np.empty((0, *SIZE), np.float32)


def _has_lengths(file: BinaryIO) -> bool:
    """Whether the file begins with a length and, after so many bytes, has another. A deflated stream may begin with
    what could be a length, but what stands at any place further on is as good as random.
    """
    size = os.fstat(file.fileno()).st_size
    first = int.from_bytes(file.read(4), "little")
    file.seek(4 + first)
    second = int.from_bytes(file.read(4), "little")
    file.seek(0)
    return 0 < first <= _MOST and (size < first + 8 or 0 < second <= _MOST)


def _frames(file: BinaryIO, numbers: Sequence[int], path: Path) -> Iterator[Float32[np.ndarray, "y x"]]:
    at = 0
    for number in numbers:
        while True:
            head = file.read(4)
            length = int.from_bytes(head, "little")
            if len(head) < 4:
                raise FAULTS.damaged(path, f"truncated: it ends before frame {number}, in frame {at}")
            if not 0 < length <= _MOST:
                raise FAULTS.damaged(path, f"frame {at} says {length} bytes, and no frame has more than {_MOST}")
            at += 1
            if at > number:
                break
            file.seek(length, os.SEEK_CUR)
        packed = file.read(length)
        if len(packed) < length:
            raise FAULTS.damaged(path, f"truncated: it ends inside frame {number}")
        yield _unpacked(packed, f"{path}: frame {number}")


def _unpacked(packed: bytes, where: str) -> Float32[np.ndarray, "y x"]:
    """Of one frame, as an LZ4 block or a deflated stream."""
    from numcodecs import lz4

    try:
        # The library keeps the length before the block; it refuses what unpacks to another one.
        plain = lz4.decompress(_MILLIMETRES.to_bytes(4, "little") + packed)
        return (np.frombuffer(plain, "<u2").reshape(SIZE) / PER_METRE).astype(np.float32)
    except (RuntimeError, ValueError):
        stream = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        plain = stream.decompress(packed, _METRES + 1)
    except zlib.error as error:
        raise FAULTS.damaged(
            where, f"neither an LZ4 block of 256x192 pixels nor a deflated stream ({error})"
        ) from error
    if len(plain) != _METRES or not stream.eof:
        raise FAULTS.damaged(where, f"unpacks to other than the {_METRES} bytes of 256x192 float32")
    return _metres(plain)


def _whole(file: BinaryIO, numbers: Sequence[int], path: Path) -> Iterator[Float32[np.ndarray, "y x"]]:
    """Unpacks from the beginning, and keeps what is asked for."""
    stream, packed, at = zlib.decompressobj(wbits=-zlib.MAX_WBITS), b"", 0
    for number in numbers:
        plain = bytearray()
        while at <= number:
            try:
                plain += stream.decompress(packed, _METRES - len(plain))
            except zlib.error as error:
                what = f"neither frames with their lengths before them, nor one deflated stream ({error})"
                raise FAULTS.damaged(path, what) from error
            packed = stream.unconsumed_tail
            if len(plain) == _METRES:
                if at == number:
                    yield _metres(bytes(plain))
                plain.clear()
                at += 1
            elif not packed and (stream.eof or not (packed := file.read(_BLOCK))):
                raise FAULTS.damaged(path, f"truncated: it ends before frame {number}, in frame {at}")


def _metres(plain: bytes) -> Float32[np.ndarray, "y x"]:
    depth = np.frombuffer(plain, "<f4").reshape(SIZE)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
