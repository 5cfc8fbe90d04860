"""The causal autoencoder of HunyuanVideo (arXiv:2412.03603, section 4.1), which Open-Sora 2 uses too: how it is called.

Latent 0 is made of frame 0, latent j > 0 of frames 4 j - 3 to 4 j: convolutions and attention look back in time, never
ahead. Group normalisation does not: its mean and variance are those of a whole tile, all frames of it, so that every
latent depends a little on every frame of its window.

Frames larger than 256 pixels are encoded in tiles of 256, one every 192, blended linearly where they overlap. So does
the published code of both projects, and the attention in the middle of the encoder leaves no choice: its mask has
(latents of a tile)^2 entries, which is 4.6 GB of float32 for a tile of 129 frames.

All frames of a window are encoded at once. By default `AutoencoderKLHunyuanVideo` of diffusers would cut windows of
more than 16 frames in time too, 17 frames every 12, and make every latent without what came before its tile. Open-Sora
2 does not cut in time, HunyuanVideo's code only windows of more than 64 frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from extract.diffusion.facts import Strides

if TYPE_CHECKING:
    from torch import Tensor

NEEDED = (
    "latent_channels",
    "block_out_channels",
    "scaling_factor",
    "spatial_compression_ratio",
    "temporal_compression_ratio",
)
TILES = "tiles of 256 pixels every 192, blended; all frames at once"
TILE, STEP = 256, 192


def strides(config: Mapping[str, Any], patch: int) -> Strides:
    """4 frames and 8 pixels per latent."""
    return Strides(int(config["temporal_compression_ratio"]), int(config["spatial_compression_ratio"]), patch)


def compress(vae: Any, clip: Tensor) -> Tensor:
    """Posterior mean times `scaling_factor`, float32.

    Args:
        vae: the `AutoencoderKLHunyuanVideo`.
        clip: frames in [-1, 1], (1, 3, frame, height, width).

    Returns:
        Latents (1, channel, time, y, x).
    """
    vae.use_framewise_encoding = False
    vae.enable_tiling(
        tile_sample_min_height=TILE,
        tile_sample_min_width=TILE,
        tile_sample_stride_height=STEP,
        tile_sample_stride_width=STEP,
    )
    mean: Tensor = vae.encode(clip).latent_dist.mode().float()
    return mean * float(vae.config.scaling_factor)
