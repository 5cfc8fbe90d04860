"""Grouping as in arXiv 2605.28132: every annotated instance counts, walls and floors among them."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Integer
from numpy.typing import NDArray

from probes.labels import ClipLabels, PixelPool
from probes.tasks.base import at_pixels, stack_windows
from probes.tasks.grouping import GroupingTask


class PaperGroupingTask(GroupingTask):
    """The pull-push loss over `pixels` of all views together (2048 in the paper), among those of any instance."""

    fields = frozenset({"instance"})

    def sample(
        self, pool: PixelPool, frames: Integer[np.ndarray, " view"], pixels: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """`xy`, and `ids` (view, sample), 0 where no instance is seen."""
        instance = pool["instance"][frames]
        index, valid = pool.draw(instance != 0, pixels, rng)
        drawn = np.take_along_axis(instance, index, axis=1)
        return {"xy": at_pixels(self.space, pool.pixels(frames, index)), "ids": np.where(valid, drawn, 0)}

    def target(self, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]) -> dict[str, NDArray[Any]]:
        """`instances` (window, view, y, x) of every pixel."""
        return {"instances": stack_windows(labels.instance, windows)}
