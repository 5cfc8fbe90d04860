"""HunyuanVideo: what its network is told, its two streams of tokens, and what its autoencoder makes of frames."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from extract.backbones._hunyuan_vae import compress
from extract.backbones.base import Options
from extract.diffusion.backbone import LatentVideoBackbone
from extract.diffusion.latent_video import LatentVideoFamily
from extract.diffusion.prompt import prompt_embedding
from extract.errors import ExtractError, WeightsError
from extract.registry import make_family
from tests.extract.video.hunyuan_vae import tiled, without_statistics
from tests.extract.video.spans import check_spans, latents
from tests.extract.video.test_promises import encode, features
from tests.extract.video.tiny import CPU, Tiny, assert_same_call, calls_of, random_clip, seeded
from tests.extract.video.tiny_hunyuan_video import DOUBLE, SINGLE, TINY, VAE, load_pipeline

(TINY_MODEL,) = TINY


@pytest.fixture
def folder(checkpoint: Callable[[Tiny], Path]) -> Path:
    return checkpoint(TINY_MODEL)


@pytest.fixture
def backbone(folder: Path) -> LatentVideoBackbone:
    return TINY_MODEL.family(folder).load(CPU, torch.float32)


def family(**options: Any) -> LatentVideoFamily:
    made = make_family("hunyuanvideo", Options(**options))
    assert isinstance(made, LatentVideoFamily)
    return made


# --- what the network is told -------------------------------------------------------------------


def test_the_network_is_called_as_the_pipeline_calls_it(folder: Path, backbone: LatentVideoBackbone) -> None:
    pipeline = load_pipeline(folder)
    pipeline.set_progress_bar_config(disable=True)
    sample = torch.randn(1, *backbone.family.latent_shape, generator=torch.Generator().manual_seed(0))
    height, width = TINY_MODEL.size
    their_calls = calls_of(pipeline.transformer)
    pipeline("", height=height, width=width, num_frames=9, sigmas=[0.5], latents=sample, output_type="latent")
    our_calls = calls_of(backbone.networks["transformer"])
    level = backbone.family.noise_level("t=875")  # 7 / (1 / 0.5 + 7 - 1), what shift 7 makes of 0.5
    backbone.family.denoise(backbone.networks, sample, level, backbone.prompt)

    (theirs,), (ours,) = their_calls, our_calls
    assert theirs.pop("attention_kwargs") is None
    assert_same_call(ours, theirs)
    assert ours["guidance"].tolist() == [6000.0]
    assert ours["timestep"].tolist() == [875.0]


def test_noise_is_that_of_the_scheduler() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=7.0)
    made = family()
    latent, noise = torch.randn(2, 1, 4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for index in (0, 300, 998):
        timestep = scheduler.timesteps[index]
        level = made.noise_level(f"t={float(timestep)}") if index else made.noise_level("t=999.999")
        assert level.sigma == pytest.approx(float(scheduler.sigmas[index]), abs=2e-6)
        expected = scheduler.scale_noise(latent, timestep[None], noise)
        torch.testing.assert_close(made.schedule.mix(latent, noise, level), expected, atol=1e-4, rtol=0)
    assert made.settings()["guidance"] == "embedded, 6.0"


def test_only_the_text_counts_and_not_what_pads_it(folder: Path, backbone: LatentVideoBackbone) -> None:
    mask = prompt_embedding(backbone.family, CPU, torch.float32)["text_mask"]
    valid = int(mask.sum())
    assert 0 < valid < mask.shape[1] == 256
    assert mask[0, :valid].all()
    clip = random_clip(TINY_MODEL.frames, TINY_MODEL.size)

    def grids() -> dict[str, Tensor]:
        return features(backbone, encode(backbone, clip, [0, 5]), "sigma=0.5")

    first = grids()
    text = backbone.prompt["text"]
    backbone.prompt["text"] = torch.cat([text[:, :valid], 100 * torch.randn_like(text[:, valid:])], dim=1)
    beyond = grids()
    backbone.prompt["text"] = torch.cat([-text[:, :valid], text[:, valid:]], dim=1)
    within = grids()
    for name in first:
        torch.testing.assert_close(beyond[name], first[name], atol=1e-5, rtol=1e-5)
        assert float((within[name] - first[name]).abs().max()) > 1e-3, name


def test_every_block_does_something_and_the_place_of_a_token_matters(backbone: LatentVideoBackbone) -> None:
    clip = random_clip(TINY_MODEL.frames, TINY_MODEL.size)
    bank = [0, 1, 5]
    state = encode(backbone, clip, bank)
    straight = features(backbone, state, "sigma=0.5")
    names = list(straight)
    assert len(names) == DOUBLE + SINGLE
    for before, after in pairwise(names):
        assert float((straight[after] - straight[before]).abs().max()) > 0.05, after
    for axis, dim in ((2, 0), (3, 1), (4, 2)):  # mirrored in time, y and x
        state.latents, state.noise = (each.flip(axis) for each in (state.latents, state.noise))
        mirrored = features(backbone, state, "sigma=0.5")
        state.latents, state.noise = (each.flip(axis) for each in (state.latents, state.noise))
        for name in names:
            assert float((mirrored[name].flip(dim) - straight[name]).abs().max()) > 1e-3, (name, axis)


# --- autoencoder --------------------------------------------------------------------------------


def test_the_latents_of_a_bank_frame_are_those_its_span_names(backbone: LatentVideoBackbone) -> None:
    without_statistics(backbone.networks["vae"])
    check_spans(backbone)


def test_group_normalisation_lets_every_latent_know_of_every_frame(backbone: LatentVideoBackbone) -> None:
    clip = random_clip(TINY_MODEL.frames, TINY_MODEL.size)
    other = clip.clone()
    other[-1] = 255
    change = (latents(backbone, other, [0]) - latents(backbone, clip, [0])).abs().amax((0, 1, 3, 4))
    assert (change > 0).all()


def test_all_frames_are_encoded_at_once(folder: Path) -> None:
    vae = load_pipeline(folder).vae
    clip = torch.rand(1, 3, 33, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    cut = vae.encode(clip).latent_dist.mode() * vae.config.scaling_factor
    whole = vae.quant_conv(vae.encoder(clip)).chunk(2, dim=1)[0] * vae.config.scaling_factor
    with torch.no_grad():
        got = compress(vae, clip)
    assert torch.equal(got, whole)
    assert not torch.allclose(got, cut, atol=1e-3)


@torch.no_grad()
def test_large_frames_are_encoded_in_tiles_that_blend() -> None:
    from diffusers import AutoencoderKLHunyuanVideo

    with seeded():
        vae = AutoencoderKLHunyuanVideo(**VAE)
    clip = torch.rand(1, 3, 1, 272, 400, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = tiled(vae, clip) * 0.476986
    assert expected.shape[2:] == (1, 34, 50)
    torch.testing.assert_close(compress(vae, clip), expected)
    whole = clip[..., :48, :256]
    expected = vae.quant_conv(vae.encoder(whole)).chunk(2, dim=1)[0] * 0.476986
    assert torch.equal(compress(vae, whole), expected)


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (540, 960)}, r"size 540x960: hunyuanvideo takes multiples of 16 pixels\. Nearest: 544x960\."),
        ({"frames": 60}, r"window of 60 frames: .* 4 n \+ 1 frames\. Nearest: 61\."),
    ],
)
def test_sizes_and_lengths_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExtractError, match=message):
        family(**options).sites()


@pytest.mark.parametrize("text", ["t=1000", "sigma=0", "sigma=1.5", "s=0.5", "502"])
def test_noise_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ExtractError, match="noise level"):
        family().noise_level(text)


def test_it_takes_no_image_and_no_preset_of_the_paper() -> None:
    with pytest.raises(ExtractError, match="conditioned on no image"):
        family(condition="first")
    with pytest.raises(ExtractError, match="hunyuanvideo takes standard"):
        family(preset="paper")


@pytest.mark.parametrize(
    "change", [{"image_condition_type": "token_replace"}, {"in_channels": 33}, {"patch_size_t": 2}], ids=str
)
def test_another_kind_of_network_is_refused(folder: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    file = copy / "transformer" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(WeightsError, match=rf"transformer/config\.json.*{next(iter(change))}"):
        TINY_MODEL.family(copy).sites()
