"""Heads: from the standardised grids of one tap to the raw outputs of one task."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from probes.errors import UnknownNameError
from store.suggest import did_you_mean

Layout = Literal["cells", "views", "pairs"]
"""What a head speaks of: each cell; each view; view 0 and one other view."""

WEIGHT_STD = 0.01
"""Weights start this small, so that a probe starts at its bias: the best prediction that ignores the features."""


class Grid:
    """Standardised features of one tap for some views of some clips, with the means that several heads share."""

    def __init__(self, cells: Float[Tensor, "clip view y x channel"]) -> None:
        self.cells = cells

    @cached_property
    def views(self) -> Float[Tensor, "clip view channel"]:
        """Mean over the cells of each view."""
        return self.cells.mean((2, 3))

    @cached_property
    def pairs(self) -> Float[Tensor, "clip pair channel_twice"]:
        """For each view after the first: the mean of view 0, then the mean of that view."""
        first = self.views[:, :1].expand(-1, self.views.shape[1] - 1, -1)
        return torch.cat([first, self.views[:, 1:]], -1)


class LinearHead(nn.Module):
    """One affine map: the strictest probe. It can show only what the features say linearly.

    Args:
        layout: what is read.
        channels: channels of the tap.
        outputs: numbers per cell, view or pair.
        generator: source of the initial weights.
    """

    def __init__(self, layout: Layout, channels: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layout = layout
        inputs = 2 * channels if layout == "pairs" else channels
        self.weight = nn.Parameter(torch.randn(outputs, inputs, generator=generator) * WEIGHT_STD)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, grid: Grid) -> Float[Tensor, "clip *where output"]:
        """(clip, view, y, x, output) for cells, (clip, view, output) for views, (clip, view - 1, output) for pairs."""
        inputs: Tensor = getattr(grid, self.layout)
        return F.linear(inputs, self.weight, self.bias)


Head = LinearHead
"""What a head must have: a `bias` of one number per output, set to the task's prior, and a `forward` from a `Grid`."""

HEADS: dict[str, Callable[[Layout, int, int, torch.Generator], Head]] = {"linear": LinearHead}


def build_head(name: str, layout: Layout, channels: int, outputs: int, generator: torch.Generator) -> Head:
    """Build a head by name. Raises `UnknownNameError`."""
    if name not in HEADS:
        raise UnknownNameError(did_you_mean("head", name, HEADS))
    return HEADS[name](layout, channels, outputs, generator)
