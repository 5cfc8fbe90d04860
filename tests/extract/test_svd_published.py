"""The published sizes: sites, grids, order and parameter counts against a full-size forward without weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from extract.backbones._svd_backbone import SVDBackbone
from extract.backbones.base import Options, Site
from extract.backbones.svd import SVD

# Weight files on the hub: 6,098,682,464 B = 4 x UNet + 190,136 B of header; 391,017,740 B = 4 x VAE + 46,352 B;
# 2,528,371,296 B = 4 x image encoder + 64,096 B.
UNET, VAE, CLIP = 1_524_623_082, 97_742_847, 632_076_800


@pytest.mark.parametrize(("model", "size"), [("svd", None), ("svd-xt", (320, 448))])
def test_sites_are_what_a_full_size_forward_shows(model: str, size: tuple[int, int] | None) -> None:
    family = SVD(model, Options(size=size))
    sites = family.sites()
    bank = list(range(0, 76, 4))
    numbers, positions = family.window(76, bank)
    seen: dict[str, Any] = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        backbone = SVDBackbone(nn.ModuleDict(_networks(family)), family)
        for site in sites:
            backbone.module.get_submodule(site.module).register_forward_hook(partial(_record, seen, site))
        frames = torch.zeros(len(numbers), 96, 128, 3, dtype=torch.uint8)
        state = backbone.encode(frames, positions, torch.Generator())
        backbone.forward(state, family.noise_level("sigma=1.5"))
        shapes = {name: tuple(backbone.grid(family.site(name), output, state).shape) for name, output in seen.items()}

    assert list(seen) == [site.name for site in sites]
    assert [site.depth for site in sites] == list(range(len(sites)))
    assert shapes == {site.name: (len(bank), *site.grid, site.channels) for site in sites}
    assert set(family.default_sites()) < set(seen)


def _record(seen: dict[str, Any], site: Site, module: Any, inputs: Any, output: Any) -> None:
    assert site.name not in seen, "a module that runs twice would be read twice"
    seen[site.name] = output


def test_sites_of_the_published_model() -> None:
    sites = {site.name: (site.channels, site.grid) for site in SVD("svd").sites()}
    assert sites["vae.latent"] == (4, (72, 128))
    assert sites["conv_in"] == (320, (72, 128))
    assert sites["down_blocks.0"] == (320, (36, 64))
    assert sites["down_blocks.3.resnets.1"] == (1280, (9, 16))
    assert sites["mid_block"] == (1280, (9, 16))
    assert sites["up_blocks.0"] == (1280, (18, 32))
    assert sites["up_blocks.1.attentions.2.temporal_transformer_blocks.0"] == (1280, (18, 32))
    assert sites["up_blocks.1"] == (1280, (36, 64))
    assert sites["up_blocks.3.attentions.2"] == (320, (72, 128))
    assert list(sites) == [site.name for site in SVD("svd-xt").sites()]


def test_default_sites_end_every_block() -> None:
    assert SVD("svd").default_sites() == [
        "down_blocks.0.attentions.1",
        "down_blocks.1.attentions.1",
        "down_blocks.2.attentions.1",
        "down_blocks.3.resnets.1",
        "mid_block",
        "up_blocks.0.resnets.2",
        "up_blocks.1.attentions.2",
        "up_blocks.2.attentions.2",
        "up_blocks.3.attentions.2",
    ]


@pytest.mark.parametrize("model", ["svd", "svd-xt"])
def test_the_shipped_configs_have_the_published_number_of_parameters(model: str) -> None:
    family = SVD(model)
    with FakeTensorMode():
        counts = {part: sum(p.numel() for p in net.parameters()) for part, net in _networks(family).items()}
    assert counts == {"unet": UNET, "vae": VAE, "image_encoder": CLIP}
    assert family.published.parameters == sum(counts.values())


def _networks(family: SVD) -> dict[str, nn.Module]:
    return {
        "unet": UNetSpatioTemporalConditionModel.from_config(family.configs["unet"]),
        "vae": AutoencoderKLTemporalDecoder.from_config(family.configs["vae"]),
        "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(family.configs["image_encoder"])),
    }
