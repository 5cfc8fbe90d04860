"""A small network at each place: shows what can be read out, though not linearly, without looking around."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from probes.heads.base import WEIGHT_STD, Grid, Head, Layout, places, start_bias

WIDTH = 256
"""Hidden channels, whatever the backbone, so that a wide backbone gains no larger reader in depth."""


class MlpHead(Head):
    """W2 gelu(W1 x + b1) + b2 of each cell, of the mean of each view, or of the means of two views.

    Args:
        layout: what is read.
        channels: channels of the tap.
        outputs: numbers per cell, view or pair.
    """

    layouts = frozenset({"cells", "views", "pairs"})

    def __init__(self, layout: Layout, channels: int, outputs: int) -> None:
        super().__init__()
        self.layout = layout
        self.hidden = nn.Linear(2 * channels if layout == "pairs" else channels, WIDTH)
        self.last = nn.Linear(WIDTH, outputs)
        nn.init.normal_(self.last.weight, std=WEIGHT_STD)

    def forward(self, grid: Grid) -> Float[Tensor, "clip *where output"]:
        """Outputs of what the layout names."""
        inputs: Tensor = getattr(grid, self.layout)
        outputs: Tensor = self.last(F.gelu(self.hidden(inputs)))
        return outputs

    def kept_numbers(self, views: int, cells: int) -> int:
        """Hidden channels before and after their nonlinearity, and outputs."""
        return places(self.layout, views, cells) * (3 * WIDTH + len(self.last.bias))

    def start_at(self, prior: Float[Tensor, " output"]) -> None:
        """Set the last bias."""
        start_bias(self.last.bias, prior)
