"""Normals: which way does the surface at each pixel face, as seen from the camera?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from torch import Tensor

from probes.labels import ClipLabels, PixelPool
from probes.losses import normals_loss
from probes.sampling import GridMap, Upsampler
from probes.tasks.base import Task, Tensors, at_pixels


class NormalsTask(Task):
    """Three numbers per cell, read bilinearly at pixels; their direction is the normal, in the camera's own frame."""

    name = "normals"
    fields = frozenset({"normals"})
    layout = "cells"
    framed = True

    @property
    def outputs(self) -> int:
        """x (right), y (down), z (forward)."""
        return 3

    def sample(
        self, pool: PixelPool, frames: Integer[np.ndarray, " view"], pixels: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """`xy`, `normals` (view, sample, 3) and `valid`."""
        normals = pool["normals"][frames]
        index, valid = pool.draw(normals.any(axis=-1), pixels, rng)
        drawn = np.take_along_axis(normals, index[..., None], axis=1)
        return {"xy": at_pixels(self.space, pool.pixels(frames, index)), "normals": drawn, "valid": valid}

    def prior(self, targets: Tensors) -> Float[Tensor, " output"]:
        """Mean normal, of unit length: the constant with the least loss. Without any: towards the camera."""
        mean = targets["normals"][targets["valid"]].sum(0)
        return F.normalize(mean, dim=0) if mean.any() else torch.tensor([0.0, 0.0, -1.0])

    def loss(self, outputs: Tensor, targets: Tensors) -> Float[Tensor, ""]:
        """1 - cosine."""
        return normals_loss(outputs, targets["normals"], targets["valid"])

    def target(self, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]) -> dict[str, NDArray[Any]]:
        """`normals` (frame, y, x, 3), 0 = invalid."""
        return {"normals": labels.normals}

    def predict(self, outputs: Tensor, grid_map: GridMap) -> dict[str, NDArray[Any]]:
        """`normals` (frame, y, x, 3) of unit length, from upsampled outputs."""
        frames = outputs[0]
        size = (self.space.height, self.space.width)
        upsample = Upsampler((frames.shape[1], frames.shape[2]), size, grid_map, frames.device)
        return {"normals": torch.stack([F.normalize(upsample(frame), dim=-1) for frame in frames]).cpu().numpy()}
