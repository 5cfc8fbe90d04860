"""What the engine is measured on: a Wan of half a second per clip, and clips of noise that are there in memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.backbones.base import Options
from extract.backbones.wan import Wan
from extract.datasets.base import ClassInfo, Clip, Dataset, Targets

SIZE = (192, 320)
FRAMES = 13
BANK = (0, 1, 5, 9)
BLOCKS = 16
MIDDLE = BLOCKS // 2 - 1
TRANSFORMER = {
    "_class_name": "WanTransformer3DModel",
    "num_attention_heads": 8,
    "attention_head_dim": 64,
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "text_dim": 64,
    "freq_dim": 64,
    "ffn_dim": 2048,
    "num_layers": BLOCKS,
    "rope_max_seq_len": 64,
}
VAE = {
    "_class_name": "AutoencoderKLWan",
    "base_dim": 8,
    "z_dim": 16,
    "dim_mult": [1, 1, 1, 1],
    "num_res_blocks": 0,
    "temperal_downsample": [False, True, True],
    "latents_mean": [0.0] * 16,
    "latents_std": [1.0] * 16,
}


def small_wan(folder: Path) -> Wan:
    """960 tokens of 512 channels, 16 blocks, random weights; `folder` gets its configurations."""
    files = {
        "model_index.json": {"_class_name": "WanPipeline"},
        "transformer/config.json": TRANSFORMER,
        "vae/config.json": VAE,
        "text_encoder/config.json": {},
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    return Wan("wan2.1-t2v-1.3b", Options(checkpoint=str(folder), size=SIZE, frames=FRAMES, untrained=0))


class NoiseClip(Clip):
    """A clip of random pixels, of the size that the network takes: nothing is decoded or resized."""

    def __init__(self, number: int) -> None:
        self.id = self.scene = f"noise{number}"
        self.split, self.n_frames, self.bank = "test", FRAMES, BANK
        self.pixels = np.random.default_rng(number).integers(0, 256, (FRAMES, *SIZE, 3), np.uint8)

    def frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Frames with these numbers."""
        chosen: NDArray[np.uint8] = self.pixels[list(indices)]
        return chosen

    def targets(self) -> Targets:
        """Nothing but the frames."""
        return Targets(self.frames(self.bank), None, None, None, None, None)

    def digest(self) -> str:
        """No files, no digest."""
        return "0" * 32


class Noise(Dataset):
    """A few clips of noise."""

    name = "noise"
    environment = "NOISE"
    how_to_get = "It is made up."
    version = "1"
    classes = (ClassInfo("nothing", "stuff"),)
    image_size = SIZE
    max_instances = 0

    def __init__(self, clips: int) -> None:
        self.sampling = None
        self._clips = [NoiseClip(number) for number in range(clips)]

    def clips(self) -> Sequence[Any]:
        """All of them."""
        return self._clips
