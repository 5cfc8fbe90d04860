"""The camera read-out: an estimate per view, refined from itself."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.alternating.attention import Block

ENCODING = 9
"""Numbers of a camera: translation (3), quaternion x, y, z, w (4), vertical and horizontal field of view (2)."""

FIELD_OF_VIEW = slice(7, 9)
BLOCKS, HEADS, ITERATIONS = 4, 16, 4
MODULATION_EPS = 1e-6


class CameraHead(nn.Module):
    """The camera head of VGGT (arXiv 2503.11651, section 3.3 and appendix A): four blocks over the camera tokens.

    Each iteration embeds the estimate so far, modulates the normalised camera tokens by it as DiT does (adaLN;
    Peebles & Xie 2023, arXiv 2212.09748, section 3.2), lets the views' tokens read each other, and adds what an MLP
    makes of them to the estimate. The first iteration starts from a learned empty estimate. Estimates go into the next
    iteration detached: each learns to improve what it is given, and no gradient flows through time.

    Args:
        width: of the camera tokens, twice that of the trunk.
        heads: per block.
        blocks: transformer blocks, without query and key norms, rotary positions and dropout.
        iterations: estimates.
    """

    def __init__(self, width: int, heads: int = HEADS, blocks: int = BLOCKS, iterations: int = ITERATIONS) -> None:
        super().__init__()
        self.iterations = iterations
        self.token_norm = nn.LayerNorm(width)
        self.empty = nn.Parameter(torch.zeros(ENCODING))
        self.embed = nn.Linear(ENCODING, width)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))
        self.modulated_norm = nn.LayerNorm(width, elementwise_affine=False, eps=MODULATION_EPS)
        self.blocks = nn.ModuleList(Block(width, heads, normed=False) for _ in range(blocks))
        self.change_norm = nn.LayerNorm(width)
        self.change = nn.Sequential(nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, ENCODING))

    def forward(self, camera: Float[Tensor, "clip view width"]) -> Float[Tensor, "iteration clip view encoding"]:
        """All estimates, the last one best. Translation and quaternion are as they come; the field of view is >= 0."""
        tokens = self.token_norm(camera)
        estimate = self._change(tokens, self.empty.expand(*tokens.shape[:2], -1))
        estimates = [estimate]
        for _ in range(self.iterations - 1):
            estimate = estimate.detach()
            estimate = estimate + self._change(tokens, estimate)
            estimates.append(estimate)
        return activate(torch.stack(estimates))

    def _change(self, tokens: Tensor, estimate: Tensor) -> Float[Tensor, "clip view encoding"]:
        shift, scale, gate = self.modulation(self.embed(estimate)).chunk(3, -1)
        modulated = tokens + gate * (self.modulated_norm(tokens) * (1 + scale) + shift)
        for block in self.blocks:
            modulated = block(modulated)
        change: Tensor = self.change(self.change_norm(modulated))
        return change


def activate(estimates: Float[Tensor, "*batch encoding"]) -> Float[Tensor, "*batch encoding"]:
    """Clip the field of view at 0; the rest stays."""
    split = FIELD_OF_VIEW.start
    return torch.cat([estimates[..., :split], estimates[..., split:].relu()], -1)
