"""Frames and latents of CogVideoX: which frames a latent knows, and which bank frames share one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from extract.backbones.base import Options
from extract.backbones.cogvideox import CogVideoX
from tests.extract.video.test_promises import encode, load
from tests.extract.video.tiny import Tiny, random_clip
from tests.extract.video.tiny_cogvideox import CHANNELS, SIZE, TINY

ROTARY = TINY[1]
PAPER_BANK = [0, *range(1, 76, 4)]
Checkpoint = Callable[[Tiny], Path]


def still(frames: int) -> Tensor:
    """A scene without motion: what changes in it changes because of us."""
    return random_clip(1, SIZE).expand(frames, -1, -1, -1).clone()


def present(vae: Any) -> None:
    """Let convolutions attend to the present mostly; random ones look just as hard into the past."""
    with torch.no_grad():
        for module in vae.encoder.modules():
            if isinstance(module, nn.Conv3d) and module.kernel_size[0] > 1:
                module.weight[:, :, :-1] *= 0.1


def change(backbone: Any, before: Tensor, clip: Tensor, frames: Any, bank: list[int]) -> Tensor:
    """By how much a patch that appears in some frames changes every latent: (window, time)."""
    clip = clip.clone()
    clip[frames, 8:24, 8:24] = 255
    return (encode(backbone, clip, bank).latents - before).abs().mean(dim=(1, 3, 4))


@pytest.mark.parametrize("frames", [9, 13, 17, 29])
def test_frames_change_their_own_latent_most_and_none_of_an_earlier_batch(checkpoint: Checkpoint, frames: int) -> None:
    """Normalisation over a batch of frames lets a little through, also backwards, but not beyond the batch."""
    backbone = load(ROTARY, checkpoint(ROTARY), frames=frames)
    present(backbone.networks["vae"])
    clip, bank = still(frames), [0, *range(1, frames, 4)]
    before = encode(backbone, clip, bank)
    held, first_batch = len(bank), 3 + frames % 8 // 4
    assert before.latents.shape[:3] == (1, CHANNELS, held)
    for latent in range(held):
        own = slice(max(0, 4 * latent - 3), 4 * latent + 1)
        (changed,) = change(backbone, before.latents, clip, own, bank)
        assert int(changed.argmax()) == latent
        batch = 0 if latent < first_batch else first_batch + (latent - first_batch) // 2 * 2
        assert not changed[:batch].any()
        assert changed[batch:].all()


def test_the_span_of_a_bank_frame_is_what_its_latent_is_made_of(checkpoint: Checkpoint) -> None:
    backbone = load(ROTARY, checkpoint(ROTARY), frames=17)
    present(backbone.networks["vae"])
    bank = list(range(0, 28, 3))
    clip = still(40)
    windows = backbone.family.windows(len(clip), bank)
    before = encode(backbone, clip, bank)
    held = before.latents.shape[2]
    assert len(windows.frames) == 3
    for row, (first, last) in enumerate(windows.spans):
        window, latent = divmod(before.places[row], held)
        changed = change(backbone, before.latents, clip, slice(first, last + 1), bank)
        assert bank[row] == first
        assert int(changed[window].argmax()) == latent


def places(family: CogVideoX, bank: list[int]) -> list[int]:
    """Latent of every bank frame, over all windows; and each is of the window's own clip frames."""
    windows = family.windows(81, bank)
    flat = [frame for window in windows.frames for frame in window]
    assert [flat[position] for position in windows.positions] == bank
    held = family.latent_shape[1]
    return [at // family.frames * held + -(-(at % family.frames) // 4) for at in windows.positions]


@pytest.mark.parametrize("model", CogVideoX.models)
def test_bank_frames_share_a_latent_with_the_papers_windows_only(model: str) -> None:
    standard, paper = CogVideoX(model), CogVideoX(model, Options(preset="paper"))
    assert len(set(places(standard, PAPER_BANK))) == len(PAPER_BANK) == 20
    shared = places(paper, PAPER_BANK)
    assert len(set(shared)) == 11
    # 1 and 5, 9 and 13, ...: all odd frames are in the first of the two windows, four to a latent.
    assert shared == [0, *(1 + (frame - 1) // 8 for frame in PAPER_BANK[1:])]
    first, second = paper.windows(97, PAPER_BANK).frames
    assert first == (0, *range(1, 96, 2))
    assert second == (0, *range(2, 97, 2))
    assert standard.settings()["window"] != paper.settings()["window"]
