"""Grouping: which pixels, over several views, belong to the same object?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from torch import Tensor

from probes.labels import ClipLabels, PixelPool
from probes.losses import grouping_loss, pair_weights
from probes.sampling import GridMap, Upsampler, pixel_centres
from probes.tasks.base import Task, Tensors, at_pixels, stack_windows

CHANNELS = 32
"""Size of an embedding, as in IGGT."""
EVALUATED = 128
"""Instances are compared at a regular subset of pixels, at most this many along each axis: finer than grids are."""


class GroupingTask(Task):
    """Linear per cell -> unit vector, near for pixels of one thing and far for pixels of two."""

    name = "grouping"
    fields = frozenset({"thing_instance"})
    layout = "cells"

    @property
    def outputs(self) -> int:
        """Channels of an embedding."""
        return CHANNELS

    def sample(
        self, pool: PixelPool, frames: Integer[np.ndarray, " view"], pixels: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """`xy`, and `ids` (view, sample), 0 where no thing is seen. Half the pixels, since cost grows with pairs."""
        instance = pool["thing_instance"][frames]
        index, valid = pool.draw(instance != 0, max(pixels // 2, 1), rng)
        drawn = np.take_along_axis(instance, index, axis=1)
        return {"xy": at_pixels(self.space, pool.pixels(frames, index)), "ids": np.where(valid, drawn, 0)}

    def share(self, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Pair weights over all views of each clip."""
        pull, push = pair_weights(targets["ids"].flatten(1))
        return targets | {"pull": pull, "push": push}

    def prior(self, targets: Tensors) -> Float[Tensor, " output"]:
        """No constant groups anything: zeros."""
        return torch.zeros(CHANNELS)

    def loss(self, outputs: Tensor, targets: Tensors) -> Float[Tensor, ""]:
        """Multi-view pull-push loss."""
        return grouping_loss(outputs.flatten(1, 2), targets["pull"], targets["push"])

    def target(self, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]) -> dict[str, NDArray[Any]]:
        """`instances` (window, view, y, x): ids of things, 0 elsewhere, at a regular subset of pixels."""
        rows, columns = pixel_centres(self.space.height, self.space.width, EVALUATED)
        return {"instances": stack_windows(labels.thing_instance[:, rows][:, :, columns], windows)}

    def predict(self, outputs: Tensor, grid_map: GridMap) -> dict[str, NDArray[Any]]:
        """`embeddings` (window, view, y, x, 32), unit vectors on the tap's own grid, spread over the whole image."""
        if grid_map != GridMap():
            grid = (outputs.shape[2], outputs.shape[3])
            spread = Upsampler(grid, grid, grid_map, outputs.device)
            outputs = torch.stack([torch.stack([spread(view) for view in window]) for window in outputs])
        return {"embeddings": F.normalize(outputs, dim=-1).cpu().numpy()}
