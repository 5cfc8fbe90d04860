"""What every format of poses says of a picture: its name, where the camera was, and how it maps rays to pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from extract.errors import DataError

PERSPECTIVE = frozenset(
    ("SIMPLE_PINHOLE", "PINHOLE", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
)
"""Camera models that are a pinhole once all their distortion coefficients are 0. A fisheye is none even then."""
MOST_SIDE = 1 << 20
"""No side of a picture has so many pixels."""
SHAPE_TOLERANCE = 0.01
"""Two pictures have one shape if their height / width differs by less than this share: sizes are rounded to pixels."""


@dataclass(frozen=True)
class Camera:
    """Intrinsics.

    Attributes:
        model: as COLMAP names it: `PINHOLE`, `OPENCV`, …
        size: (height, width) of the pictures that the other numbers are meant for; `None` = those that are there.
        focal: (x, y) in pixels.
        centre: (x, y) of the principal point in pixels; the centre of the first pixel is (0.5, 0.5).
        distortion: coefficients that are not 0.
    """

    model: str
    size: tuple[int, int] | None
    focal: tuple[float, float]
    centre: tuple[float, float]
    distortion: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_pinhole(self) -> bool:
        """Whether straight lines stay straight, so that a 3x3 matrix says all."""
        return self.model in PERSPECTIVE and not self.distortion

    def intrinsics(self, size: tuple[int, int], where: str) -> Float64[np.ndarray, "3 3"]:
        """Matrix for pictures of another `size` (height, width) that show the same.

        Raises:
            DataError: the camera is no pinhole, or pictures of that size have another shape. `where` names it.
        """
        if not self.is_pinhole:
            raise DataError(
                f"{where}: camera model {self.model} with {dict(self.distortion) or 'a fisheye lens'}; only pinholes "
                "are read. Remedy: undistort the pictures (COLMAP: colmap image_undistorter), and use what it writes."
            )
        if not np.isfinite([*self.focal, *self.centre]).all() or min(self.focal) <= 0:
            raise DataError(f"{where}: focal lengths {self.focal}, principal point {self.centre}: no camera has those.")
        if self.size is not None and not same_shape(self.size, size):
            raise DataError(
                f"{where}: the camera is of pictures of {self.size[1]}x{self.size[0]} pixels, but the picture has "
                f"{size[1]}x{size[0]}, another shape. Remedy: use the pictures that the poses were made from."
            )
        high, wide = (1.0, 1.0) if self.size is None else (size[0] / self.size[0], size[1] / self.size[1])
        (fx, fy), (cx, cy) = self.focal, self.centre
        return np.array([[fx * wide, 0, cx * wide], [0, fy * high, cy * high], [0, 0, 1.0]])


@dataclass(frozen=True)
class PosedImage:
    """A picture of which a file of poses tells.

    Attributes:
        name: as the file has it, with `/` between folders.
        cam_to_world: OpenCV axes, unit of the file; all zero = unknown.
        camera: its intrinsics.
    """

    name: str
    cam_to_world: Float64[np.ndarray, "4 4"]
    camera: Camera


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes (height, width) have the same ratio, but for rounding."""
    return abs(one[0] * other[1] - one[1] * other[0]) <= SHAPE_TOLERANCE * one[0] * other[1]
