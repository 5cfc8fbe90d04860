"""What a head is: from the standardised grids of one tap to the raw outputs of one task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from probes.sampling import GridMap, read_cells

if TYPE_CHECKING:
    from probes.tasks.base import Task

Layout = Literal["cells", "views", "pairs", "clip", "poses"]
"""What a head speaks of: each cell; each view; view 0 and one other view; all views together; the pose of each view."""


class HeadSize(NamedTuple):
    """Width and depth of a head that can be had in several sizes."""

    width: int
    depth: int


class Form(NamedTuple):
    """What is asked of a head that can be had in several forms.

    Attributes:
        width, depth: as usual for the task if not asked for.
        trunk: of another head, which this one shall share.
    """

    width: int | None = None
    depth: int | None = None
    trunk: nn.Module | None = None


WEIGHT_STD = 0.01
"""Last weights start this small, so that a probe starts at its bias: the best prediction that ignores the features."""


class Grid:
    """Standardised features of one tap for some views of some clips, with what several heads share.

    Standardising is an affine map of each channel, so that it may come after a mean over cells or an interpolation
    between them. There it touches few numbers: a grid of which only these are asked for is never standardised whole.

    Args:
        features: of each cell.
        standardise: makes features, whose last axis is that of the channels, standardised ones in float32; without it
            they are that already.
    """

    def __init__(
        self,
        features: Num[Tensor, "clip view y x channel"],
        standardise: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._features, self._standardise = features, standardise or _as_they_are
        self._stored: Callable[[], Tensor] = lambda: self._features
        self._through: dict[nn.Module, Any] = {}

    @property
    def frames(self) -> int:
        """Views of a clip."""
        return self._features.shape[1]

    @cached_property
    def cells(self) -> Float[Tensor, "clip view y x channel"]:
        """All cells."""
        return self._standardise(self._features)

    @cached_property
    def raw(self) -> Float[Tensor, "clip view y x channel"]:
        """All cells as they were given, not standardised."""
        return self._stored().float()

    def windows(self, views: Int[Tensor, "window view"]) -> Grid:
        """The views of the first clip, as if its windows were clips."""
        grid = Grid(self.cells[0, views])
        grid._stored = lambda: self._features[0, views]
        return grid

    @cached_property
    def views(self) -> Float[Tensor, "clip view channel"]:
        """Mean over the cells of each view."""
        # View by view: what is in work at a time then stays in the cache.
        means = torch.stack([view.float().mean((0, 1)) for view in self._features.flatten(0, 1)])
        return self._standardise(means.view(*self._features.shape[:2], -1))

    def at(
        self, xy: Float[Tensor, "clip view sample 2"], grid_map: GridMap
    ) -> Float[Tensor, "clip view sample channel"]:
        """Bilinear values at normalised image positions, see `probes.sampling.sample_cells`."""
        return self._standardise(read_cells(self._features, xy, grid_map))

    @cached_property
    def pairs(self) -> Float[Tensor, "clip pair channel_twice"]:
        """For each view after the first: the mean of view 0, then the mean of that view."""
        return with_first(self.views)

    def through(self, trunk: nn.Module) -> Any:
        """What a trunk makes of the cells, computed once for all heads that stand on it."""
        if trunk not in self._through:
            self._through[trunk] = trunk(self.cells)
        return self._through[trunk]


def _as_they_are(features: Tensor) -> Tensor:
    return features


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

    @property
    def across(self) -> bool:
        """Whether what it says of a view depends on the other views of the clip."""
        return False

    @classmethod
    def build(cls, task: Task, channels: int, form: Form) -> Head:
        """A head for a task, with torch's generator.

        Args:
            task: what is asked; its layout is one of `layouts`.
            channels: channels of the tap.
            form: for heads that can be had in several; others have but one.
        """
        return cls(task.layout, channels, task.outputs)

    @abstractmethod
    def forward(self, grid: Grid) -> Float[Tensor, "clip *where output"]:
        """(clip, view, y, x, output) for cells, (clip, view, output) for views, (clip, view - 1, output) for pairs.

        (clip, 1, output) for a whole clip, (clip, iteration, view, 9) for poses.
        """

    @abstractmethod
    def start_at(self, prior: Float[Tensor, " output"]) -> None:
        """Make the task's prior what is said, or nearly, before any training."""

    @abstractmethod
    def kept_numbers(self, views: int, cells: int) -> int:
        """About how many numbers the forward keeps for the backward, for a clip of `views` views of `cells` cells."""


def places(layout: Layout, views: int, cells: int) -> int:
    """How many places of a clip a head of this layout speaks of."""
    return {"cells": views * cells, "views": views, "pairs": views - 1, "clip": 1, "poses": views}[layout]


def start_bias(bias: Tensor, prior: Float[Tensor, " output"]) -> None:
    """Set the last bias of a head to a prior."""
    with torch.no_grad():
        bias.copy_(prior)
