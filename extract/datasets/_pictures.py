"""What readers of pictures share: decoding without forgiveness, other sizes, and depth laid onto another camera."""

from __future__ import annotations

from io import BytesIO
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from extract.datasets._sources import Faults
from extract.errors import DataError

MOST_PIXELS = 1 << 25
"""No frame is near this (33 megapixels); a header that says more is not believed."""
_BORDER = 1e-4
"""Pixels. A ray on the border of two pixels takes the second, as `nearest` does, whatever float32 made of it."""


def check_unforgiving(where: object) -> None:
    """Raise `DataError` if Pillow was told to fill pixels that are missing. `where` names the picture."""
    from PIL import ImageFile

    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise DataError(
            f"{where}: PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, so that missing pixels would be filled silently. "
            "Remedy: do not set it."
        )


def has_end(content: bytes, form: str | None) -> bool:
    """Whether the marker that ends a picture of Pillow's format `form` is there, which Pillow forgives to be missing.

    Encoders pad, and phones append videos after it.
    """
    if form == "PNG":
        return b"IEND\xaeB`\x82" in content
    if form == "WEBP":
        return int.from_bytes(content[4:8], "little") + 8 <= len(content)
    at = 2
    # Segments before the scan, in one of which a thumbnail may lie, and what fills the space between them.
    while content[at : at + 1] == b"\xff" and (marker := content[at + 1 : at + 2]) not in (b"\xda", b""):
        at += 1 if marker == b"\xff" else 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return content.find(b"\xff\xd9", at) >= 0


def decode(
    content: bytes,
    form: Literal["JPEG", "PNG"],
    mode: str,
    where: object,
    size: tuple[int, int] | None,
    faults: Faults,
) -> Shaped[np.ndarray, "y x *channel"]:
    """The picture, which has to have Pillow's `mode` and, if given, the `size` (height, width).

    Raises:
        DataError: it is truncated, no such picture, or larger than `MOST_PIXELS`. Its size is checked before decoding.
    """
    from PIL import Image

    check_unforgiving(where)
    if not has_end(content, form):
        raise faults.damaged(where, f"truncated, the end of the {form} picture is missing")
    try:
        with Image.open(BytesIO(content), formats=[form]) as image:
            height, width = size or (image.height, image.width)
            if image.size != (width, height) or image.mode != mode or width * height > MOST_PIXELS:
                raise faults.damaged(
                    where,
                    f"a picture of {image.width}x{image.height} pixels, mode {image.mode}; expected "
                    f"{width}x{height}, mode {mode}, at most {MOST_PIXELS} pixels",
                )
            return np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise faults.unreadable(where, error) from error


def nearest(picture: Shaped[np.ndarray, "y x"], size: tuple[int, int]) -> Shaped[np.ndarray, "height width"]:
    """The picture stretched to `size` (height, width): each pixel is the one that its centre lies in."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for old, new in zip(picture.shape, size, strict=True)
    )
    stretched: Shaped[np.ndarray, "height width"] = picture[rows[:, None], columns]
    return stretched


def resized(image: UInt8[np.ndarray, "y x 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    """The whole picture at `size` (height, width), bilinear, anti-aliased when it shrinks."""
    from PIL import Image

    if image.shape[:2] == size:
        return image
    height, width = size
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def rescaled(matrix: Float[np.ndarray, "3 3"], old: tuple[int, int], new: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of a picture of size `new` (height, width) over the content of one of size `old`."""
    scaled: np.ndarray = np.diag([new[1] / old[1], new[0] / old[0], 1.0]) @ matrix
    return scaled


def laid_onto(
    depth: Float[np.ndarray, "y x"],
    matrix: Float[np.ndarray, "3 3"],
    target: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
) -> Float[np.ndarray, "height width"]:
    """Depth as another camera at the same place sees it; 0 where it looks past the picture.

    A pixel of the new picture takes the value of the pixel that its central ray meets: planar depth does not change
    with the intrinsics, and values on either side of an edge are never mixed.

    Args:
        depth: seen by a pinhole camera with intrinsics `matrix`, without skew.
        target: intrinsics of the new picture, without skew.
        size: (height, width) of the new picture.
    """
    rows, columns = (
        np.floor((np.arange(count) + 0.5 - target[k, 2]) / target[k, k] * matrix[k, k] + matrix[k, 2] + _BORDER)
        for k, count in ((1, size[0]), (0, size[1]))
    )
    rows, columns = rows.astype(np.intp), columns.astype(np.intp)
    inside = ((rows >= 0) & (rows < depth.shape[0]))[:, None] & (columns >= 0) & (columns < depth.shape[1])
    seen = depth[rows.clip(0, depth.shape[0] - 1)[:, None], columns.clip(0, depth.shape[1] - 1)]
    return np.where(inside, seen, 0).astype(depth.dtype)
