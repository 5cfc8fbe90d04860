"""Whether a video file is as long as its own headers say, found without reading it through.

Demuxers take what there is of a file that was cut off, and say nothing.

Sources: ISO/IEC 14496-12 section 4.2 (boxes of MP4 and MOV); RFC 8794 section 4 and 5 and RFC 9559 section 5.1 (EBML
elements of Matroska and WebM); "Multimedia Programming Interface and Data Specifications 1.0", 1991 (RIFF, for AVI).
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067


def missing_bytes(path: Path) -> int:
    """How many bytes the file lacks at its end; 0 if none, or if its headers do not tell. Raises `OSError`."""
    size = path.stat().st_size
    with path.open("rb") as file:
        suffix = path.suffix.lower()
        if suffix in (".mkv", ".webm"):
            end = _matroska_end(file)
        elif suffix == ".avi":
            head = file.read(8)
            end = 8 + int.from_bytes(head[4:], "little") if head[:4] == b"RIFF" else 0
        else:
            end = _boxes_end(file, size)
    return max(end - size, 0)


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last top-level box ends."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:  # to the end of the file
            return size
        at += max(length, 8)
    return at


def _matroska_end(file: BinaryIO) -> int:
    """Where the segment ends; 0 if it does not say, as in live streams."""
    for wanted in (_EBML, _SEGMENT):
        if _vint(file, marker=True) != wanted:
            return 0
        length = _vint(file, marker=False)
        if length is None:
            return 0
        if wanted == _SEGMENT:
            return file.tell() + length
        file.seek(length, 1)
    return 0


def _vint(file: BinaryIO, *, marker: bool) -> int | None:
    """A number of variable length, with or without its length marker; `None` if it is not there or all ones."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    value = int.from_bytes(first + rest, "big")
    if len(rest) < length - 1:
        return None
    if marker:
        return value
    value &= (1 << 7 * length) - 1
    return None if value == (1 << 7 * length) - 1 else value
