"""Stable Video Diffusion told the last frame, or none, and run from main memory."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableVideoDiffusionPipeline
from PIL import Image
from torch import Tensor

from extract.backbones._svd_backbone import SVDBackbone, SVDState, antialiased_resize
from extract.backbones.base import Options
from extract.backbones.svd import CONDITIONS, SVD
from extract.taps import listen
from tests.extract.svd_features import CPU, LEVEL, SIZE, Grids, encode, equal, features, random_clip
from tests.extract.tiny_svd import build

BANK = [0, 6, 13, 15, 19]  # two windows of four
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("svd"))


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> StableVideoDiffusionPipeline:
    pipe = StableVideoDiffusionPipeline.from_pretrained(folder).to(torch.float32)
    for network in (pipe.unet, pipe.vae, pipe.image_encoder):
        network.requires_grad_(False)
    return pipe


@pytest.fixture(scope="module")
def clip() -> Tensor:
    return random_clip()


def family(folder: Path, **options: Any) -> SVD:
    return SVD("svd", Options(checkpoint=str(folder), size=SIZE, **options))


def load(folder: Path, condition: str | None) -> SVDBackbone:
    return family(folder, condition=condition).load(CPU, torch.float32)


# --- conditions ---------------------------------------------------------------------------------


@torch.no_grad()
def test_the_last_frame_is_told_as_the_pipeline_tells_its_image(
    folder: Path, pipeline: StableVideoDiffusionPipeline, clip: Tensor
) -> None:
    state = encode(load(folder, "last"), clip, BANK)
    picture = Image.fromarray(clip[BANK[-1]].numpy())
    image = pipeline.video_processor.preprocess(picture, height=SIZE[0], width=SIZE[1])
    assert state.image is not None
    torch.testing.assert_close(state.image, image[0], atol=1e-6, rtol=0)
    noisy = image + 0.02 * torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        state.condition, pipeline._encode_vae_image(noisy, CPU, 1, False)[0], atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(state.embedding, pipeline._encode_image(picture, CPU, 1, False)[0], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_no_image_is_told_as_the_pipeline_tells_none(
    folder: Path, pipeline: StableVideoDiffusionPipeline, clip: Tensor
) -> None:
    """The first half of what it makes for guidance is what the network knows of a clip without a condition."""
    state = encode(load(folder, "none"), clip, BANK)
    picture = Image.fromarray(clip[0].numpy())
    embeddings = pipeline._encode_image(picture, CPU, 1, True)
    image = pipeline.video_processor.preprocess(picture, height=SIZE[0], width=SIZE[1])
    latents = pipeline._encode_vae_image(image, CPU, 1, True)
    assert torch.equal(state.embedding, embeddings[0])
    assert torch.equal(state.condition, latents[0])
    assert not torch.equal(embeddings[0], embeddings[1])
    assert state.image is None


@torch.no_grad()
@pytest.mark.parametrize("condition", ["first", "last", "none"])
def test_features_are_those_of_a_straight_line(
    folder: Path, pipeline: StableVideoDiffusionPipeline, clip: Tensor, condition: str
) -> None:
    """Two windows, the network called by hand on inputs made by hand. Both are told the same image."""
    windows = [[0, 6, 10, 15], [0, 6, 13, 19]]
    rows = [(0, 0), (0, 1), (1, 2), (0, 3), (1, 3)]  # where the bank is
    generator = torch.Generator().manual_seed(3)
    images = (clip[[*windows[0], *windows[1]]].permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    hidden = [pipeline.vae.encoder(image[None]) for image in images]
    told = {"first": images[:1], "last": images[-1:], "none": None}[condition]
    if told is not None:
        noisy = told[0] + 0.02 * torch.randn(3, *SIZE, generator=generator)
        hidden.append(pipeline.vae.encoder(noisy[None]))
        mean, std = (torch.tensor(each)[:, None, None] for each in (CLIP_MEAN, CLIP_STD))
        small = (antialiased_resize(told, (224, 224)) + 1) / 2
        embedding = pipeline.image_encoder((small - mean) / std).image_embeds
    means = pipeline.vae.quant_conv(torch.cat(hidden))[:, :4]
    latent = torch.zeros_like(means[:1]) if told is None else means[8:]
    x0 = (means[:8] * 0.18215).reshape(2, 4, *means.shape[1:])
    eps = torch.randn(x0.shape, generator=generator)
    sample = torch.cat([(x0 + 1.5 * eps) * (1.5**2 + 1) ** -0.5, latent.expand(2, 4, -1, -1, -1)], dim=2)
    text = torch.zeros(2, 1, 8) if told is None else embedding.expand(2, 1, -1)
    theirs: Grids = {}
    names = ["down_blocks.0", "mid_block", "up_blocks.1.attentions.1"]
    handles = [pipeline.unet.get_submodule(name).register_forward_hook(partial(keep, theirs, name)) for name in names]
    ids = torch.tensor([[6, 127, 0.02]]).expand(2, -1)
    pipeline.unet(sample, torch.tensor(0.25 * math.log(1.5)), text, ids)
    for handle in handles:
        handle.remove()

    backbone = load(folder, condition)
    numbers, positions = backbone.family.window(len(clip), BANK)
    assert list(numbers) == [*windows[0], *windows[1]]
    assert positions == [4 * w + t for w, t in rows]
    ours = features(backbone, encode(backbone, clip, BANK, seed=3))
    for name in names:
        assert torch.equal(ours[name], theirs[name].permute(0, 2, 3, 1)[positions]), name


def keep(heard: Grids, name: str, module: Any, inputs: Any, output: Any) -> None:
    heard[name] = output[0] if isinstance(output, tuple) else output


def test_conditions_make_different_features_and_different_recipes(folder: Path, clip: Tensor) -> None:
    found = {}
    for condition in CONDITIONS:
        backbone = load(folder, condition)
        found[condition] = features(backbone, encode(backbone, clip, BANK[:3]))["mid_block"]
    assert not torch.equal(found["first"], found["last"])
    assert not torch.equal(found["first"], found["none"])
    settings = [family(folder, condition=each).settings()["condition"] for each in CONDITIONS]
    assert settings == list(CONDITIONS.values())
    assert family(folder).settings() == family(folder, condition="first").settings()


def test_without_a_condition_the_latents_have_the_first_noise_of_the_seed(folder: Path, clip: Tensor) -> None:
    state = encode(load(folder, "none"), clip, BANK, seed=4)
    drawn = torch.randn(state.latents.shape, generator=torch.Generator().manual_seed(4))
    assert torch.equal(state.noise, drawn)
    last = encode(load(folder, "last"), clip, BANK)
    torch.testing.assert_close(state.latents, last.latents, atol=1e-5, rtol=1e-5)  # a batch of one image less


# --- main memory --------------------------------------------------------------------------------


@pytest.mark.parametrize("offload", ["group", "sequential"])
@pytest.mark.parametrize("condition", ["first", "none"])
def test_offloading_changes_nothing(folder: Path, clip: Tensor, offload: Any, condition: str) -> None:
    facts = family(folder, condition=condition)
    there, away = facts.load(CPU, torch.float32), facts.load_offloaded(CPU, torch.float32, offload)
    latent = facts.site("vae.latent")
    states: list[SVDState] = []
    latents: list[Tensor] = []
    for backbone in (there, away):
        with listen(backbone.module, [latent], stop=False) as heard:
            states.append(encode(backbone, clip, BANK[:3]))
        latents.append(backbone.grid(latent, heard["vae.latent"], states[-1]))
    assert torch.equal(*latents)
    for level in (LEVEL, "sigma=10"):
        for stop in ("down_blocks.0", None):  # a forward that was left early leaves the network usable
            a, b = (features(each, state, level, stop) for each, state in zip((there, away), states, strict=True))
            assert equal(a, b)
    drawn = [
        each.redraw(state, torch.Generator().manual_seed(9)) for each, state in zip((there, away), states, strict=True)
    ]
    assert equal(*(features(each, state) for each, state in zip((there, away), drawn, strict=True)))


def test_offloaded_networks_wait_in_main_memory_and_come_only_when_needed(
    folder: Path, clip: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = family(folder).load_offloaded(CPU, torch.float32, "group")
    moved: list[tuple[str, str]] = []
    for name in ("vae", "image_encoder", "unet"):
        monkeypatch.setattr(backbone.module[name], "to", lambda device, name=name: moved.append((name, str(device))))  # type: ignore[index]
    state = encode(backbone, clip, BANK)
    visits = [("vae", "cpu"), ("image_encoder", "cpu")]
    assert moved == visits * 2  # there and back
    features(backbone, state)
    assert moved == visits * 2
    backbone.redraw(state, torch.Generator())
    assert moved[4:] == [("vae", "cpu")] * 2


def test_a_visit_ends_also_by_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = family(folder).load_offloaded(CPU, torch.float32, "group")
    moved: list[str] = []
    monkeypatch.setattr(backbone.vae, "to", lambda device: moved.append(str(device)))
    with pytest.raises(ValueError, match="inside"), backbone.residence.visit("vae"):
        raise ValueError("inside")
    assert moved == ["cpu", "cpu"]
