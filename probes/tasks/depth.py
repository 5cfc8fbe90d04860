"""Depth: how far away, in metres, is the surface at each pixel?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from torch import Tensor

from probes.labels import ClipLabels, PixelPool
from probes.losses import depth_loss
from probes.sampling import GridMap, Upsampler
from probes.tasks.base import Task, Tensors, at_pixels

DEPTH_RANGE = (0.05, 80.0)
"""Predictions are clipped to these metres: what a camera indoors or on a street can meet. Keeps exp() in bounds."""


class DepthTask(Task):
    """Linear per cell -> log depth, read bilinearly at pixels."""

    name = "depth"
    fields = frozenset({"depth"})
    layout = "cells"
    framed = True

    @property
    def outputs(self) -> int:
        """Log of the depth in metres."""
        return 1

    def sample(
        self, pool: PixelPool, frames: Integer[np.ndarray, " view"], pixels: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """`xy`, `log_depth` (view, sample) and `valid`."""
        depth = pool["depth"][frames]
        index, valid = pool.draw(depth > 0, pixels, rng)
        drawn = np.where(valid, np.take_along_axis(depth, index, axis=1), 1.0)
        xy = at_pixels(self.space, pool.pixels(frames, index))
        return {"xy": xy, "log_depth": np.log(drawn).astype(np.float32), "valid": valid}

    def prior(self, targets: Tensors) -> Float[Tensor, " output"]:
        """Median log depth, the constant with the least L1 error."""
        known = targets["log_depth"][targets["valid"]]
        return known.median()[None] if len(known) else known.new_zeros(1)

    def loss(self, outputs: Tensor, targets: Tensors) -> Float[Tensor, ""]:
        """L1 on log depth."""
        return depth_loss(outputs[..., 0], targets["log_depth"], targets["valid"])

    def target(self, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]) -> dict[str, NDArray[Any]]:
        """`depth` (frame, y, x) in metres, 0 = invalid."""
        return {"depth": labels.depth}

    def predict(self, outputs: Tensor, grid_map: GridMap) -> dict[str, NDArray[Any]]:
        """`depth` (frame, y, x) in metres, from upsampled log depth."""
        frames = outputs[0]
        size = (self.space.height, self.space.width)
        upsample = Upsampler((frames.shape[1], frames.shape[2]), size, grid_map, frames.device)
        depth = torch.stack([upsample(frame)[..., 0].exp().clamp(*DEPTH_RANGE) for frame in frames])
        return {"depth": depth.cpu().numpy()}
