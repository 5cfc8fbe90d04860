"""Where things stand and whether they touch: boxes turned about the vertical axis."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Placement:
    """A model standing in a room. (x, y) is the middle of its footprint, z its underside, yaw counter-clockwise.

    `solid` is False for things that others may stand on or in (rugs, space kept free before a door).
    """

    model: str
    cls: str
    x: float
    y: float
    z: float
    yaw: float
    size: tuple[float, float, float]
    solid: bool = True

    def corners(self, margin: float = 0.0) -> NDArray[np.float64]:
        """The four corners of the footprint (4, 2), grown by `margin` on each side."""
        half = np.array(self.size[:2]) / 2 + margin
        signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
        angle = math.radians(self.yaw)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        corners: NDArray[np.float64] = signs * half @ turn.T + (self.x, self.y)
        return corners

    def local(self, dx: float, dy: float) -> tuple[float, float]:
        """The room point at (dx, dy) in this thing's own frame."""
        angle = math.radians(self.yaw)
        cos, sin = math.cos(angle), math.sin(angle)
        return self.x + cos * dx - sin * dy, self.y + sin * dx + cos * dy

    def distance(self, x: float, y: float) -> float:
        """Distance in the ground plane from a point to the footprint, 0 inside."""
        angle = math.radians(self.yaw)
        cos, sin = math.cos(angle), math.sin(angle)
        dx, dy = x - self.x, y - self.y
        u, v = abs(cos * dx + sin * dy), abs(-sin * dx + cos * dy)
        return math.hypot(max(u - self.size[0] / 2, 0), max(v - self.size[1] / 2, 0))


def facing(x: float, y: float, tx: float, ty: float) -> float:
    """The yaw with which a thing at (x, y) has its front to (tx, ty)."""
    return math.degrees(math.atan2(tx - x, y - ty))


def touch(a: Placement, b: Placement, margin: float = 0.0) -> bool:
    """Whether two boxes overlap (separating axes in the plane, interval in height)."""
    if a.z + a.size[2] <= b.z + 1e-6 or b.z + b.size[2] <= a.z + 1e-6:
        return False
    ca, cb = a.corners(margin), b.corners()
    for corners in (ca, cb):
        for axis in (corners[1] - corners[0], corners[2] - corners[1]):
            pa, pb = ca @ axis, cb @ axis
            if pa.max() <= pb.min() or pb.max() <= pa.min():
                return False
    return True
