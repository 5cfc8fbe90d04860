"""The unit of length of arXiv 2605.28132: the mean distance of all points of the first view from its camera."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from probes.geometry import unproject
from probes.labels import ClipLabels, PixelPool

FIELDS = frozenset({"depth", "confidence", "cam_to_world", "posed", "intrinsics", "calibrated"})


def unit_of(
    xy: Float[np.ndarray, "sample 2"], depth: Float[np.ndarray, " sample"], intrinsics: Float[np.ndarray, "3 3"]
) -> float:
    """Mean distance from the camera of points at planar `depth` behind image positions `xy`; 1 if none is known."""
    known = depth > 0
    if not known.any():
        return 1.0
    cameras = np.broadcast_to(intrinsics, (int(known.sum()), 3, 3))
    return float(np.linalg.norm(unproject(xy[known], depth[known].astype(np.float64), cameras), axis=-1).mean())


def unit_of_sample(pool: PixelPool, first: int) -> float:
    """Of a training sample, from all pixels of its first view that are kept: the same for every task."""
    frame, every = np.array([first]), np.arange(len(pool["depth"][first]))[None]
    return unit_of(pool.pixels(frame, every)[0], pool["depth"][first], pool["intrinsics"][first])


def units_of_windows(labels: ClipLabels, windows: NDArray[np.integer]) -> Float[np.ndarray, " window"]:
    """Of each evaluation window, from every pixel of its first view."""
    rows, columns = np.mgrid[: labels.space.height, : labels.space.width]
    xy = np.stack([columns.ravel(), rows.ravel()], -1) + 0.5
    return np.array([unit_of(xy, labels.depth[first].ravel(), labels.intrinsics[first]) for first in windows[:, 0]])
