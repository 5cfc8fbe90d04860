"""Geometry of depth images: rays, points, and how much of a view other views see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def intrinsics(fov: float, width: int, height: int) -> Array:
    """Pinhole 3x3 matrix in pixels; the image spans [0, width] so pixel centres are at integer + 0.5."""
    f = width / 2 / np.tan(np.radians(fov) / 2)
    return np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1]])


def rays(k: Array, width: int, height: int, step: int = 1) -> Array:
    """Camera rays with z = 1 through every `step`-th pixel centre, (rows, columns, 3)."""
    u = np.arange(step // 2, width, step) + 0.5
    v = np.arange(step // 2, height, step) + 0.5
    x, y = np.meshgrid((u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1])
    return np.stack([x, y, np.ones_like(x)], -1)


def seen_by(
    depth: Array, pose: Array, other_depth: Array, other_pose: Array, k: Array, ray: Array,
    tolerance: float = 0.05,
) -> tuple[NDArray[np.bool_], Array]:  # fmt: skip
    """Which pixels of a view another view sees too.

    `depth` belongs to `ray` (rows, columns, 3); `other_depth` is a full image of the camera `k`. A pixel is seen when
    its point falls into the other image and the depth found there agrees within `tolerance` (relative). Returns the
    mask and the relative depth error (infinite where the point falls outside).
    """
    points = (depth[..., None] * ray) @ pose[:3, :3].T + pose[:3, 3]
    local = (points - other_pose[:3, 3]) @ other_pose[:3, :3]
    z = local[..., 2]
    front = z > 1e-3
    safe = np.where(front, z, 1.0)
    height, width = other_depth.shape
    u = np.floor(k[0, 0] * local[..., 0] / safe + k[0, 2])
    v = np.floor(k[1, 1] * local[..., 1] / safe + k[1, 2])
    inside = front & (u >= 0) & (v >= 0) & (u < width) & (v < height)
    found = other_depth[np.where(inside, v, 0).astype(int), np.where(inside, u, 0).astype(int)]
    error = np.where(inside & (found > 0), np.abs(found - z) / safe, np.inf)
    return (error < tolerance) & (depth > 0), error


def co_visible(depths: Array, poses: Array, k: Array, views: NDArray[np.int64], step: int = 1) -> list[float]:
    """For each of `views`, the share of its pixels that at least one other of `views` sees."""
    _, height, width = depths.shape
    ray = rays(k, width, height, step)
    shares = []
    for i in views:
        depth = depths[i, step // 2 :: step, step // 2 :: step]
        seen = np.zeros(depth.shape, bool)
        for j in views:
            if j != i:
                seen |= seen_by(depth, poses[i], depths[j], poses[j], k, ray)[0]
        shares.append(float(seen.mean()))
    return shares
