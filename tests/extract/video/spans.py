"""Whether a latent is made of the frames that `spans` names, by changing one frame after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from extract.diffusion.backbone import LatentVideoBackbone
from tests.extract.video.tiny import random_clip


def latents(backbone: LatentVideoBackbone, clip: Tensor, bank: list[int]) -> Tensor:
    """Latents of a clip's windows, (window, channel, time, y, x)."""
    numbers, positions = backbone.family.window(len(clip), bank)
    return backbone.encode(clip[list(numbers)], positions, torch.Generator().manual_seed(0)).latents


def check_spans(backbone: LatentVideoBackbone) -> None:
    """A frame changes the latent whose span holds it, in its own window, and none before it. Two windows."""
    family = backbone.family
    stride, held = family.strides.time, family.latent_shape[1]
    bank = [stride * k for k in range(2 * held - 1)]
    clip = random_clip(bank[-1] + 3, family.size)
    windows, spans = family.windows(len(clip), bank), family.spans(len(clip), bank)
    assert len(windows.frames) == 2
    before = latents(backbone, clip, bank)
    seen = set()
    for frame in range(len(clip)):
        other = clip.clone()
        other[frame] = 255 - other[frame]
        changed = (latents(backbone, other, bank) != before).flatten(3).any(-1).any(1)  # (window, time)
        for w, frames in enumerate(windows.frames):
            if frame not in frames:
                assert not changed[w].any(), (frame, w)
                continue
            first = -(-frames.index(frame) // stride)
            assert changed[w].tolist() == [False] * first + [True] * (held - first), (frame, w)
            for row, position in enumerate(windows.positions):
                window, place = divmod(position, family.frames)
                if (window, -(-place // stride)) == (w, first):
                    assert spans[row][0] <= frame <= spans[row][1], (frame, row)
                    seen.add(row)
    assert seen == set(range(len(bank)))
