"""Lanczos resampling, which torch does not have: what PIL calls `LANCZOS`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

LOBES = 3


def resize(images: Float[Tensor, "*batch y x"], height: int, width: int) -> Float[Tensor, "*batch height width"]:
    """Images in [0, 1] at another size, anti-aliased when they shrink; rows first, each pass clamped, as PIL does.

    A new pixel is the mean of old ones, weighted with L(d / s) = sinc(d / s) sinc(d / 3s) where |d| < 3s, else 0. d is
    the distance between pixel centres in old pixels, and s how many old pixels are one new one, at least 1.
    """
    across = _weights(images, images.shape[-1], width)
    down = _weights(images, images.shape[-2], height)
    return (down @ (images @ across.T).clamp(0, 1)).clamp(0, 1)


def _weights(like: Tensor, old: int, new: int) -> Float[Tensor, "new old"]:
    """Row k: the weights of the old pixels of a line in the new pixel k. Their sum is 1."""
    import torch

    scale = max(old / new, 1.0)
    new_centres = (torch.arange(new, dtype=torch.float64) + 0.5) * old / new
    old_centres = torch.arange(old, dtype=torch.float64) + 0.5
    distance = (old_centres - new_centres[:, None]) / scale
    weights = torch.where(distance.abs() < LOBES, torch.sinc(distance) * torch.sinc(distance / LOBES), 0.0)
    return (weights / weights.sum(1, keepdim=True)).to(like)
