"""Tagging: which kinds of things can be seen in a few views of a scene?"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from numpy.typing import NDArray
from torch import Tensor

from evaluate.metrics.tagging import frequency_buckets
from probes.heads.base import Layout
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
    layout: ClassVar[Layout] = "views"
    constant = frozenset({"bucket"})
    least: ClassVar[float] = VISIBLE
    """Of the pixels of one image: what a class must fill to be there."""

    @property
    def ids(self) -> list[int]:
        """Ids of the classes that are asked about: things."""
        return self.space.thing_ids

    @property
    def classes(self) -> list[str]:
        """Names of these."""
        return [self.space.names[k - 1] for k in self.ids]

    @property
    def outputs(self) -> int:
        """One logit per class."""
        return len(self.ids)

    def sample(
        self, pool: PixelPool, frames: Integer[np.ndarray, " view"], pixels: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """`labels` (view, thing) bool: what each view shows."""
        return {"labels": self.visible(pool["class_pixels"][frames][:, None])}

    def prior(self, targets: Tensors) -> Float[Tensor, " output"]:
        """Log odds of each class in a view, with one view added to either side."""
        views = targets["labels"].flatten(0, -2)
        present = views.sum(0)
        return torch.log((present + 1) / (len(views) - present + 1))

    def loss(self, outputs: Tensor, targets: Tensors) -> Float[Tensor, ""]:
        """Binary cross entropy."""
        return tagging_loss(outputs, targets["labels"])

    def target(self, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]) -> dict[str, NDArray[Any]]:
        """`labels` (window, thing) bool: what the views of a window show together; `bucket` (thing): 0 = frequent.

        Buckets are by the share of training clips that show a class. See `evaluate.metrics.tagging.frequency_buckets`.
        """
        shown = {"labels": self.visible(labels.class_pixels[windows])}
        return shown | ({} if self.space.rates is None else {"bucket": frequency_buckets(np.array(self.space.rates))})

    def pad(self, arrays: Arrays, windows: int) -> Arrays:
        """Add windows where nothing is and nothing is claimed: they rank last, and are neither hit nor miss."""
        return {
            name: array if name in self.constant else np.pad(array, ((0, windows - len(array)), (0, 0)))
            for name, array in arrays.items()
        }

    def predict(self, outputs: Tensor, grid_map: GridMap) -> dict[str, NDArray[Any]]:
        """`scores` (window, thing), probabilities in float64, where sure claims still differ from each other."""
        nowhere = torch.nn.functional.logsigmoid(-outputs.double()).sum(1)
        return {"scores": -torch.expm1(nowhere).cpu().numpy()}

    def visible(self, pixels: Integer[np.ndarray, "window view class"]) -> Bool[np.ndarray, "window thing"]:
        """Which classes some views show together, by their pixels (see `ClipLabels.class_pixels`)."""
        asked = pixels.sum(1)[:, np.array(self.ids) - 1]
        return np.asarray(asked >= self.least * self.space.height * self.space.width)


class JointTaggingTask(TaggingTask):
    """The same for heads that look at all views of a clip together: one logit per class for the clip."""

    layout: ClassVar[Layout] = "clip"

    def sample(
        self, pool: PixelPool, frames: Integer[np.ndarray, " view"], pixels: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """`labels` (1, thing) bool: what the views show together."""
        return {"labels": self.visible(pool["class_pixels"][frames][None])}

    def predict(self, outputs: Tensor, grid_map: GridMap) -> dict[str, NDArray[Any]]:
        """`scores` (window, thing), probabilities in float64."""
        return {"scores": outputs[:, 0].double().sigmoid().cpu().numpy()}
