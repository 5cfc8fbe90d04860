"""No head, and no standardising: features as they are stored, for rules that compare these."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from probes.heads.base import Grid
from probes.heads.identity import IdentityHead


class RawHead(IdentityHead):
    """The features of each cell in float32. It has no parameters."""

    def forward(self, grid: Grid) -> Float[Tensor, "clip view y x channel"]:
        """The cells."""
        return grid.raw
