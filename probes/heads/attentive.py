"""Attentive pooling: the cells of a view are weighed by what they say, before one affine map reads the sum."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from probes.heads.base import WEIGHT_STD, Grid, Head, Layout, start_bias, with_first

WIDTH, HEADS = 256, 8


class AttentiveHead(Head):
    """A learned query attends to the cells of a view; what it gathers goes through one affine map.

    The attentive probe of CAE (Chen et al., arXiv 2202.03026, section 4.1) and V-JEPA (arXiv 2404.08471, appendix),
    with keys and values of a fixed width. A mean over cells drowns a small object; this does not.

    Args:
        layout: `views`, or `pairs`: what the query gathers in view 0 and in another view.
        channels: channels of the tap.
        outputs: numbers per view or pair.
    """

    layouts = frozenset({"views", "pairs"})

    def __init__(self, layout: Layout, channels: int, outputs: int) -> None:
        super().__init__()
        self.layout = layout
        self.query = nn.Parameter(torch.randn(HEADS, 1, WIDTH // HEADS))
        self.key_value = nn.Linear(channels, 2 * WIDTH)
        self.last = nn.Linear(2 * WIDTH if layout == "pairs" else WIDTH, outputs)
        nn.init.normal_(self.last.weight, std=WEIGHT_STD)

    def forward(self, grid: Grid) -> Float[Tensor, "clip *where output"]:
        """Outputs of each view, or of each pair."""
        gathered = self._gather(grid.cells)
        outputs: Tensor = self.last(with_first(gathered) if self.layout == "pairs" else gathered)
        return outputs

    def kept_numbers(self, views: int, cells: int) -> int:
        """Keys, values and weights of every cell."""
        return views * cells * (2 * WIDTH + HEADS)

    def start_at(self, prior: Float[Tensor, " output"]) -> None:
        """Set the last bias."""
        start_bias(self.last.bias, prior)

    def _gather(self, cells: Float[Tensor, "clip view y x channel"]) -> Float[Tensor, "clip view width"]:
        clips, views = cells.shape[:2]
        both = self.key_value(cells).reshape(clips * views, -1, 2, HEADS, WIDTH // HEADS)
        key, value = both.permute(2, 0, 3, 1, 4)
        query = self.query.expand(len(key), -1, -1, -1)
        return F.scaled_dot_product_attention(query, key, value).reshape(clips, views, WIDTH)
