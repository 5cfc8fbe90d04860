"""Pixels to points and poses to relative poses, in the project's conventions (OpenCV axes, camera-to-world, metres)."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray


def unproject(
    xy: Float[np.ndarray, "*batch 2"], depth: Float[np.ndarray, "*batch"], intrinsics: Float[np.ndarray, "*batch 3 3"]
) -> Float[np.ndarray, "*batch 3"]:
    """Points in the camera's own frame (metres) that lie at planar depth z behind image positions `xy` (pixels).

    Pinhole model, Hartley & Zisserman (2004), eq. 6.1 inverted: X = z (x - c_x) / f_x, Y = z (y - c_y) / f_y, Z = z.
    The centre of pixel (column i, row j) is at xy = (i + 0.5, j + 0.5).
    """
    x = (xy[..., 0] - intrinsics[..., 0, 2]) / intrinsics[..., 0, 0]
    y = (xy[..., 1] - intrinsics[..., 1, 2]) / intrinsics[..., 1, 1]
    return np.stack([x * depth, y * depth, depth], -1)


def to_first_view(cam_to_world: Float[np.ndarray, "*batch view 4 4"]) -> Float[np.ndarray, "*batch view 4 4"]:
    """Pose of every view in the frame of view 0: x_0 = T x_j with T = C_0^-1 C_j (C camera-to-world)."""
    poses: NDArray[Any] = np.linalg.inv(cam_to_world[..., :1, :, :]) @ cam_to_world
    return poses


def transform(
    pose: Float[np.ndarray, "*#batch 4 4"], points: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch 3"]:
    """Apply rigid poses to points; the batch axes of `pose` broadcast against those of `points`."""
    moved: NDArray[Any] = np.einsum("...ij,...j->...i", pose[..., :3, :3], points) + pose[..., :3, 3]
    return moved
