"""What is CogVideoX's own: its schedule, its autoencoder, its positions, its condition."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from extract.backbones.base import Options
from extract.backbones.cogvideox import CogVideoX
from extract.backbones.wan import Wan
from extract.checkpoints.family import same_facts
from extract.errors import ExtractError, WeightsError
from tests.extract.video import test_promises as promises
from tests.extract.video.test_promises import encode, features, load, same
from tests.extract.video.tiny import CPU, Tiny, in_range, random_clip
from tests.extract.video.tiny_cogvideox import CHANNELS, I2V, T2V, TINY, open_pipeline, straight_line

SINES, ROTARY, IMAGE, OFFSET = TINY
Checkpoint = Callable[[Tiny], Path]


# --- noise ----------------------------------------------------------------------------------


def schedulers(model: str) -> list[Any]:
    from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

    config = CogVideoX(model).configs["scheduler"]
    return [kind.from_config(dict(config)) for kind in (CogVideoXDDIMScheduler, CogVideoXDPMScheduler)]


@pytest.mark.parametrize("model", CogVideoX.models)
def test_noise_is_that_of_both_schedulers(model: str) -> None:
    schedule = CogVideoX(model).schedule
    ours = torch.tensor(schedule.alphas_cumprod, dtype=torch.float64)
    clean, noise = torch.randn(2, 1, 4, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    for scheduler in schedulers(model):
        assert scheduler.alphas_cumprod.dtype == torch.float64
        torch.testing.assert_close(ours, scheduler.alphas_cumprod, rtol=1e-12, atol=0)
        for t in (0, 100, 250, 500, 998):
            level = schedule.level(f"t={t}", model)
            theirs = scheduler.add_noise(clean, noise, torch.tensor([t]))
            # The scheduler rounds abar to single precision before it takes the root; ours is rounded after it.
            torch.testing.assert_close(schedule.mix(clean, noise, level), theirs, rtol=1e-4, atol=1e-5)
            assert level.timestep == t


@pytest.mark.parametrize("model", CogVideoX.models)
def test_the_papers_level_is_index_749_of_a_thousand_steps(model: str) -> None:
    family = CogVideoX(model, Options(preset="paper"))
    for scheduler in schedulers(model):
        scheduler.set_timesteps(1000)
        assert family.default_levels() == (f"t={int(scheduler.timesteps[749])}",)
    assert family.default_sites() == ("transformer_blocks.18", "transformer_blocks.20")
    sigma = family.noise_level("t=250").sigma
    assert math.isclose(sigma, {"cogvideox-2b": 0.7816}.get(model, 0.5895), abs_tol=1e-4)


@pytest.mark.parametrize("model", CogVideoX.models)
def test_default_levels_have_the_signal_to_noise_of_rectified_flows(model: str) -> None:
    family, flow = CogVideoX(model), Wan("wan2.1-t2v-1.3b")
    ours, theirs = ([f.noise_level(text).log_snr for text in f.default_levels()] for f in (family, flow))
    assert ours == pytest.approx(theirs, abs=0.05)


def test_levels_that_do_not_exist() -> None:
    family = CogVideoX("cogvideox-5b")
    for text, why in (
        ("t=999", "nothing of the clip is left"),
        ("t=1000", "whole timesteps from 0 to 998"),
        ("t=250.5", "whole timesteps from 0 to 998"),
        ("sigma=1.5", "0 < sigma < 1"),
        ("749", "not understood"),
    ):
        with pytest.raises(ExtractError, match=why):
            family.noise_level(text)


# --- facts ----------------------------------------------------------------------------------


def test_what_a_configuration_leaves_out_has_its_default() -> None:
    """The hub's files spell out more or less than ours, as the version of the library was that wrote them."""
    full = CogVideoX("cogvideox-5b").configs["vae"]
    assert full["invert_scale_latents"] is False
    short = {key: value for key, value in full.items() if key != "invert_scale_latents"}
    assert same_facts(full, short)
    assert same_facts(short, full)
    assert not same_facts(short, full | {"invert_scale_latents": True})
    assert not same_facts(full, short | {"scaling_factor": 1.0})
    assert not same_facts(full, short | {"unheard_of": 1})
    assert same_facts({"hidden_size": 4, "architectures": ["T5"]}, {"hidden_size": 4})
    assert not same_facts({"hidden_size": 4}, {"hidden_size": 4, "num_heads": 2})


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "changes", "why"),
    [
        ("scheduler/scheduler_config", {"beta_schedule": "linear"}, 'beta_schedule is "linear" and not "scaled'),
        ("scheduler/scheduler_config", {"rescale_betas_zero_snr": False}, "rescale_betas_zero_snr is false and not t"),
        ("scheduler/scheduler_config", {"trained_betas": [0.1, 0.2]}, r"trained_betas is \[0.1, 0.2\] and not null"),
        ("scheduler/scheduler_config", {"snr_shift_scale": None}, "lacks snr_shift_scale"),
        ("transformer/config", {"patch_size_t": 2}, "patch_size_t is 2 and not null"),
        ("transformer/config", {"in_channels": 2 * CHANNELS}, "in_channels is 8 and not 4"),
    ],
)
def test_a_checkpoint_that_is_not_covered(
    checkpoint: Checkpoint, tmp_path: Path, file: str, changes: dict[str, Any], why: str
) -> None:
    root = shutil.copytree(checkpoint(ROTARY), tmp_path / "changed")
    path = root / f"{file}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(WeightsError, match=why):
        ROTARY.family(root).sites()


