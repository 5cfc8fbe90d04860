"""Segmentation: which class, thing or stuff, is at each pixel?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from torch import Tensor

from probes.labels import ClipLabels, PixelPool
from probes.losses import segmentation_loss
from probes.sampling import GridMap, Upsampler
from probes.tasks.base import Task, Tensors, at_pixels


class SegmentationTask(Task):
    """Linear per cell -> class logits, read bilinearly at pixels."""

    name = "segmentation"
    fields = frozenset({"classes"})
    layout = "cells"
    framed = True

    @property
    def classes(self) -> list[str]:
        """All classes."""
        return list(self.space.names)

    @property
    def outputs(self) -> int:
        """One logit per class."""
        return len(self.space.names)

    def sample(
        self, pool: PixelPool, frames: Integer[np.ndarray, " view"], pixels: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """`xy`, and `classes` (view, sample): class ids, 0 where a view has none."""
        classes = pool["classes"][frames]
        index, valid = pool.draw(classes != 0, pixels, rng)
        drawn = np.take_along_axis(classes, index, axis=1)
        return {"xy": at_pixels(self.space, pool.pixels(frames, index)), "classes": np.where(valid, drawn, 0)}

    def prior(self, targets: Tensors) -> Float[Tensor, " output"]:
        """Log frequency of each class, with one pixel added to each."""
        counts = torch.bincount(targets["classes"].reshape(-1).long(), minlength=self.outputs + 1)[1:] + 1
        return torch.log(counts / counts.sum())

    def loss(self, outputs: Tensor, targets: Tensors) -> Float[Tensor, ""]:
        """Cross entropy."""
        return segmentation_loss(outputs, targets["classes"])

    def target(self, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]) -> dict[str, NDArray[Any]]:
        """`classes` (frame, y, x), 0 = ignored."""
        return {"classes": labels.classes}

    def predict(self, outputs: Tensor, grid_map: GridMap) -> dict[str, NDArray[Any]]:
        """`classes` (frame, y, x): the class of the largest upsampled logit, never 0."""
        frames = outputs[0]
        size = (self.space.height, self.space.width)
        upsample = Upsampler((frames.shape[1], frames.shape[2]), size, grid_map, frames.device)
        classes = torch.stack([upsample(frame).argmax(-1).to(torch.uint8) + 1 for frame in frames])
        return {"classes": classes.cpu().numpy()}
