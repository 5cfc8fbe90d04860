"""What a head is: from the standardised grids of one tap to the raw outputs of one task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Layout = Literal["cells", "views", "pairs"]
"""What a head speaks of: each cell; each view; view 0 and one other view."""

WEIGHT_STD = 0.01
"""Last weights start this small, so that a probe starts at its bias: the best prediction that ignores the features."""


class Grid:
    """Standardised features of one tap for some views of some clips, with what several heads share."""

    def __init__(self, cells: Float[Tensor, "clip view y x channel"]) -> None:
        self.cells = cells
        self._through: dict[nn.Module, Any] = {}

    @cached_property
    def views(self) -> Float[Tensor, "clip view channel"]:
        """Mean over the cells of each view."""
        return self.cells.mean((2, 3))

    @cached_property
    def pairs(self) -> Float[Tensor, "clip pair channel_twice"]:
        """For each view after the first: the mean of view 0, then the mean of that view."""
        return with_first(self.views)

    def through(self, trunk: nn.Module) -> Any:
        """What a trunk makes of the cells, computed once for all heads that stand on it."""
        if trunk not in self._through:
            self._through[trunk] = trunk(self.cells)
        return self._through[trunk]


def with_first(views: Float[Tensor, "clip view channel"]) -> Float[Tensor, "clip pair channel_twice"]:
    """For each view after the first: what view 0 has, then what that view has."""
    first = views[:, :1].expand(-1, views.shape[1] - 1, -1)
    return torch.cat([first, views[:, 1:]], -1)


class Head(nn.Module, ABC):
    """From a grid to the raw outputs of one task.

    Attributes:
        layouts: what it can speak of; a task of another layout cannot be probed with it.
        draws: whether its forward draws random numbers in training (dropout). It then runs under a seed of its own.
    """

    layouts: ClassVar[frozenset[Layout]]
    draws: ClassVar[bool] = False

    @abstractmethod
    def forward(self, grid: Grid) -> Float[Tensor, "clip *where output"]:
        """(clip, view, y, x, output) for cells, (clip, view, output) for views, (clip, view - 1, output) for pairs."""

    @abstractmethod
    def start_at(self, prior: Float[Tensor, " output"]) -> None:
        """Make the task's prior what is said, or nearly, before any training."""

    @abstractmethod
    def kept_numbers(self, views: int, cells: int) -> int:
        """About how many numbers the forward keeps for the backward, for a clip of `views` views of `cells` cells."""


def places(layout: Layout, views: int, cells: int) -> int:
    """How many places of a clip a head of this layout speaks of."""
    return {"cells": views * cells, "views": views, "pairs": views - 1}[layout]


def start_bias(bias: Tensor, prior: Float[Tensor, " output"]) -> None:
    """Set the last bias of a head to a prior."""
    with torch.no_grad():
        bias.copy_(prior)
