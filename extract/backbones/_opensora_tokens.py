"""Tokens of Open-Sora 2 (arXiv:2503.09642): how latents become tokens, and how a token's place and time are told.

Rotary positions pair component j of a head with j + half of it, as in most language models, and not 2 j with 2 j + 1,
as in FLUX.1. That the released weights want this is what their configuration and an independent port say; it has not
been tried on the weights themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

SINUSOIDS = 256
Rotation = tuple[Float[Tensor, "place half"], Float[Tensor, "place half"]]
"""Cosine and sine of the angles of all tokens of an attention."""


def rotate(
    x: Float[Tensor, "batch head token component"], rotation: Rotation
) -> Float[Tensor, "batch head token component"]:
    """Turn the pairs (j, j + half) by the token's angles."""
    cos, sin = rotation
    first, second = x.to(cos.dtype).chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


def rotation_of(positions: Float[Tensor, "token axis"], axes_dim: Sequence[int], theta: float) -> Rotation:
    """Angle of pair j of an axis with n components: position times theta^(-2 j / n). Axes follow each other."""
    angles = [
        positions[:, axis, None] * theta ** (-torch.arange(0, n, 2).to(positions) / n)
        for axis, n in enumerate(axes_dim)
    ]
    turned = torch.cat(angles, dim=-1)
    return turned.cos(), turned.sin()


def sinusoids(time: Float[Tensor, " batch"]) -> Float[Tensor, "batch 256"]:
    """Cosines, then sines, of 1000 `time` at frequencies from 1 down to 1/10000 (exclusive)."""
    half = SINUSOIDS // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half).to(time) / half)
    angles = (1000 * time)[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def pack(x: Float[Tensor, "batch channel time y x"], patch: int) -> Float[Tensor, "batch token features"]:
    """Tokens in the order (time, y, x), each (channel, row, column) of its patch."""
    batch, channels, time, rows, columns = x.shape
    patches = x.reshape(batch, channels, time, rows // patch, patch, columns // patch, patch)
    return patches.permute(0, 2, 3, 5, 1, 4, 6).reshape(batch, -1, channels * patch**2)


def positions_of(time: int, rows: int, columns: int, device: torch.device) -> Float[Tensor, "token 3"]:
    """(time, y, x) of every token, counted from 0, in the order of `pack`."""
    axes = (torch.arange(n, dtype=torch.float32, device=device) for n in (time, rows, columns))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
