"""What the tests of both families with the autoencoder of HunyuanVideo share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from extract.diffusion.backbone import LatentVideoBackbone
from tests.extract.video.tiny import Tiny, random_clip


def without_statistics(network: nn.Module) -> None:
    """Take out the group normalisations, the only part that looks at all frames."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())


def latents(backbone: LatentVideoBackbone, clip: Tensor, bank: list[int]) -> Tensor:
    """Latents of a clip's windows, (window, channel, time, y, x)."""
    numbers, positions = backbone.family.window(len(clip), bank)
    return backbone.encode(clip[list(numbers)], positions, torch.Generator().manual_seed(0)).latents


def check_spans(tiny: Tiny, backbone: LatentVideoBackbone) -> None:
    """Change one frame after the other: the first latent that changes is the one whose span holds the frame."""
    family = backbone.family
    held = family.latent_shape[1]
    bank = [0, *range(1, 4 * held, 4)]
    clip = random_clip(bank[-1] + 4, tiny.size)
    windows, spans = family.windows(len(clip), bank), family.spans(len(clip), bank)
    assert len(windows.frames) > 1
    before = latents(backbone, clip, bank)
    for frame in range(len(clip)):
        other = clip.clone()
        other[frame] = 255 - other[frame]
        changed = (latents(backbone, other, bank) != before).flatten(3).any(-1).any(1)  # (window, time)
        for position, (first, last) in zip(windows.positions, spans, strict=True):
            window, place = divmod(position, family.frames)
            latent = -(-place // 4)
            if frame not in windows.frames[window]:
                assert not changed[window].any(), (frame, window)
            elif first <= frame <= last:
                assert changed[window].nonzero()[0] == latent, (frame, window)
            elif frame > last:
                assert not changed[window, : latent + 1].any(), (frame, window)


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
