"""Pixels to points and poses to relative poses, in the project's conventions (OpenCV axes, camera-to-world, metres)."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from numpy.typing import NDArray

JUMP = 0.02
"""Bend of the inverse depth, relative to itself, from which neighbouring pixels are not one surface. On a step between
two surfaces that face the camera it is the step's share of the depth; on a plane it is 0, however the plane slants."""


def unproject(
    xy: Float[np.ndarray, "*batch 2"], depth: Float[np.ndarray, "*batch"], intrinsics: Float[np.ndarray, "*batch 3 3"]
) -> Float[np.ndarray, "*batch 3"]:
    """Points in the camera's own frame (metres) that lie at planar depth z behind image positions `xy` (pixels).

    Pinhole model, Hartley & Zisserman (2004), eq. 6.1 with the skew s of eq. 6.10, inverted: Y = z (y - c_y) / f_y,
    X = (z (x - c_x) - s Y) / f_x, Z = z.
    The centre of pixel (column i, row j) is at xy = (i + 0.5, j + 0.5).
    """
    y = (xy[..., 1] - intrinsics[..., 1, 2]) / intrinsics[..., 1, 1]
    x = (xy[..., 0] - intrinsics[..., 0, 2] - intrinsics[..., 0, 1] * y) / intrinsics[..., 0, 0]
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


def project(
    points: Float[np.ndarray, "*batch 3"], intrinsics: Float[np.ndarray, "*#batch 3 3"]
) -> Float[np.ndarray, "*batch 2"]:
    """Image positions (pixels) of points in the camera's own frame; the inverse of `unproject`.

    Points beside or behind the camera (z <= 0) are nowhere in the picture: NaN.
    """
    z = np.where(points[..., 2] > 0, points[..., 2], np.nan)
    x, y = points[..., 0] / z, points[..., 1] / z
    column = intrinsics[..., 0, 0] * x + intrinsics[..., 0, 1] * y + intrinsics[..., 0, 2]
    return np.stack([column, intrinsics[..., 1, 1] * y + intrinsics[..., 1, 2]], -1)


def normals_from_depth(
    depth: Float[np.ndarray, "frame y x"], intrinsics: Float[np.ndarray, "frame 3 3"]
) -> Float32[np.ndarray, "frame y x 3"]:
    """Unit normals of the surfaces seen, in each camera's own frame, facing the camera: <n, p> < 0.

    The least-squares plane of each 3 x 3 neighbourhood, fitted to inverse depth: all points p = z r of a plane
    <m, p> = 1, r being the ray through a pixel with r_z = 1, have 1 / z = <m, r>, which is linear in the pixel's
    position. Hence m follows from the slopes of 1 / z, without error on a plane, and n = -m / ||m|| (Fan et al. 2021,
    "Three-filters-to-normal", arXiv 2005.08165, with a fit over nine pixels for its filters).

    Args:
        depth: planar, 0 = unknown.
        intrinsics: in pixels of these images.

    Returns:
        The zero vector where there is no normal: along the border, where one of the nine depths is unknown, and where
        they are not one surface: where, through the centre in one of four directions, |w_- + w_+ - 2 w| >= `JUMP` w,
        with w = 1 / z.
    """
    normals = np.zeros((*depth.shape, 3), np.float32)
    if min(depth.shape[1:]) >= 3:
        for frame, image in enumerate(depth):  # one at a time, since there are nine arrays of each
            normals[frame, 1:-1, 1:-1] = _inner_normals(image.astype(np.float64), intrinsics[frame])
    return normals


def _inner_normals(
    depth: Float[np.ndarray, "y x"], intrinsics: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "inner_y inner_x 3"]:
    """Normals of the pixels that have eight neighbours."""
    height, width = depth.shape
    inverse = np.divide(1.0, depth, out=np.full(depth.shape, np.nan), where=depth > 0)
    # w[j, i]: inverse depth of the neighbour j - 1 rows down and i - 1 columns to the right.
    w = np.array([[inverse[j : height - 2 + j, i : width - 2 + i] for i in range(3)] for j in range(3)])
    right = (w[:, 2] - w[:, 0]).mean(0) / 2
    down = (w[2] - w[0]).mean(0) / 2
    rows, columns = np.mgrid[1 : height - 1, 1 : width - 1] + 0.5
    (focal_x, skew, centre_x), (_, focal_y, centre_y), _ = intrinsics.astype(np.float64)
    m_x = focal_x * right
    m_y = focal_y * down + skew * right
    m_z = w.mean((0, 1)) - (columns - centre_x) * right - (rows - centre_y) * down
    m = np.stack([m_x, m_y, m_z], -1)
    opposite = ((w[0, 0], w[2, 2]), (w[0, 1], w[2, 1]), (w[0, 2], w[2, 0]), (w[1, 0], w[1, 2]))
    bend = np.max([np.abs(one + other - 2 * w[1, 1]) for one, other in opposite], axis=0)
    known = bend < JUMP * w[1, 1]  # False where anything is NaN
    normals: NDArray[Any] = np.where(known[..., None], -m / np.linalg.norm(m, axis=-1, keepdims=True), 0.0)
    return normals
