"""Small ray-traced rooms with exact labels, and predictions that are wrong to a chosen degree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASSES = ["wall", "floor", "ceiling", "chair", "table", "lamp", "plant", "box"]
THINGS = CLASSES[3:]
_ROOM = np.array([5.0, 2.6, 4.0])


@dataclass(frozen=True)
class Room:
    """Views of one room; arrays as in an `Example`."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    instance: NDArray[np.int32]
    classes: NDArray[np.uint8]
    intrinsics: NDArray[np.float64]
    cam_to_world: NDArray[np.float64]


def _look_at(eye: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = eye
    return pose


def _box(origin, rays, low, high):
    with np.errstate(divide="ignore"):
        near, far = (low - origin) / rays, (high - origin) / rays
    enter, leave = np.minimum(near, far), np.maximum(near, far)
    return enter.max(axis=-1), leave.min(axis=-1), enter.argmax(axis=-1), leave.argmin(axis=-1)


def room(seed: int, views: int = 4, size: int = 64) -> Room:
    """Return `views` views of a room with some boxes in it. World axes: x right, y down, z forward, metres."""
    rng = np.random.default_rng(seed)
    things = []
    for _ in range(6):
        kind = int(rng.integers(len(THINGS)))
        extent = np.array([0.3, 0.3, 0.3]) + rng.uniform(0, 0.5, 3) * [1, 1.5, 1]
        spot = rng.uniform([0.6, 0, 1.0], [4.4, 0, 3.4])
        low = np.array([spot[0] - extent[0] / 2, _ROOM[1] - extent[1], spot[2] - extent[2] / 2])
        things.append((kind, low, low + extent))
    focal = 0.8 * size
    k = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])
    rows, columns = np.mgrid[:size, :size] + 0.5
    local = np.stack([(columns - size / 2) / focal, (rows - size / 2) / focal, np.ones((size, size))], axis=-1)
    palette = rng.integers(70, 230, (len(CLASSES) + 1, 3))
    out: dict[str, list[NDArray]] = {name: [] for name in ("rgb", "depth", "instance", "classes", "pose")}
    for view in range(views):
        angle = 0.3 + 0.35 * view
        pose = _look_at(np.array([0.5 + 0.9 * view, 1.2, 0.3]), np.array([2.5 + np.sin(angle), 1.7, 2.6]))
        rays = local @ pose[:3, :3].T
        origin = pose[:3, 3]
        _, depth, _, axis = _box(origin, rays, np.zeros(3), _ROOM)
        hit = origin + rays * depth[..., None]
        label = np.where(axis != 1, 1, np.where(hit[..., 1] > 1, 2, 3)).astype(np.uint8)
        instance = np.zeros(label.shape, np.int32)
        shade = np.array([0.9, 1.0, 0.75])[axis]
        for index, (kind, low, high) in enumerate(things):
            enter, leave, face, _ = _box(origin, rays, low, high)
            seen = (enter < leave) & (enter > 0.05) & (enter < depth)
            depth = np.where(seen, enter, depth)
            label = np.where(seen, 4 + kind, label).astype(np.uint8)
            instance = np.where(seen, index + 1, instance).astype(np.int32)
            shade = np.where(seen, np.array([0.7, 1.0, 0.85])[face], shade)
        colour = palette[label] * (shade * (1.1 - 0.08 * depth))[..., None]
        checks = ((np.floor((origin + rays * depth[..., None])[..., [0, 2]] / 0.4).sum(-1) % 2) * 14)[..., None]
        out["rgb"].append(np.clip(colour + np.where((label == 2)[..., None], checks, 0), 0, 255).astype(np.uint8))
        out["depth"].append(depth.astype(np.float32))
        out["instance"].append(instance)
        out["classes"].append(label)
        out["pose"].append(pose)
    arrays = {name: np.stack(values) for name, values in out.items()}
    return Room(
        arrays["rgb"],
        arrays["depth"],
        arrays["instance"],
        arrays["classes"],
        np.repeat(k[None], views, 0),
        arrays["pose"],
    )


def coarse(image: NDArray, cells: int, rng: np.random.Generator, wrong: float) -> NDArray:
    """Return label maps (view, y, x) read off a grid of `cells` cells, a share of which says something else."""
    size = image.shape[1]
    centres = ((np.arange(cells) + 0.5) * size / cells).astype(int)
    grid = image[:, centres[:, None], centres[None, :]]
    values = np.unique(image[image > 0]) if (image > 0).any() else np.array([1])
    grid = np.where(rng.random(grid.shape) < wrong, rng.choice(values, grid.shape), grid)
    rows = np.arange(size) * cells // size
    return grid[:, rows[:, None], rows[None, :]].astype(image.dtype)


def blurred_depth(depth: NDArray, rng: np.random.Generator, error: float) -> NDArray[np.float32]:
    """Return depth (view, y, x) smoothed over a coarse grid and off by a factor of about `1 +- error`."""
    from scipy.ndimage import gaussian_filter, zoom

    views, size, _ = depth.shape
    smooth = gaussian_filter(depth, (0, size * error * 0.3, size * error * 0.3))
    waves = zoom(rng.normal(0, error, (views, 6, 6)), (1, size / 6, size / 6), order=1)
    return (smooth * np.exp(waves)).astype(np.float32)
