"""Mochi: what its network is told, in which direction its time goes, and what its autoencoder makes of frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from extract.backbones.base import Options
from extract.backbones.mochi import Mochi, in_8_bits
from extract.checkpoints.family import CONFIGS
from extract.diffusion.backbone import LatentVideoBackbone
from extract.diffusion.prompt import prompt_embedding
from extract.errors import ExtractError
from extract.registry import make_family
from tests.extract.video import test_promises as promises
from tests.extract.video.spans import check_spans, latents
from tests.extract.video.test_promises import encode, features
from tests.extract.video.tiny import CPU, Tiny, assert_same_call, calls_of, in_range, random_clip
from tests.extract.video.tiny_mochi import LAYERS, NO_TEXT, TINY

pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")  # the library's, where it runs by itself
(TINY_MODEL,) = TINY


@pytest.fixture
def folder(checkpoint: Callable[[Tiny], Path]) -> Path:
    return checkpoint(TINY_MODEL)


@pytest.fixture
def backbone(folder: Path) -> LatentVideoBackbone:
    return TINY_MODEL.family(folder).load(CPU, torch.float32)


def family(**options: Any) -> Mochi:
    made = make_family("mochi-1", Options(**options))
    assert isinstance(made, Mochi)
    return made


def load_pipeline(folder: Path) -> Any:
    from diffusers import MochiPipeline

    pipeline = MochiPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    pipeline.text_encoder.set_attn_implementation("eager")
    return pipeline


# --- what the network is told -------------------------------------------------------------------


def test_the_network_is_called_as_the_pipeline_calls_it(folder: Path, backbone: LatentVideoBackbone) -> None:
    pipeline = load_pipeline(folder)
    pipeline.set_progress_bar_config(disable=True)
    sample = torch.randn(1, *backbone.family.latent_shape, generator=torch.Generator().manual_seed(0))
    height, width = TINY_MODEL.size
    theirs = calls_of(pipeline.transformer)
    pipeline(
        prompt="",
        height=height,
        width=width,
        num_frames=TINY_MODEL.frames,
        num_inference_steps=4,
        guidance_scale=1.0,
        latents=sample,
        output_type="latent",
    )
    assert [float(call["timestep"]) for call in theirs] == sorted(float(call["timestep"]) for call in theirs)
    assert torch.equal(theirs[0].pop("hidden_states"), sample)  # the noise
    assert float(theirs.pop(0)["timestep"]) == 0
    ours = calls_of(backbone.networks["transformer"])
    for call in theirs:
        level = backbone.family.noise_level(f"sigma={1 - float(call['timestep']) / 1000}")
        backbone.family.denoise(backbone.networks, call["hidden_states"], level, backbone.prompt)
    for call, ours_now in zip(theirs, ours, strict=True):
        assert call.pop("attention_kwargs") is None
        assert ours_now.keys() == call.keys()
        torch.testing.assert_close(ours_now.pop("timestep"), call.pop("timestep"), atol=1e-4, rtol=0)
        assert_same_call(ours_now, call)


def test_noise_is_that_of_the_scheduler_whose_time_rises_from_noise_to_data() -> None:
    """The network says x_0 - eps: the scheduler, told so, walks from eps to x_0 through the x_t of `mix`."""
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

    config = json.loads((CONFIGS / "mochi-1" / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(config)
    scheduler.set_timesteps(sigmas=linear_quadratic_schedule(20, 0.025))
    latent, noise = torch.randn(2, 1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    sample = noise
    for timestep in scheduler.timesteps:
        if timestep > 0:
            level = family().noise_level(f"sigma={1 - float(timestep) / 1000}")
            assert level.timestep == pytest.approx(float(timestep), abs=1e-3)
            torch.testing.assert_close(family().schedule.mix(latent, noise, level), sample, atol=1e-5, rtol=0)
        sample = scheduler.step(latent - noise, timestep, sample, return_dict=False)[0]
    torch.testing.assert_close(sample, latent, atol=1e-5, rtol=0)
    noisy, clean = (family().noise_level(f"sigma={sigma}") for sigma in (0.9, 0.1))
    assert noisy.timestep < clean.timestep
    assert noisy.log_snr < 0 < clean.log_snr


@pytest.mark.parametrize("tiny", [TINY_MODEL, NO_TEXT], ids=lambda tiny: tiny.id)
def test_of_an_empty_prompt_one_token_counts_or_none(tiny: Tiny, checkpoint: Callable[[Tiny], Path]) -> None:
    folder = checkpoint(tiny)
    backbone = tiny.family(folder).load(CPU, torch.float32)
    prompt = prompt_embedding(backbone.family, CPU, torch.float32)
    assert {name: tuple(tensor.shape) for name, tensor in prompt.items()} == backbone.family.prompt_shapes()
    assert family().prompt_shapes() == {"text": (1, 256, 4096), "text_mask": (1, 256)}
    assert prompt["text_mask"][0].tolist() == [True] + [False] * 255
    no_text = tiny is NO_TEXT
    assert backbone.family.settings()["empty prompt"] == ("no token" if no_text else "one token")
    text = prompt["text"]
    if not no_text:
        with torch.no_grad():
            expected, mask, _, _ = load_pipeline(folder).encode_prompt("", do_classifier_free_guidance=False)
        assert torch.equal(text, expected)
        assert torch.equal(prompt["text_mask"], mask)
    clip = random_clip(tiny.frames, tiny.size)

    def grids() -> dict[str, Tensor]:
        return features(backbone, encode(backbone, clip, [0, 7]), "sigma=0.5")

    first = grids()
    backbone.prompt["text"] = torch.cat([text[:, :1], 100 * torch.randn_like(text[:, 1:])], dim=1)
    beyond = grids()
    backbone.prompt["text"] = torch.cat([-text[:, :1], text[:, 1:]], dim=1)
    within = grids()
    for name in first:
        torch.testing.assert_close(beyond[name], first[name], atol=1e-5, rtol=1e-5)
        assert torch.equal(within[name], first[name]) == no_text, name
    if no_text:
        promises.test_features_are_those_of_a_straight_line_computation(tiny, folder, "sigma=0.3")


def mirrored(backbone: LatentVideoBackbone, state: Any, axis: int) -> dict[str, Tensor]:
    """Features of mirrored latents and noise, (latent, channel, time, y, x), mirrored back."""
    state.latents, state.noise = (each.flip(axis) for each in (state.latents, state.noise))
    grids = features(backbone, state, "sigma=0.5")
    state.latents, state.noise = (each.flip(axis) for each in (state.latents, state.noise))
    return {name: grid.flip(axis - 2) for name, grid in grids.items()}


def test_every_block_does_something_and_the_place_of_a_token_matters(backbone: LatentVideoBackbone) -> None:
    state = encode(backbone, random_clip(TINY_MODEL.frames, TINY_MODEL.size), [0, 1, 7])
    straight = features(backbone, state, "sigma=0.5")
    names = list(straight)
    assert len(names) == LAYERS
    for before, after in pairwise(names):
        assert float((straight[after] - straight[before]).abs().max()) > 0.05, after
    for axis in (2, 3, 4):
        for name, grid in mirrored(backbone, state, axis).items():
            assert float((grid - straight[name]).abs().max()) > 1e-3, (name, axis)


def test_an_untrained_network_knows_no_order_of_latents(folder: Path) -> None:
    backbone = TINY_MODEL.family(folder, untrained=0).load(CPU, torch.float32)
    state = encode(backbone, random_clip(TINY_MODEL.frames, TINY_MODEL.size), [0, 1, 7])
    straight = features(backbone, state, "sigma=0.5")
    for name, grid in mirrored(backbone, state, 2).items():
        torch.testing.assert_close(grid, straight[name], atol=1e-4, rtol=1e-4)


# --- autoencoder --------------------------------------------------------------------------------


def test_the_latents_of_a_bank_frame_are_those_its_span_names(folder: Path) -> None:
    check_spans(TINY_MODEL.family(folder, size=(16, 16)).load(CPU, torch.float32))


def test_latents_are_what_the_pipeline_decodes(backbone: LatentVideoBackbone) -> None:
    vae: Any = backbone.networks["vae"]
    clip = random_clip(TINY_MODEL.frames, TINY_MODEL.size)
    mean, std = (torch.tensor(each)[:, None, None, None] for each in (vae.config.latents_mean, vae.config.latents_std))
    raw = latents(backbone, clip, [0]) * std / vae.config.scaling_factor + mean
    with torch.no_grad():
        expected = vae.encode(in_range(clip).movedim(0, 1)[None]).latent_dist.mode()
    torch.testing.assert_close(raw, expected, atol=1e-6, rtol=1e-5)


def test_all_frames_are_encoded_at_once(backbone: LatentVideoBackbone) -> None:
    vae: Any = backbone.networks["vae"]
    assert not any([vae.use_tiling, vae.use_slicing, vae.use_framewise_encoding])
    vae._enable_framewise_encoding()
    with pytest.raises(NotImplementedError, match="Frame-wise encoding does not work"):
        vae.encode(torch.zeros(1, 3, 13, 16, 16))


def test_frames_are_rounded_to_8_bits_and_those_of_8_bits_are_left_alone(backbone: LatentVideoBackbone) -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(13, 16, 16, 3)
    exact = in_range(levels).movedim(0, 1)[None]
    assert torch.equal(in_8_bits(exact), exact)
    off = exact + torch.empty_like(exact).uniform_(-0.45, 0.45, generator=torch.Generator().manual_seed(0)) * 2 / 255
    assert torch.equal(in_8_bits(off), exact)
    with torch.no_grad():
        assert torch.equal(
            backbone.family.compress(backbone.networks, off), backbone.family.compress(backbone.networks, exact)
        )


def test_bfloat16_frames_would_be_up_to_a_quarter_of_a_turn_off() -> None:
    from diffusers.models.autoencoders.autoencoder_kl_mochi import FourierFeatures

    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    exact = in_range(levels).movedim(0, 1)[None]
    rounded = exact.bfloat16().float()
    assert float((rounded - exact).abs().max()) * 128 == pytest.approx(0.25, abs=0.01)
    assert float((FourierFeatures()(rounded) - FourierFeatures()(exact)).abs().max()) > 0.9
    assert family().exact_autoencoder


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (480, 840)}, r"size 480x840: mochi-1 takes multiples of 16 pixels\. Nearest: 480x8(32|48)\."),
        ({"frames": 30}, r"window of 30 frames: .* 6 n \+ 1 frames\. Nearest: 31\."),
        ({"condition": "first"}, r"--condition first: mochi-1 is conditioned on no image"),
        ({"preset": "paper"}, r"mochi-1 takes standard"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExtractError, match=message):
        family(**options).sites()


@pytest.mark.parametrize("text", ["t=500", "sigma=0", "sigma=1", "sigma=1.5", "s=0.5", "502"])
def test_noise_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ExtractError, match="noise level"):
        family().noise_level(text)