def test_a_learned_table_is_for_one_size_and_length() -> None:
    model = "cogvideox-5b-i2v"
    works = r"49 frames of 480x720 and nothing else. Leave out --frames and --size, or take cogvideox-2b"
    for options, asked in (
        (Options(size=(256, 256)), "49 frames of 256x256"),
        (Options(frames=81), "81 frames of 480x720"),
    ):
        for fact in (CogVideoX.sites, CogVideoX.preprocessing, CogVideoX.settings):
            with pytest.raises(ExtractError, match=rf"windows of {asked}: {model} .* for {works}"):
                fact(CogVideoX(model, options))
    family = CogVideoX(model, Options(frames=49, size=(480, 720)))
    assert (family.frames, family.size, family.latent_shape) == (49, (480, 720), (16, 13, 60, 90))


@pytest.mark.parametrize("model", ["cogvideox-2b", "cogvideox-5b"])
def test_computed_positions_are_for_any_size(model: str) -> None:
    family = CogVideoX(model, Options(frames=81, size=(256, 256)))
    assert family.latent_shape == (16, 21, 32, 32)
    with pytest.raises(ExtractError, match=r"multiples of 16 pixels. Nearest: 256x720"):
        CogVideoX(model, Options(size=(248, 720))).sites()
    with pytest.raises(ExtractError, match=r"window of 48 frames: .* Nearest: 49"):
        CogVideoX(model, Options(frames=48)).sites()


def test_only_image_to_video_takes_a_condition() -> None:
    assert CogVideoX("cogvideox-5b-i2v").conditions == ("first", "last", "none")
    assert CogVideoX("cogvideox-5b-i2v").settings()["condition"] == "first"
    for model in ("cogvideox-2b", "cogvideox-5b"):
        assert CogVideoX(model).settings()["condition"] is None
        with pytest.raises(ExtractError, match="is conditioned on no image"):
            CogVideoX(model, Options(condition="first"))


