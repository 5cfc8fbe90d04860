"""Pictures of CO3D: decoded whole or not at all, and stretched to one size."""

from __future__ import annotations

from collections.abc import Collection
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from extract.datasets._pictures import check_unforgiving, has_end
from extract.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_FILE = 256 << 20
"""A picture with more bytes is refused unread."""
FOREGROUND = 128
"""Least value of a mask's pixel that is the object: a probability of more than 0.5, times 255."""


def colours(path: Path, size: tuple[int, int], target: tuple[int, int]) -> UInt8[np.ndarray, "y x 3"]:
    """The photograph, stretched to `target` (height, width) by Pillow's antialiased bilinear filter.

    Raises:
        DataError: as `open_picture`; or it is black all over, as the release blanks withheld frames.
    """
    from PIL.Image import Resampling

    image = open_picture(path, size, ("RGB", "L")).convert("RGB")
    if image.getbbox() is None:
        raise DataError(f"{path}: black all over. The release blanks pictures that it withholds")
    return np.asarray(image.resize(target[::-1], Resampling.BILINEAR))


def foreground(path: Path, size: tuple[int, int]) -> Bool[np.ndarray, "y x"]:
    """Where the object is more probable than not."""
    shown: Bool[np.ndarray, "y x"] = np.asarray(open_picture(path, size, ("L",))) >= FOREGROUND
    return shown


def depth_map(path: Path, mask: Path | None, scale: float, size: tuple[int, int]) -> Float32[np.ndarray, "y x"]:
    """Planar z in the units of the sequence; 0 where it is unknown, not finite, or `mask` is zero.

    The 16 bits of a pixel are those of a float16 (`load_16big_png_depth` of pytorch3d.implicitron).
    """
    bits = np.ascontiguousarray(open_picture(path, size, ("I;16",)), np.uint16)
    with np.errstate(invalid="ignore", over="ignore"):
        depth = bits.view(np.float16).astype(np.float32) * np.float32(scale)
    valid = np.isfinite(depth) & (depth > 0)
    if mask is not None:
        valid &= np.asarray(open_picture(mask, size, ("1", "L"))) > 0
    return np.where(valid, depth, np.float32(0))


def open_picture(path: Path, size: tuple[int, int], modes: Collection[str]) -> Image:
    """A decoded JPEG or PNG that has to be of `size` (height, width) and one of Pillow's `modes`.

    Raises:
        DataError: it is missing, truncated, larger than `MAX_FILE` bytes, of another size or mode. Size and mode are
            looked at before any pixel is decoded.
    """
    from PIL import Image

    check_unforgiving(path)
    try:
        content = _content(path)
        with Image.open(BytesIO(content), formats=("JPEG", "PNG")) as image:
            if image.size != size[::-1] or image.mode not in modes:
                raise DataError(
                    f"{path}: {image.width}x{image.height} pixels of mode {image.mode}; its annotation says "
                    f"{size[1]}x{size[0]}, and the release stores such pictures as {' or '.join(modes)}"
                )
            image.load()
            if not has_end(content, image.format):
                raise ValueError("truncated: its end is missing")
            return image
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _content(path: Path) -> bytes:
    if (length := path.stat().st_size) > MAX_FILE:
        raise ValueError(f"{length} bytes, more than {MAX_FILE}")
    return path.read_bytes()
