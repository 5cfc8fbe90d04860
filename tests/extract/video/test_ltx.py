"""LTX-Video: what its network is told, what a noise level is, and what its autoencoder makes of frames."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from extract.backbones.base import NoiseLevel, Options
from extract.checkpoints.family import CONFIGS
from extract.diffusion.backbone import LatentVideoBackbone
from extract.diffusion.latent_video import LatentVideoFamily
from extract.diffusion.prompt import prompt_embedding
from extract.errors import ExtractError, WeightsError
from extract.registry import make_family
from tests.extract.video import test_promises as promises
from tests.extract.video.spans import check_spans, latents
from tests.extract.video.test_promises import encode, features
from tests.extract.video.tiny import CPU, Tiny, assert_same_call, calls_of, random_clip
from tests.extract.video.tiny_ltx import LAST, LAYERS, TINY

TINY_MODEL = TINY[0]


@pytest.fixture
def folder(checkpoint: Callable[[Tiny], Path]) -> Path:
    return checkpoint(TINY_MODEL)


@pytest.fixture
def backbone(folder: Path) -> LatentVideoBackbone:
    return TINY_MODEL.family(folder).load(CPU, torch.float32)


def family(**options: Any) -> LatentVideoFamily:
    made = make_family("ltx-video", Options(**options))
    assert isinstance(made, LatentVideoFamily)
    return made


def load_pipeline(folder: Path) -> Any:
    from diffusers import LTXPipeline

    pipeline = LTXPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    pipeline.text_encoder.set_attn_implementation("eager")
    return pipeline


# --- what the network is told -------------------------------------------------------------------


@pytest.mark.parametrize("conditioned", [False, True])
def test_the_network_is_called_as_the_pipeline_calls_it(
    folder: Path, backbone: LatentVideoBackbone, conditioned: bool
) -> None:
    from diffusers import LTXImageToVideoPipeline

    pipeline = load_pipeline(folder)
    given: dict[str, Any] = {}
    if conditioned:
        pipeline = LTXImageToVideoPipeline(**pipeline.components)
        given = {"image": torch.rand(1, 3, *TINY_MODEL.size, generator=torch.Generator().manual_seed(1))}
    pipeline.set_progress_bar_config(disable=True)
    shape = backbone.family.latent_shape
    packed = torch.randn(1, shape[1] * shape[2] * shape[3], shape[0], generator=torch.Generator().manual_seed(0))
    height, width = TINY_MODEL.size
    theirs = calls_of(pipeline.transformer)
    pipeline(
        prompt="",
        height=height,
        width=width,
        num_frames=TINY_MODEL.frames,
        num_inference_steps=3,
        guidance_scale=1.0,
        latents=packed,
        output_type="latent",
        **given,
    )
    ours = calls_of(backbone.networks["transformer"])
    assert len(theirs) == 3
    for call in theirs:
        t = float(call["timestep"].max())
        sample = pipeline._unpack_latents(call["hidden_states"], *shape[1:])
        told = backbone.prompt | ({"first": sample[:, :, :1]} if conditioned else {})
        backbone.family.denoise(backbone.networks, sample, NoiseLevel(f"t{t}", t / 1000, 0, t), told)
    for call, ours_now in zip(theirs, ours, strict=True):
        assert call.pop("attention_kwargs") is None
        assert_same_call(ours_now, call)
    assert ours[0]["rope_interpolation_scale"] == (0.32, 32, 32)
    assert family().settings()["frame_rate"] == 25


def test_noise_is_that_of_the_scheduler() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    config = json.loads((CONFIGS / "ltx-video" / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(config)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 40, 40), mu=2.05)
    latent, noise = torch.randn(2, 1, 4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for index in (1, 20, 39):
        timestep = scheduler.timesteps[index]
        level = family().noise_level(f"t={float(timestep)}")
        assert level.sigma == pytest.approx(float(scheduler.sigmas[index]), abs=1e-7)
        assert level.timestep == float(timestep)
        expected = scheduler.scale_noise(latent, timestep[None], noise)
        torch.testing.assert_close(family().schedule.mix(latent, noise, level), expected, atol=1e-6, rtol=0)


def test_of_an_empty_prompt_one_token_counts(folder: Path, backbone: LatentVideoBackbone) -> None:
    prompt = prompt_embedding(backbone.family, CPU, torch.float32)
    assert {name: tuple(tensor.shape) for name, tensor in prompt.items()} == backbone.family.prompt_shapes()
    with torch.no_grad():
        text, mask, _, _ = load_pipeline(folder).encode_prompt("", do_classifier_free_guidance=False)
    assert torch.equal(prompt["text"], text)
    assert torch.equal(prompt["text_mask"], mask)
    assert mask[0].tolist() == [True] + [False] * 127
    assert family().prompt_shapes() == {"text": (1, 128, 4096), "text_mask": (1, 128)}
    clip = random_clip(TINY_MODEL.frames, TINY_MODEL.size)

    def grids() -> dict[str, Tensor]:
        return features(backbone, encode(backbone, clip, [0, 9]), "sigma=0.5")

    first = grids()
    backbone.prompt["text"] = torch.cat([text[:, :1], 100 * torch.randn_like(text[:, 1:])], dim=1)
    beyond = grids()
    backbone.prompt["text"] = torch.cat([-text[:, :1], text[:, 1:]], dim=1)
    within = grids()
    for name in first:
        torch.testing.assert_close(beyond[name], first[name], atol=1e-5, rtol=1e-5)
        assert float((within[name] - first[name]).abs().max()) > 1e-3, name


def test_every_block_does_something_and_the_place_of_a_token_matters(backbone: LatentVideoBackbone) -> None:
    state = encode(backbone, random_clip(TINY_MODEL.frames, TINY_MODEL.size), [0, 1, 9])
    straight = features(backbone, state, "sigma=0.5")
    names = list(straight)
    assert len(names) == LAYERS
    for before, after in pairwise(names):
        assert float((straight[after] - straight[before]).abs().max()) > 0.05, after
    for axis, dim in ((2, 0), (3, 1), (4, 2)):  # mirrored in time, y and x
        state.latents, state.noise = (each.flip(axis) for each in (state.latents, state.noise))
        mirrored = features(backbone, state, "sigma=0.5")
        state.latents, state.noise = (each.flip(axis) for each in (state.latents, state.noise))
        for name in names:
            assert float((mirrored[name].flip(dim) - straight[name]).abs().max()) > 1e-3, (name, axis)


# --- autoencoder --------------------------------------------------------------------------------


def test_the_latents_of_a_bank_frame_are_those_its_span_names(folder: Path) -> None:
    check_spans(TINY_MODEL.family(folder, size=(32, 32)).load(CPU, torch.float32))


def test_latents_are_what_the_pipeline_decodes(backbone: LatentVideoBackbone) -> None:
    from diffusers import LTXPipeline

    vae: Any = backbone.networks["vae"]
    clip = random_clip(TINY_MODEL.frames, TINY_MODEL.size)
    raw = LTXPipeline._denormalize_latents(
        latents(backbone, clip, [0]), vae.latents_mean, vae.latents_std, vae.config.scaling_factor
    )
    with torch.no_grad():
        expected = vae.encode((clip.permute(3, 0, 1, 2)[None].float() / 255 - 0.5) / 0.5).latent_dist.mode()
    torch.testing.assert_close(raw, expected, atol=1e-6, rtol=1e-5)
    assert not any([vae.use_tiling, vae.use_slicing, vae.use_framewise_encoding, vae.use_framewise_decoding])


def test_a_condition_is_the_latent_of_one_frame_in_the_first_place(folder: Path) -> None:
    clip = random_clip(TINY_MODEL.frames, TINY_MODEL.size)
    told, grids = {}, {}
    for choice in ("none", "first", "last"):
        backbone = TINY_MODEL.family(folder, condition=choice).load(CPU, torch.float32)
        state = encode(backbone, clip, [0, 9])
        told[choice], grids[choice] = state.told[0], features(backbone, state, "sigma=0.5")
        if choice == "first":
            torch.testing.assert_close(told[choice]["first"], state.latents[:, :, :1], atol=1e-5, rtol=1e-5)
    assert told["none"] == {}
    assert not torch.allclose(told["first"]["first"], told["last"]["first"], atol=1e-2)
    for name in grids["none"]:
        for a, b in (("none", "first"), ("first", "last")):
            assert not torch.allclose(grids[a][name], grids[b][name], atol=1e-3), (name, a, b)
    assert family().condition_frame == "none"
    promises.test_features_are_those_of_a_straight_line_computation(LAST, folder, "sigma=0.3")


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (480, 700)}, r"size 480x700: ltx-video takes multiples of 32 pixels\. Nearest: 480x704\."),
        ({"frames": 120}, r"window of 120 frames: .* 8 n \+ 1 frames\. Nearest: 121\."),
        ({"condition": "middle"}, r"--condition middle: ltx-video takes none \| first \| last"),
        ({"preset": "paper"}, r"ltx-video takes standard"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExtractError, match=message):
        family(**options).sites()


@pytest.mark.parametrize("text", ["t=1000", "sigma=0", "sigma=1.5", "s=0.5", "502"])
def test_noise_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ExtractError, match="noise level"):
        family().noise_level(text)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("vae", {"timestep_conditioning": True}, r"LTX-Video 0\.9\.1 or later; ltx-video is 0\.9\.0.*--revision"),
        ("vae", {"encoder_causal": False}, r"vae/config\.json: encoder_causal is false and not true"),
        ("transformer", {"patch_size": 2}, r"transformer/config\.json: patch_size is 2 and not 1"),
    ],
)
def test_another_kind_of_network_is_refused(
    folder: Path, tmp_path: Path, part: str, change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    file = copy / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(WeightsError, match=message):
        TINY_MODEL.family(copy).sites()
    monkeypatch.setattr("extract.checkpoints.family.download", lambda *_: copy)  # as if the hub had it
    with pytest.raises(WeightsError, match=message):
        family().weights()
