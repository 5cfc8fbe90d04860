"""The trunk: tokens of all views of a clip, read within each view and across views in turn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from probes.alternating.attention import Block, grid_positions, rotary_table
from probes.errors import NetworkError

CAMERAS, REGISTERS = 1, 4
SPECIALS = CAMERAS + REGISTERS
"""Tokens before those of the cells: one for the camera, and registers (VGGT, arXiv 2503.11651, section 3.2)."""

TOKEN_STD = 1e-6
"""Special tokens start this small, so that all views start alike."""

READ_STAGES = 4
"""Stages that a dense read-out fuses."""


@dataclass(frozen=True)
class TrunkOutput:
    """What the trunk says after each depth.

    Attributes:
        stages: one tensor per depth (four equal ones at depth 0). Tokens are the camera's, the registers, then the
            cells row-major; channels are those after the frame block, then those after the global block.
        grid: rows and columns of the cells.
        specials: tokens before the cells.
    """

    stages: list[Float[Tensor, "clip view token twice_width"]]
    grid: tuple[int, int]
    specials: int = SPECIALS

    def maps(self, stage: int) -> Float[Tensor, "clip view y x twice_width"]:
        """Cells of one stage."""
        return torch.unflatten(self.stages[stage][:, :, self.specials :], 2, self.grid)

    @property
    def cells(self) -> Float[Tensor, "clip view y x twice_width"]:
        """Cells of the last stage."""
        return self.maps(-1)

    @property
    def camera(self) -> Float[Tensor, "clip view twice_width"]:
        """Camera tokens of the last stage."""
        return self.stages[-1][:, :, 0]


class Trunk(nn.Module):
    """Alternating attention of VGGT (arXiv 2503.11651, section 3.2) over the features of a few views of one scene.

    LayerNorm and a linear map bring the features to the width; a camera token and registers join each view, one
    learned set for view 0 and one for all others; then, at each depth, a frame block lets the tokens of a view read
    each other, and a global block the tokens of all views. Nothing says when a view was taken: views after the first
    may be swapped, and their outputs swap.

    At depth 0 there is no attention. The projected tokens stand in for both blocks, and each cell speaks for itself.

    Args:
        channels: of the features.
        width: of the tokens.
        depth: pairs of a frame and a global block.
        heads: per block.
        dropout: see `Block`.
        checkpointing: keep only the tokens between blocks for the backward pass and compute each block again there.
            The same gradients, for one more forward pass and a fraction of the memory: a clip of 4 views of 17 x 30
            cells keeps 0.09 GiB instead of 1.7 GiB at width 1024 and depth 4, in float32.

    Raises:
        NetworkError: on a negative depth, or if heads and width do not fit.
    """

    def __init__(
        self, channels: int, width: int, depth: int, heads: int, dropout: float = 0.0, *, checkpointing: bool = True
    ) -> None:
        super().__init__()
        if depth < 0:
            raise NetworkError(f"depth {depth}: the depth of a trunk is 0 or more.")
        self.head_width = width // heads
        self.checkpointing = checkpointing
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Linear(channels, width)
        self.specials = nn.Parameter(torch.randn(2, SPECIALS, width) * TOKEN_STD)
        self.frame_blocks = nn.ModuleList(Block(width, heads, dropout=dropout) for _ in range(depth))
        self.global_blocks = nn.ModuleList(Block(width, heads, dropout=dropout) for _ in range(depth))

    def forward(self, features: Float[Tensor, "clip view y x channel"]) -> TrunkOutput:
        """Tokens after each depth. Views of a clip see each other, clips do not."""
        clips, views, y, x, _ = features.shape
        tokens = self._tokens(features)
        if not len(self.frame_blocks):
            return TrunkOutput([torch.cat([tokens, tokens], -1)] * READ_STAGES, (y, x))
        table = rotary_table(grid_positions(y, x, SPECIALS, features.device), self.head_width)
        tables = table.repeat(1, views, 1, 1)
        stages = []
        for frame_block, global_block in zip(self.frame_blocks, self.global_blocks, strict=True):
            within = torch.unflatten(self._run(frame_block, tokens.flatten(0, 1), table), 0, (clips, views))
            tokens = torch.unflatten(self._run(global_block, within.flatten(1, 2), tables), 1, (views, -1))
            stages.append(torch.cat([within, tokens], -1))
        return TrunkOutput(stages, (y, x))

    def _tokens(self, features: Float[Tensor, "clip view y x channel"]) -> Float[Tensor, "clip view token width"]:
        cells = self.project(self.norm(features)).flatten(2, 3)
        clips, views = cells.shape[:2]
        first, others = self.specials[:1], self.specials[1:].expand(views - 1, -1, -1)
        specials = torch.cat([first, others]).expand(clips, -1, -1, -1)
        return torch.cat([specials.to(cells.dtype), cells], 2)

    def _run(self, block: nn.Module, tokens: Tensor, table: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            out: Tensor = checkpoint(block, tokens, table, use_reentrant=False)
        else:
            out = block(tokens, table)
        return out
