"""One affine map: the strictest probe. It can show only what the features say linearly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from probes.heads.base import WEIGHT_STD, Grid, Head, Layout, places, start_bias

BLOCK = 32
"""Outputs that one product of matrices gives at least."""


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

    @property
    def outputs(self) -> int:
        """Numbers per cell, view or pair."""
        return len(self.bias)

    def kept_numbers(self, views: int, cells: int) -> int:
        """Outputs."""
        return places(self.layout, views, cells) * self.outputs

    def start_at(self, prior: Float[Tensor, " output"]) -> None:
        """Set the bias."""
        start_bias(self.bias, prior)


def outputs_of(
    heads: Sequence[LinearHead], inputs: Float[Tensor, "*where channel"]
) -> list[Float[Tensor, "*where output"]]:
    """What heads of one shape give for the same inputs, in as few products of matrices as that takes.

    No bit of a head's outputs or gradients depends on the other heads, nor on how many there are. A library rounds a
    product of matrices in a way that depends on the shapes, but not on what else is in it, or where: so all products
    have one shape, of as many heads as give `BLOCK` outputs, with zeros in place of those that are not there. Biases
    are added head by head, as sums over places depend on what is beside them.

    Args:
        heads: at least one.
        inputs: need no gradient.
    """
    outputs, rows = heads[0].outputs, inputs.flatten(0, -2)
    size = -(-BLOCK // outputs)
    found: list[Tensor] = []
    for start in range(0, len(heads), size):
        block = heads[start : start + size]
        weight = torch.cat([head.weight for head in block])
        padded = F.pad(weight, (0, 0, 0, size * outputs - len(weight)))
        values = F.linear(rows, padded).view(-1, size, outputs).unbind(1)
        found += [(each + head.bias).view(*inputs.shape[:-1], -1) for each, head in zip(values, block, strict=False)]
    return found
