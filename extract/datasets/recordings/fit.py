"""Pictures of any size to one size: scaled until they cover it, and what juts out cut off on both sides alike.

So nothing is squeezed, and a pinhole stays a pinhole. Pictures of the same shape lose nothing.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Shaped, UInt8


def crop_box(size: tuple[int, int], target: tuple[int, int]) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of what is kept of a picture of `size` (height, width), in its pixels."""
    scale = max(target[0] / size[0], target[1] / size[1])
    height, width = min(target[0] / scale, size[0]), min(target[1] / scale, size[1])
    left, top = (size[1] - width) / 2, (size[0] - height) / 2
    return left, top, left + width, top + height


def fit_picture(image: UInt8[np.ndarray, "y x 3"], target: tuple[int, int]) -> UInt8[np.ndarray, "rows columns 3"]:
    """Colours, by an anti-aliased triangle kernel."""
    size = image.shape[0], image.shape[1]
    if size == target:
        return image
    from PIL import Image

    fitted = Image.fromarray(image).resize(target[::-1], Image.Resampling.BILINEAR, box=crop_box(size, target))
    return np.asarray(fitted)


def fit_labels(labels: Shaped[np.ndarray, "y x"], target: tuple[int, int]) -> Shaped[np.ndarray, "rows columns"]:
    """Depth or ids: the label of the pixel that the new pixel's centre lies in; nothing is mixed."""
    left, top, right, bottom = crop_box((labels.shape[0], labels.shape[1]), target)
    rows, columns = _nearest(top, bottom, target[0]), _nearest(left, right, target[1])
    return np.asarray(labels[np.ix_(rows, columns)])


def fit_intrinsics(
    matrix: Float64[np.ndarray, "3 3"], size: tuple[int, int], target: tuple[int, int]
) -> Float64[np.ndarray, "3 3"]:
    """Pinhole of the fitted picture: x' = (x - left) W' / (right - left), and so for y."""
    left, top, right, bottom = crop_box(size, target)
    wide, high = target[1] / (right - left), target[0] / (bottom - top)
    to_fitted = np.array([[wide, 0, -left * wide], [0, high, -top * high], [0, 0, 1.0]])
    return np.asarray(to_fitted @ matrix)


def _nearest(first: float, last: float, count: int) -> Shaped[np.ndarray, " count"]:
    centres = first + (np.arange(count) + 0.5) * (last - first) / count
    return np.floor(centres).astype(np.int64)
