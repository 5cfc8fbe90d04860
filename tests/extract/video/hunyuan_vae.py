"""What the tests of both families with the autoencoder of HunyuanVideo share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def without_statistics(network: nn.Module) -> None:
    """Take out the group normalisations, the only part that looks at all frames."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())


def tiled(vae: Any, clip: Tensor, tile: int = 256, step: int = 192) -> Tensor:
    """Posterior mean of tiles, each blended into the one above it and then into the one to its left, by loops."""
    stride = step // 8
    rows = [
        [
            vae.quant_conv(vae.encoder(clip[..., y : y + tile, x : x + tile])).chunk(2, dim=1)[0]
            for x in range(0, clip.shape[-1], step)
        ]
        for y in range(0, clip.shape[-2], step)
    ]
    for i, row in enumerate(rows):
        for j, part in enumerate(row):
            if i:
                above = rows[i - 1][j][..., stride:, :]  # what both cover
                for k in range(above.shape[-2]):
                    share = k / above.shape[-2]
                    part[..., k, :] = (1 - share) * above[..., k, :] + share * part[..., k, :]
            if j:
                left = row[j - 1][..., stride:]
                for k in range(left.shape[-1]):
                    share = k / left.shape[-1]
                    part[..., k] = (1 - share) * left[..., k] + share * part[..., k]
    return torch.cat([torch.cat([part[..., :stride, :stride] for part in row], -1) for row in rows], -2)
