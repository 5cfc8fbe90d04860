"""Depth as in arXiv 2605.28132: in units of the first view's mean distance, at confident pixels above all."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from torch import Tensor

from probes.alternating.dense import exponential
from probes.labels import ClipLabels, PixelPool
from probes.losses import weighted_depth_loss
from probes.sampling import GridMap, Upsampler
from probes.tasks.base import Task, Tensors, at_pixels, stack_windows
from probes.tasks.paper.scale import FIELDS, unit_of_sample, units_of_windows

DENSE_SIZE = (294, 518)
"""Rows and columns that the paper's dense heads answer for."""


class PaperDepthTask(Task):
    """Depth exp(z), loss c |d - g|. A second output, the confidence of the head itself, is there and never trained."""

    name = "depth"
    fields = FIELDS
    layout = "cells"
    dense_size = DENSE_SIZE

    @property
    def outputs(self) -> int:
        """Depth and confidence."""
        return 2

    def sample(
        self, pool: PixelPool, frames: Integer[np.ndarray, " view"], pixels: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """`xy`, `depth`, `confidence` (view, sample) and `valid`."""
        depth = pool["depth"][frames]
        index, valid = pool.draw(depth > 0, pixels, rng)
        unit = unit_of_sample(pool, int(frames[0]))
        return {
            "xy": at_pixels(self.space, pool.pixels(frames, index)),
            "depth": (np.take_along_axis(depth, index, axis=1) / unit).astype(np.float32),
            "confidence": np.take_along_axis(pool["confidence"][frames], index, axis=1),
            "valid": valid,
        }

    def prior(self, targets: Tensors) -> Float[Tensor, " output"]:
        """Log of the median depth, and 0 for the confidence."""
        known = targets["depth"][targets["valid"]]
        return torch.stack([known.median().log() if len(known) else known.new_zeros(()), known.new_zeros(())])

    def loss(self, outputs: Tensor, targets: Tensors) -> Float[Tensor, ""]:
        """L_depth."""
        said = exponential(outputs[..., 0])
        return weighted_depth_loss(said, targets["depth"], targets["confidence"], targets["valid"])

    def target(self, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]) -> dict[str, NDArray[Any]]:
        """`depth` (window, view, y, x), 0 = invalid, and `confidence`."""
        unit = units_of_windows(labels, windows)[:, None, None, None]
        return {
            "depth": (stack_windows(labels.depth, windows) / unit).astype(np.float32),
            "confidence": stack_windows(labels.confidence, windows),
        }

    def predict(self, outputs: Tensor, grid_map: GridMap) -> dict[str, NDArray[Any]]:
        """`depth` (window, view, y, x) at every pixel."""
        upsample = Upsampler(
            (outputs.shape[2], outputs.shape[3]), (self.space.height, self.space.width), grid_map, outputs.device
        )
        said = [[exponential(upsample(view)[..., 0]) for view in window] for window in outputs]
        return {"depth": torch.stack([torch.stack(window) for window in said]).cpu().numpy()}
