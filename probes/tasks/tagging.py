"""Tagging: which kinds of things can be seen in a few views of a scene?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from numpy.typing import NDArray
from torch import Tensor

from probes.labels import ClipLabels, PixelPool
from probes.losses import tagging_loss
from probes.sampling import GridMap
from probes.tasks.base import Arrays, Task, Tensors

VISIBLE = 200 / 256**2
"""A class is there if its pixels, summed over the views asked about, are this share of one image: 200 of 256 x 256."""


class TaggingTask(Task):
    """Mean over the cells of a view -> linear -> one logit per thing class.

    A probe learns what each single view shows: a room is a handful of samples that way, not one. It claims a class for
    several views by noisy-or, 1 - prod over views of (1 - p), the probability that at least one shows it if the views'
    errors are independent (Maron & Lozano-Perez 1998, "A framework for multiple-instance learning").
    """

    name = "tagging"
    fields = frozenset({"class_pixels"})
    layout = "views"

    @property
    def classes(self) -> list[str]:
        """Thing classes."""
        return self.space.thing_names

    @property
    def outputs(self) -> int:
        """One logit per thing class."""
        return len(self.space.thing_ids)

    def sample(
        self, pool: PixelPool, frames: Integer[np.ndarray, " view"], pixels: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """`labels` (view, thing) bool: what each view shows."""
        return {"labels": self._visible(pool["class_pixels"][frames][:, None])}

    def prior(self, targets: Tensors) -> Float[Tensor, " output"]:
        """Log odds of each class in a view, with one view added to either side."""
        views = targets["labels"].flatten(0, -2)
        present = views.sum(0)
        return torch.log((present + 1) / (len(views) - present + 1))

    def loss(self, outputs: Tensor, targets: Tensors) -> Float[Tensor, ""]:
        """Binary cross entropy."""
        return tagging_loss(outputs, targets["labels"])

    def target(self, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]) -> dict[str, NDArray[Any]]:
        """`labels` (window, thing) bool: what the views of a window show together."""
        return {"labels": self._visible(labels.class_pixels[windows])}

    def pad(self, arrays: Arrays, windows: int) -> Arrays:
        """Add windows where nothing is and nothing is claimed: they rank last, and are neither hit nor miss."""
        return {name: np.pad(array, ((0, windows - len(array)), (0, 0))) for name, array in arrays.items()}

    def predict(self, outputs: Tensor, grid_map: GridMap) -> dict[str, NDArray[Any]]:
        """`scores` (window, thing), probabilities in float64, where sure claims still differ from each other."""
        nowhere = torch.nn.functional.logsigmoid(-outputs.double()).sum(1)
        return {"scores": -torch.expm1(nowhere).cpu().numpy()}

    def _visible(self, pixels: Integer[np.ndarray, "window view class"]) -> Bool[np.ndarray, "window thing"]:
        things = pixels.sum(1)[:, np.array(self.space.thing_ids) - 1]
        return np.asarray(things >= VISIBLE * self.space.height * self.space.width)
