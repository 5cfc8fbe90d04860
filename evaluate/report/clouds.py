"""Depth maps and point maps as points in space, true and predicted, packed small enough to travel inside the page."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

from evaluate.schema import Example

MAX_POINTS = 8_000
_STEPS = 65_535


@dataclass(frozen=True)
class Cloud:
    """Points of the same pixels twice, as base64 of little-endian uint16 triples, with uint8 colours.

    Coordinates lie in the first view's camera frame (x right, y down, z forward); a step is `step` metres, and 0
    stands for `-step * 32767`, relative to `centre`.
    """

    truth: str
    prediction: str
    colours: str
    points: int
    step: float
    centre: tuple[float, float, float]
    radius: float
    placed: str
    """How these points came to their places."""


def unproject(
    depth: Float[np.ndarray, "view y x"],
    intrinsics: Float[np.ndarray, "view 3 3"],
    cam_to_world: Float[np.ndarray, "view 4 4"],
) -> Float[np.ndarray, "view y x 3"]:
    """Return the points of all pixels in the first view's camera frame, from planar depth in metres.

    Pixel (column i, row j) has its centre at (i + 0.5, j + 0.5); axes are OpenCV's.
    """
    _, height, width = depth.shape
    rows, columns = np.mgrid[:height, :width] + 0.5
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    rays: NDArray[np.float64] = np.einsum("vij,yxj->vyxi", np.linalg.inv(intrinsics), pixels)
    to_first: NDArray[np.float64] = np.linalg.inv(cam_to_world[0]) @ cam_to_world
    local = rays * depth[..., None]
    points: NDArray[np.float64] = np.einsum("vij,vyxj->vyxi", to_first[:, :3, :3], local)
    points += to_first[:, None, None, :3, 3]
    return points


Points = Float[np.ndarray, "point 3"]


def clouds_of(example: Example) -> tuple[Points, Points, UInt8[np.ndarray, "point 3"]] | None:
    """Return true points, predicted ones and their colours, where both are known, in the first view's camera frame.

    From depth through the true cameras, or from point maps; None if the example lacks what they are made of.
    """
    arrays = example.arrays
    if {"rgb", "depth", "depth_pred", "intrinsics", "cam_to_world"} <= set(arrays):
        camera = (arrays["intrinsics"].astype(np.float64), arrays["cam_to_world"].astype(np.float64))
        sides = [unproject(arrays[name].astype(np.float64), *camera) for name in ("depth", "depth_pred")]
        valid, colours = arrays["depth"] > 0, arrays["rgb"]
    elif {"points", "points_pred", "points_valid", "points_rgb"} <= set(arrays):
        sides = [arrays[name].astype(np.float64) for name in ("points", "points_pred")]
        valid, colours = arrays["points_valid"], arrays["points_rgb"]
    else:
        return None
    valid = valid & np.isfinite(sides[1]).all(axis=-1)
    return sides[0][valid], sides[1][valid], colours[valid]


def cloud(example: Example, *, points: int = MAX_POINTS, seed: int = 0) -> Cloud | None:
    """Return the clouds of an example; None if it lacks what they are made of, or any valid pixel."""
    found = clouds_of(example)
    if found is None or not len(found[0]):
        return None
    chosen = np.random.default_rng(seed).choice(len(found[0]), min(points, len(found[0])), replace=False)
    truth, guess, colours = (side[chosen] for side in found)
    centre = np.median(truth, axis=0)
    radius = float(np.percentile(np.linalg.norm(truth - centre, axis=1), 98))
    # Room for predictions that lie far out; those beyond are put on the wall of the box.
    step = 8 * max(radius, 1e-6) / _STEPS
    packed = [
        np.clip(np.rint((side - centre) / step) + _STEPS // 2, 0, _STEPS).astype("<u2").tobytes()
        for side in (truth, guess)
    ]
    first, second, third = (
        base64.b64encode(data).decode() for data in (*packed, np.ascontiguousarray(colours, np.uint8).tobytes())
    )
    x, y, z = (round(float(value), 4) for value in centre)
    placed = "by depth and the true cameras" if "depth" in example.arrays else "after the best similarity to the truth"
    return Cloud(first, second, third, len(chosen), step, (x, y, z), round(radius, 4), placed)
