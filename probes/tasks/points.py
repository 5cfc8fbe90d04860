"""Points: where, in the first view's camera frame, is the surface at each pixel?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from numpy.typing import NDArray
from torch import Tensor

from probes.geometry import to_first_view, transform, unproject
from probes.labels import ClipLabels, PixelPool
from probes.losses import points_loss
from probes.sampling import GridMap, pixel_centres, sample_cells
from probes.tasks.base import Task, Tensors, at_pixels, stack_windows

EVALUATED = 64
"""Points are compared at a regular subset of pixels, at most this many along each axis of a view."""


class PointsTask(Task):
    """Linear per cell -> x, y, z in the first view's camera frame, in units of that view's mean point distance."""

    name = "points"
    fields = frozenset({"depth", "cam_to_world", "posed", "intrinsics", "calibrated"})
    layout = "cells"

    @property
    def outputs(self) -> int:
        """x, y, z."""
        return 3

    def sample(
        self, pool: PixelPool, frames: Integer[np.ndarray, " view"], pixels: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """`xy`, `points` (view, sample, 3) and `valid`; a clip whose first view has no depth is not valid anywhere."""
        return self._drawn(pool, frames, pixels, rng)[0]

    def _drawn(
        self, pool: PixelPool, frames: Integer[np.ndarray, " view"], pixels: int, rng: np.random.Generator
    ) -> tuple[dict[str, NDArray[Any]], Integer[np.ndarray, "view sample"]]:
        depth = pool["depth"][frames]
        placed = _placed(pool["posed"][frames], pool["calibrated"][frames])
        index, valid = pool.draw((depth > 0) & placed[:, None], pixels, rng)
        positions = pool.pixels(frames, index)
        drawn = np.take_along_axis(depth, index, axis=1)
        points = _points(positions, drawn, pool["intrinsics"][frames], to_first_view(pool["cam_to_world"][frames]))
        unit = np.linalg.norm(points[0], axis=-1).mean() if valid[0].any() else 1.0
        valid = valid & valid[0].any()
        drawn_targets = {
            "xy": at_pixels(self.space, positions),
            "points": (points / unit).astype(np.float32),
            "valid": valid,
        }
        return drawn_targets, index

    def prior(self, targets: Tensors) -> Float[Tensor, " output"]:
        """Mean point."""
        known = targets["points"][targets["valid"]]
        return known.mean(0) if len(known) else torch.zeros(3)

    def loss(self, outputs: Tensor, targets: Tensors) -> Float[Tensor, ""]:
        """Distance."""
        return points_loss(outputs, targets["points"], targets["valid"])

    def target(self, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]) -> dict[str, NDArray[Any]]:
        """`points` (window, view, y, x, 3) in metres and `valid`, at a regular subset of pixels."""
        rows, columns = self._evaluated
        depth = stack_windows(labels.depth[:, rows][:, :, columns], windows)
        shape = (*depth.shape[:2], -1)
        positions = np.broadcast_to(self._centres().reshape(-1, 2), (*depth.shape[:2], len(rows) * len(columns), 2))
        poses = to_first_view(stack_windows(labels.cam_to_world, windows))
        points = _points(positions, depth.reshape(shape), stack_windows(labels.intrinsics, windows), poses)
        placed = _placed(stack_windows(labels.posed, windows), stack_windows(labels.calibrated, windows))
        valid = (depth > 0) & placed[..., None, None]
        return {"points": points.astype(np.float32).reshape(*depth.shape, 3), "valid": valid}

    def predict(self, outputs: Tensor, grid_map: GridMap) -> dict[str, NDArray[Any]]:
        """`points` (window, view, y, x, 3) at the same pixels."""
        centres = self._centres()
        xy = torch.from_numpy(at_pixels(self.space, centres.reshape(-1, 2))).to(outputs.device)
        values = sample_cells(outputs, xy.expand(*outputs.shape[:2], -1, -1), grid_map)
        return {"points": values.reshape(*outputs.shape[:2], *centres.shape[:2], 3).cpu().numpy()}

    @property
    def _evaluated(self) -> tuple[Integer[np.ndarray, " y"], Integer[np.ndarray, " x"]]:
        return pixel_centres(self.space.height, self.space.width, EVALUATED)

    def _centres(self) -> Float[np.ndarray, "y x 2"]:
        rows, columns = self._evaluated
        return np.stack(np.meshgrid(columns, rows), -1) + 0.5


def _placed(
    posed: Bool[np.ndarray, "*batch view"], calibrated: Bool[np.ndarray, "*batch view"]
) -> Bool[np.ndarray, "*batch view"]:
    """Views whose points are known in the first view's frame: its own always are, others by both poses."""
    known = np.asarray(posed & posed[..., :1])
    known[..., 0] = True
    return np.asarray(known & calibrated)


def _points(
    xy: Float[np.ndarray, "*batch view sample 2"],
    depth: Float[np.ndarray, "*batch view sample"],
    intrinsics: Float[np.ndarray, "*batch view 3 3"],
    to_first: Float[np.ndarray, "*batch view 4 4"],
) -> Float[np.ndarray, "*batch view sample 3"]:
    """Surface points of every view in the first view's frame."""
    cameras = np.broadcast_to(intrinsics[..., None, :, :], (*depth.shape, 3, 3))
    return transform(to_first[..., None, :, :], unproject(xy, depth.astype(np.float64), cameras))
