"""Picture files, decoded whole or not at all: colours upright, depth in metres, ids as they are."""

from __future__ import annotations

import math
import os
import struct
import tokenize
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from extract.datasets._pictures import check_unforgiving, has_end
from extract.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = frozenset((".jpg", ".jpeg", ".png", ".webp"))
_FORMATS = ("JPEG", "PNG", "WEBP")
"""A picture is what its content says; many have a wrong ending."""
_COLOURS = ("RGB", "RGBA", "L", "LA", "P")
MOST_BYTES = 1 << 29
"""A larger file is refused unread: it is no single picture."""
_PNG_BITS = 24
"""Place of the bits per sample in a PNG file (ISO/IEC 15948, 11.2.2)."""
_ORIENTATION = 0x0112
"""EXIF tag: 1 = as stored; 2 to 8 = mirrored or turned when shown."""


def read_colours(path: Path) -> tuple[UInt8[np.ndarray, "y x 3"], bool]:
    """The picture as it is to be seen, and whether its EXIF orientation turned it. Transparency is left out.

    Raises:
        DataError: missing, truncated, no picture, or of other than 8 bits.
    """
    image = _decode(path)
    if image.mode not in _COLOURS:
        raise DataError(f"{path}: pixels of mode {image.mode}. Remedy: save it as 8-bit RGB or grey.")
    orientation = _orientation(image, path)
    image.info.pop("transparency", None)  # Pillow would warn that it is lost
    return _upright(np.asarray(image.convert("RGB")), orientation), orientation > 1


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) as seen, from the header alone. Raises `DataError`."""
    from PIL import Image

    try:
        with Image.open(path, formats=_FORMATS) as image:
            sideways = _orientation(image, path) >= 5
            return (image.width, image.height) if sideways else (image.height, image.width)
    except _errors() as error:
        raise _unreadable(path, error) from error


def _upright(image: UInt8[np.ndarray, "y x 3"], orientation: int) -> UInt8[np.ndarray, "rows columns 3"]:
    """What was stored as it is to be seen: the tag says on which sides of that row 0 and column 0 lie (TIFF 6.0)."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image[::-1] if orientation in (3, 4, 7, 8) else image)


def _orientation(image: Image, path: Path) -> int:
    """1 to 8. Many cameras write 0 for "unknown", which is as stored. Raises `DataError` if it cannot be read."""
    from PIL.Image import Exif

    try:
        Exif().load(image.info.get("exif", b""))  # getexif() forgives what opening the picture has stumbled over
        value = image.getexif().get(_ORIENTATION, 1)
        return int(value) if value in range(1, 9) else 1
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error) as error:
        raise DataError(
            f"{path}: its EXIF data cannot be read ({error}), so that it is not known how the picture is turned. "
            "Remedy: take it off (exiftool -all= FILE) if the picture is upright without it."
        ) from error


def read_depth(path: Path, scale: float) -> Float32[np.ndarray, "y x"]:
    """Depth, 0 = invalid: 16-bit PNG times `scale`, or .npy with floats as they are, where NaN, infinity and what is
    not above 0 are invalid. The unit is metres, unless the data set says another.

    Raises:
        DataError: missing, truncated, or of another kind.
    """
    if path.suffix.lower() == ".npy":
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is invalid
            depth = _read_npy(path).astype(np.float32)
        return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
    image = _decode(path, ("PNG",))
    if image.mode not in ("I;16", "I;16B"):
        raise DataError(
            f"{path}: pixels of mode {image.mode}; depth is a 16-bit PNG. Remedy: save it so, or as .npy of floats."
        )
    return (np.asarray(image) * scale).astype(np.float32)


def read_ids(path: Path) -> UInt16[np.ndarray, "y x"]:
    """Instance ids: grey PNG of 8 or 16 bits, or one with a palette, whose indices are the ids. Raises `DataError`."""
    image = _decode(path, ("PNG",))
    if image.mode not in ("L", "P", "I;16", "I;16B"):
        raise DataError(
            f"{path}: pixels of mode {image.mode}; ids are grey PNGs of 8 or 16 bits. Remedy: save ids, not colours."
        )
    if image.mode == "L" and (bits := path.read_bytes()[_PNG_BITS]) != 8:  # Pillow spreads them over 0 to 255
        raise DataError(
            f"{path}: grey of {bits} bits; ids are grey PNGs of 8 or 16 bits. Remedy: save it so; programs that make "
            "PNG files smaller change that."
        )
    return np.asarray(image).astype(np.uint16)


def _decode(path: Path, formats: tuple[str, ...] = _FORMATS) -> Image:
    """A decoded picture. Raises `DataError` if any byte of it is missing: Pillow alone forgives a missing end."""
    from PIL import Image

    check_unforgiving(path)
    try:
        content = _content(path)
        with Image.open(BytesIO(content), formats=formats) as image:
            image.load()
    except _errors() as error:
        raise _unreadable(path, error) from error
    if not has_end(content, image.format):
        raise DataError(f"{path}: truncated, its end is missing. Remedy: copy it anew.")
    return image


def _read_npy(path: Path) -> np.ndarray:
    """A matrix of floats whose header and length agree; nothing is unpickled."""
    try:
        content = _content(path)
        stream = BytesIO(content)
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (OSError, ValueError, TypeError, LookupError, SyntaxError, RecursionError, tokenize.TokenError) as error:
        raise _unreadable(path, error) from error
    body = memoryview(content)[stream.tell() :]
    sides = len(shape) == 2 and min(shape) > 0
    if dtype.kind != "f" or not sides or len(body) != math.prod(shape) * dtype.itemsize:
        raise DataError(
            f"{path}: {len(body)} bytes of {dtype} for shape {shape}; depth is a matrix of floats. "
            "Remedy: np.save a 2-D float array, or copy it anew."
        )
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C")


def _content(path: Path) -> bytes:
    """Raises `OSError`, and `ValueError` for what is too large to be one picture."""
    if (length := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{length} bytes, more than {MOST_BYTES}")
    return path.read_bytes()


def _errors() -> tuple[type[Exception], ...]:
    """What Pillow raises at files that are no pictures, damaged, or far too large."""
    from PIL import Image, UnidentifiedImageError

    return OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: missing. Remedy: copy the recording anew.")
    empty = os.path.isfile(path) and not path.stat().st_size  # that of pathlib fails for names that are too long
    why = (str(error) or repr(error)).splitlines()[0]
    what = "an empty file" if empty else f"cannot be read as a picture or matrix ({why})"
    return DataError(f"{path}: {what}. Remedy: copy it anew, or take it out of the recording.")
