"""The instance read-out: an embedding per cell, near to those of the same object and far from all others."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

HIDDEN, OUTPUTS = 64, 32


class InstanceHead(nn.Module):
    """A small MLP at every cell by itself, the embedding of IGGT's loss (arXiv 2510.22706).

    Args:
        channels: of the cells, twice the trunk's width.
        hidden: width of both hidden layers.
        outputs: channels of an embedding. It is not normalised here.
    """

    def __init__(self, channels: int, hidden: int = HIDDEN, outputs: int = OUTPUTS) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, outputs),
        )

    def forward(self, cells: Float[Tensor, "clip view y x channel"]) -> Float[Tensor, "clip view y x output"]:
        """Embeddings, any length."""
        out: Tensor = self.layers(cells)
        return out
