"""Picture files, decoded whole or not at all: colours upright, depth in metres, ids as they are."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from extract.datasets._pictures import check_unforgiving
from extract.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = frozenset((".jpg", ".jpeg", ".png", ".webp"))
_FORMATS = ("JPEG", "PNG", "WEBP")
"""A picture is what its content says; many have a wrong ending."""
_COLOURS = ("RGB", "RGBA", "L", "LA", "P")
_ORIENTATION = 0x0112
"""EXIF tag: 1 = as stored; 2 to 8 = mirrored or turned when shown."""


def read_colours(path: Path) -> tuple[UInt8[np.ndarray, "y x 3"], bool]:
    """The picture as it is to be seen, and whether its EXIF orientation turned it. Transparency is left out.

    Raises:
        DataError: missing, truncated, no picture, or of other than 8 bits.
    """
    from PIL import ImageOps

    image = _decode(path)
    if image.mode not in _COLOURS:
        raise DataError(f"{path}: pixels of mode {image.mode}. Remedy: save it as 8-bit RGB or grey.")
    turned = image.getexif().get(_ORIENTATION, 1) != 1
    return np.asarray((ImageOps.exif_transpose(image) if turned else image).convert("RGB")), turned


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) as seen, from the header alone. Raises `DataError`."""
    from PIL import Image

    try:
        with Image.open(path, formats=_FORMATS) as image:
            sideways = image.getexif().get(_ORIENTATION, 1) >= 5
            return (image.width, image.height) if sideways else (image.height, image.width)
    except _errors() as error:
        raise _unreadable(path, error) from error


def read_depth(path: Path, scale: float) -> Float32[np.ndarray, "y x"]:
    """Metres, 0 = invalid: 16-bit PNG times `scale`, or .npy with floats in metres, where NaN, infinity and what is
    not above 0 are invalid.

    Raises:
        DataError: missing, truncated, or of another kind.
    """
    if path.suffix.lower() == ".npy":
        depth = _read_npy(path).astype(np.float32)
        return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
    image = _decode(path, ("PNG",))
    if image.mode not in ("I;16", "I;16B"):
        raise DataError(
            f"{path}: pixels of mode {image.mode}; depth is a 16-bit PNG. Remedy: save it so, or as .npy in metres."
        )
    return (np.asarray(image) * scale).astype(np.float32)


def read_ids(path: Path) -> UInt16[np.ndarray, "y x"]:
    """Instance ids: grey PNG of 8 or 16 bits, or one with a palette, whose indices are the ids. Raises `DataError`."""
    image = _decode(path, ("PNG",))
    if image.mode not in ("L", "P", "I;16", "I;16B"):
        raise DataError(
            f"{path}: pixels of mode {image.mode}; ids are grey PNGs of 8 or 16 bits. Remedy: save ids, not colours."
        )
    return np.asarray(image).astype(np.uint16)


def _decode(path: Path, formats: tuple[str, ...] = _FORMATS) -> Image:
    """A decoded picture. Raises `DataError` if any byte of it is missing: Pillow alone forgives a missing end."""
    from PIL import Image

    check_unforgiving(path)
    try:
        content = path.read_bytes()
        with Image.open(BytesIO(content), formats=formats) as image:
            image.load()
    except _errors() as error:
        raise _unreadable(path, error) from error
    if not _has_end(content, image.format):
        raise DataError(f"{path}: truncated, its end is missing. Remedy: copy it anew.")
    return image


def _has_end(content: bytes, kind: str | None) -> bool:
    """Whether the marker that ends a picture is there. Phones append videos after it."""
    if kind == "PNG":
        return b"IEND\xaeB`\x82" in content
    if kind == "WEBP":
        return int.from_bytes(content[4:8], "little") + 8 <= len(content)
    at = 2
    while content[at + 1 : at + 2] not in (b"\xda", b""):  # segments before the scan; a thumbnail lies in one of them
        at += 2 + max(int.from_bytes(content[at + 2 : at + 4], "big"), 1)
    return content.find(b"\xff\xd9", at) >= 0


def _read_npy(path: Path) -> np.ndarray:
    """A matrix of floats whose header and length agree; nothing is unpickled."""
    try:
        content = path.read_bytes()
        stream = BytesIO(content)
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    body = content[stream.tell() :]
    if dtype.kind != "f" or len(shape) != 2 or len(body) != int(np.prod(shape)) * dtype.itemsize or not body:
        raise DataError(
            f"{path}: {len(body)} bytes of {dtype} for shape {shape}; depth is a matrix of floats. "
            "Remedy: np.save a 2-D float array in metres, or copy it anew."
        )
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C")


def _errors() -> tuple[type[Exception], ...]:
    """What Pillow raises at files that are no pictures, damaged, or far too large."""
    from PIL import Image, UnidentifiedImageError

    return OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: missing. Remedy: copy the recording anew.")
    empty = path.is_file() and not path.stat().st_size
    what = "an empty file" if empty else f"cannot be read as a picture or matrix ({str(error).splitlines()[0]})"
    return DataError(f"{path}: {what}. Remedy: copy it anew, or take it out of the recording.")