# --- positions --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 48), (48, 32), (64, 64), (16, 96)])
@pytest.mark.parametrize("frames", [9, 17])
def test_rotary_positions_are_the_pipelines(checkpoint: Checkpoint, size: tuple[int, int], frames: int) -> None:
    root = checkpoint(ROTARY)
    family = ROTARY.family(root, size=size, frames=frames)
    assert isinstance(family, CogVideoX)
    ours = family.rotary(CPU)
    theirs = open_pipeline(root, T2V)._prepare_rotary_positional_embeddings(*size, (frames - 1) // 4 + 1, CPU)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)
    assert family.rotary(CPU) is ours


@pytest.mark.parametrize("tiny", [SINES, ROTARY, IMAGE], ids=lambda tiny: tiny.id)
def test_blocks_do_something_and_the_order_of_tokens_matters(checkpoint: Checkpoint, tiny: Tiny) -> None:
    """Else a transformer of no effect, or one that takes tokens for a set, would pass every test."""
    backbone = load(tiny, checkpoint(tiny))
    state = encode(backbone, random_clip(tiny.frames, tiny.size), [0, tiny.frames - 1])
    turned = encode(backbone, random_clip(tiny.frames, tiny.size), [0, tiny.frames - 1])
    turned.latents, turned.noise = turned.latents.roll(2, -1), turned.noise.roll(2, -1)
    grids, rolled = (features(backbone, each, "sigma=0.5") for each in (state, turned))
    names = list(grids)
    for before, after in pairwise(names):
        assert (grids[after] - grids[before]).abs().max() > 0.1 * grids[before].abs().max()
    for name in names:
        moved = rolled[name].roll(-1, 2)
        assert not torch.allclose(moved, grids[name], rtol=1e-3, atol=1e-3 * float(grids[name].abs().max()))


def test_buffers_of_random_networks_have_the_types_of_trained_ones_where_they_are_kept(checkpoint: Checkpoint) -> None:
    trained, drawn = (load(IMAGE, checkpoint(IMAGE), torch.bfloat16, untrained=seed) for seed in (None, 0))
    tables = [each.networks["transformer"].patch_embed.pos_embedding for each in (trained, drawn)]
    assert {table.dtype for table in tables} == {torch.bfloat16}
    assert not torch.equal(*tables)


# --- prompt -----------------------------------------------------------------------------------


def test_the_prompt_is_226_tokens_of_the_real_pipeline(checkpoint: Checkpoint) -> None:
    family = IMAGE.family(checkpoint(IMAGE))
    pipeline = open_pipeline(checkpoint(IMAGE), I2V)
    found = family.embed(pipeline, "", CPU)
    assert {name: tuple(each.shape) for name, each in found.items()} == family.prompt_shapes()
    assert family.prompt_shapes() == {"text": (1, 226, 16)}
    assert torch.equal(found["text"], pipeline.encode_prompt("", do_classifier_free_guidance=False)[0])
    assert CogVideoX("cogvideox-5b").prompt_shapes() == {"text": (1, 226, 4096)}


# --- condition --------------------------------------------------------------------------------


def sure(vae: Any) -> None:
    """Leave the posterior no deviation, so that a draw is its mean."""
    with torch.no_grad():
        out = vae.encoder.conv_out.conv
        out.weight[CHANNELS:] = 0
        out.bias[CHANNELS:] = -100


@torch.no_grad()
@pytest.mark.parametrize("tiny", [IMAGE, OFFSET], ids=lambda tiny: tiny.id)
@pytest.mark.parametrize("choice", ["first", "last"])
def test_the_condition_is_what_the_pipeline_prepares(checkpoint: Checkpoint, tiny: Tiny, choice: str) -> None:
    backbone = load(tiny, checkpoint(tiny), condition=choice)
    pipeline = open_pipeline(checkpoint(tiny), I2V)
    for vae in (backbone.networks["vae"], pipeline.vae):
        sure(vae)
    clip = random_clip(tiny.frames, tiny.size)
    image = in_range(clip)[[0 if choice == "first" else -1]]
    _, theirs = pipeline.prepare_latents(image, 1, CHANNELS, tiny.frames, *tiny.size, torch.float32, CPU)
    (told,) = encode(backbone, clip, [0]).told
    torch.testing.assert_close(told["channels"].transpose(1, 2), theirs, rtol=1e-5, atol=1e-5)
    assert told["channels"][:, :, 0].any()
    assert not told["channels"][:, :, 1:].any()


@pytest.mark.parametrize("choice", ["last", "none"])
def test_other_conditions_are_those_of_a_straight_line_computation(checkpoint: Checkpoint, choice: str) -> None:
    tiny = replace(IMAGE, straight_line=partial(straight_line, image=choice), options={"condition": choice})
    promises.test_features_are_those_of_a_straight_line_computation(tiny, checkpoint(tiny), "sigma=0.5")


def test_each_condition_gives_other_features_and_none_is_nothing(checkpoint: Checkpoint) -> None:
    clip = random_clip(IMAGE.frames, IMAGE.size)
    found = []
    for choice in ("first", "last", "none"):
        backbone = load(IMAGE, checkpoint(IMAGE), condition=choice)
        state = encode(backbone, clip, [0])
        assert state.told[0]["channels"].any() == (choice != "none")
        found.append(features(backbone, state, "sigma=0.5"))
    assert not any(same(a, b) for a, b in (found[:2], found[1:], found[::2]))


def test_the_tiny_networks_have_the_strides_of_the_published_ones(checkpoint: Checkpoint) -> None:
    for tiny in TINY:
        assert tiny.family(checkpoint(tiny)).strides == CogVideoX(tiny.model).strides
