"""One affine map: the strictest probe. It can show only what the features say linearly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from probes.heads.base import WEIGHT_STD, Grid, Head, Layout, places, start_bias


class LinearHead(Head):
    """W x + b of each cell, of the mean of each view, or of the means of two views.

    Args:
        layout: what is read.
        channels: channels of the tap.
        outputs: numbers per cell, view or pair.
    """

    layouts = frozenset({"cells", "views", "pairs"})

    def __init__(self, layout: Layout, channels: int, outputs: int) -> None:
        super().__init__()
        self.layout = layout
        inputs = 2 * channels if layout == "pairs" else channels
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * WEIGHT_STD)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, grid: Grid) -> Float[Tensor, "clip *where output"]:
        """Outputs of what the layout names."""
        inputs: Tensor = getattr(grid, self.layout)
        return F.linear(inputs, self.weight, self.bias)

    def kept_numbers(self, views: int, cells: int) -> int:
        """Outputs."""
        return places(self.layout, views, cells) * len(self.bias)

    def start_at(self, prior: Float[Tensor, " output"]) -> None:
        """Set the bias."""
        start_bias(self.bias, prior)
