"""No head at all: the features themselves, for tasks that are solved without training."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from probes.heads.base import Grid, Head, Layout


class IdentityHead(Head):
    """The standardised features of each cell. It has no parameters.

    Args:
        layout: `cells`.
        channels: channels of the tap.
        outputs: the same number.
    """

    layouts = frozenset({"cells"})

    def __init__(self, layout: Layout, channels: int, outputs: int) -> None:
        super().__init__()
        self.layout = layout

    def forward(self, grid: Grid) -> Float[Tensor, "clip view y x channel"]:
        """The cells."""
        return grid.cells

    def kept_numbers(self, views: int, cells: int) -> int:
        """None."""
        return 0

    def start_at(self, prior: Float[Tensor, " output"]) -> None:
        """Nothing is learned, so nothing starts anywhere."""
