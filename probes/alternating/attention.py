"""Transformer blocks over tokens that lie on grids: pre-norm, rotary positions in the plane, LayerScale."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from probes.errors import NetworkError

FREQUENCY = 100.0
"""Base of the rotary frequencies: VGGT's (arXiv 2503.11651), suited to grids of tens of cells."""

LAYER_SCALE = 0.01
"""Initial gain of every residual branch (VGGT, appendix A)."""

MLP_RATIO = 4
"""Width of the hidden layer over that of the tokens (Vaswani et al. 2017, section 3.3)."""


def grid_positions(
    y: int, x: int, specials: int, device: torch.device | None = None
) -> Integer[Tensor, "token row_column"]:
    """Row and column of the tokens of one view: (0, 0) for special tokens, then (1 + row, 1 + column), row-major."""
    cells = torch.cartesian_prod(torch.arange(1, y + 1, device=device), torch.arange(1, x + 1, device=device))
    return torch.cat([cells.new_zeros(specials, 2), cells])


def rotary_table(
    positions: Integer[Tensor, "token row_column"], head_width: int, base: float = FREQUENCY
) -> Float[Tensor, "cos_sin token row_column frequency"]:
    """Cosine and sine of the angles p / base^(i / n), i = 0 … n - 1, of every position p, n = head_width / 4.

    RoPE (Su et al. 2021, arXiv 2104.09864), section 3.2.2, once for the row and once for the column, each on half of
    the channels of a head. Raises `NetworkError` if a head's width is no multiple of 4.
    """
    if head_width % 4:
        raise NetworkError(
            f"heads {head_width} channels wide: rotary positions in the plane take a multiple of 4. Change the number "
            "of heads or the width."
        )
    count = head_width // 4
    frequencies = base ** (-torch.arange(count, device=positions.device, dtype=torch.float32) / count)
    angles = positions[..., None] * frequencies
    return torch.stack([angles.cos(), angles.sin()])


def rotate(
    tokens: Float[Tensor, "batch head token channel"],
    table: Float[Tensor, "cos_sin token row_column frequency"],
) -> Float[Tensor, "batch head token channel"]:
    """Turn pairs of channels by the angles of each token's position (RoPE, eq. 34).

    Channels are (row or column, member of the pair, frequency). The inner product of two turned tokens depends on the
    difference of their positions alone.
    """
    first, second = torch.unflatten(tokens, -1, (2, 2, -1)).unbind(-2)
    cos, sin = table
    turned = torch.stack([first * cos - second * sin, second * cos + first * sin], -2)
    return turned.flatten(-3).to(tokens.dtype)


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2) with biases, and no dropout on its weights.

    Args:
        width: channels of a token.
        heads: number of heads.
        normed: whether queries and keys pass a LayerNorm of their head's channels (Dehghani et al. 2023,
            arXiv 2302.05442, section 2), which bounds the logits.
        dropout: rate after the output projection.

    Raises:
        NetworkError: if the heads do not share the width evenly.
    """

    def __init__(self, width: int, heads: int, *, normed: bool, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise NetworkError(f"width {width} and {heads} heads: the width must be a multiple of the heads.")
        self.heads = heads
        self.inward = nn.Linear(width, 3 * width)
        self.query_norm = nn.LayerNorm(width // heads) if normed else nn.Identity()
        self.key_norm = nn.LayerNorm(width // heads) if normed else nn.Identity()
        self.outward = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens: Float[Tensor, "batch token width"],
        table: Float[Tensor, "cos_sin token row_column frequency"] | None = None,
    ) -> Float[Tensor, "batch token width"]:
        """Every token reads all tokens of its batch entry; with a table, where they lie matters."""
        query, key, value = torch.unflatten(self.inward(tokens), -1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = self.query_norm(query), self.key_norm(key)
        if table is not None:
            query, key = rotate(query, table), rotate(key, table)
        read = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.dropout(self.outward(read.transpose(1, 2).flatten(2)))
        return out


def mlp(width: int, dropout: float) -> nn.Sequential:
    """Two layers with a GELU between them, and dropout after each (ViT: Dosovitskiy et al. 2021, appendix A)."""
    hidden = MLP_RATIO * width
    return nn.Sequential(
        nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
    )


class Block(nn.Module):
    """One pre-norm transformer block with LayerScale: x + s1 A(N(x)), then x + s2 M(N(x)).

    CaiT (Touvron et al. 2021, arXiv 2103.17239), eq. 2, as VGGT uses it.

    Args:
        width: channels of a token.
        heads: number of heads.
        normed: see `SelfAttention`.
        dropout: rate after the output projection of attention and after both layers of the MLP.
    """

    def __init__(self, width: int, heads: int, *, normed: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, normed=normed, dropout=dropout)
        self.attention_scale = nn.Parameter(torch.full((width,), LAYER_SCALE))
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = mlp(width, dropout)
        self.mlp_scale = nn.Parameter(torch.full((width,), LAYER_SCALE))

    def forward(
        self,
        tokens: Float[Tensor, "batch token width"],
        table: Float[Tensor, "cos_sin token row_column frequency"] | None = None,
    ) -> Float[Tensor, "batch token width"]:
        """The tokens of each batch entry after they have read each other."""
        tokens = tokens + self.attention_scale * self.attention(self.attention_norm(tokens), table)
        out: Tensor = tokens + self.mlp_scale * self.mlp(self.mlp_norm(tokens))
        return out
