"""Which outputs of Stable Video Diffusion can be read: computed from its configuration, without building it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from extract.backbones.base import Site

LATENT = "vae.latent"
Grid = tuple[int, int]
Place = tuple[str, int, Grid]
"""Dotted path below the UNet, channels, (rows, columns)."""


def vae_stride(vae: Mapping[str, Any]) -> int:
    """Pixels per latent cell: the encoder halves the image between its blocks."""
    return int(2 ** (len(vae["block_out_channels"]) - 1))


def native_size(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) in pixels that the network was trained on: 9:16, with `sample_size` squared latents.

    The published configuration names only the side of a square of the same area: 96 x 96 = 72 x 128 latents, which are
    576 x 1024 pixels.
    """
    side, stride = int(unet["sample_size"]), 2 ** (len(vae["block_out_channels"]) - 1)
    step = image_multiple(unet, vae)
    height, width = (round(side * aspect * stride / step) * step for aspect in (3 / 4, 4 / 3))
    return max(height, step), max(width, step)


def image_multiple(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> int:
    """What height and width must be multiples of, so that every down-sampling of VAE and UNet is exact."""
    return int(vae_stride(vae) * 2 ** (len(unet["block_out_channels"]) - 1))


def svd_sites(unet: Mapping[str, Any], vae: Mapping[str, Any], size: Grid) -> list[Site]:
    """All sites in execution order: the VAE latent, then every layer and block of the UNet.

    Args:
        unet: configuration of a `UNetSpatioTemporalConditionModel`.
        vae: configuration of an `AutoencoderKLTemporalDecoder`.
        size: (height, width) of the frames in pixels, a multiple of `image_multiple`.
    """
    latent = (size[0] // vae_stride(vae), size[1] // vae_stride(vae))
    sites = [Site(LATENT, "vae.quant_conv", int(vae["latent_channels"]), latent, 0, "encode")]
    for depth, (name, channels, grid) in enumerate(_unet_places(unet, latent), start=1):
        sites.append(Site(name, f"unet.{name}", channels, grid, depth))
    return sites


def last_layers(unet: Mapping[str, Any]) -> list[str]:
    """The last layer of every block before the block changes the resolution, and the middle block, in order."""
    layers = _per_block(unet["layers_per_block"], unet)
    down_kinds, up_kinds = map(_kind, unet["down_block_types"]), map(_kind, unet["up_block_types"])
    down = [f"down_blocks.{i}.{kind}.{n - 1}" for i, (kind, n) in enumerate(zip(down_kinds, layers, strict=True))]
    up = [f"up_blocks.{i}.{kind}.{n}" for i, (kind, n) in enumerate(zip(up_kinds, layers[::-1], strict=True))]
    return [*down, "mid_block", *up]


def _unet_places(unet: Mapping[str, Any], grid: Grid) -> Iterator[Place]:
    channels = list(unet["block_out_channels"])
    layers = _per_block(unet["layers_per_block"], unet)
    transformers = _per_block(unet["transformer_layers_per_block"], unet)
    last = len(channels) - 1

    yield "conv_in", channels[0], grid
    for i, block in enumerate(unet["down_block_types"]):
        name = f"down_blocks.{i}"
        yield from _layers(name, block, layers[i], transformers[i], channels[i], grid)
        if i < last:
            grid = (grid[0] // 2, grid[1] // 2)
        yield name, channels[i], grid

    yield "mid_block.resnets.0", channels[-1], grid
    yield from _attention("mid_block.attentions.0", _nth(transformers[-1], 0), channels[-1], grid)
    yield "mid_block.resnets.1", channels[-1], grid
    yield "mid_block", channels[-1], grid

    for i, block in enumerate(unet["up_block_types"]):
        name, j = f"up_blocks.{i}", last - i  # an up block mirrors down block j, with one more layer for its skip
        yield from _layers(name, block, layers[j] + 1, transformers[j], channels[j], grid)
        if i < last:
            grid = (grid[0] * 2, grid[1] * 2)
        yield name, channels[j], grid


def _layers(
    name: str, block: str, layers: int, transformers: int | Sequence[int], channels: int, grid: Grid
) -> Iterator[Place]:
    for i in range(layers):
        yield f"{name}.resnets.{i}", channels, grid
        if _kind(block) == "attentions":
            yield from _attention(f"{name}.attentions.{i}", _nth(transformers, i), channels, grid)


def _attention(name: str, transformers: int, channels: int, grid: Grid) -> Iterator[Place]:
    for i in range(transformers):
        yield f"{name}.transformer_blocks.{i}", channels, grid
        yield f"{name}.temporal_transformer_blocks.{i}", channels, grid
    yield name, channels, grid


def _kind(block: str) -> str:
    """Name of the list that holds a block's last layer."""
    return "attentions" if block.startswith("CrossAttn") else "resnets"


def _per_block(value: Any, unet: Mapping[str, Any]) -> list[Any]:
    return list(value) if isinstance(value, Sequence) else [value] * len(unet["block_out_channels"])


def _nth(value: int | Sequence[int], index: int) -> int:
    return value if isinstance(value, int) else value[index]
