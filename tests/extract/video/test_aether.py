"""What is Aether's own: two repositories, channels that are no video, its pace of time, its reconstruction."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from extract.backbones import aether
from extract.backbones.aether import LENGTHS, Aether, at_pace
from extract.backbones.base import Options
from extract.backbones.cogvideox import CogVideoX
from extract.errors import ExtractError, WeightsError
from tests.extract.video import test_promises as promises
from tests.extract.video.test_promises import encode, features, load, same
from tests.extract.video.tiny import CPU, Tiny, in_range, random_clip
from tests.extract.video.tiny_aether import CHANNELS, NOISY, RAY_MAP, TINY, components, positions, straight_line

ASSEMBLE = r"hf download AetherWorldModel/AetherV1 --include [^\n]*\n.*hf download zai-org/CogVideoX-5b-I2V --include"
PAPER_BANK = [0, *range(1, 76, 4)]
Checkpoint = Callable[[Tiny], Path]


@pytest.fixture
def folder(checkpoint: Checkpoint) -> Path:
    return checkpoint(TINY[0])


# --- facts ----------------------------------------------------------------------------------


def test_the_published_network() -> None:
    family = Aether("aether")
    assert family.latent_shape == (16, 11, 60, 90)
    assert (family.denoised_channels, family.inputs(16)) == (56, 96)
    assert family.conditions == ("first", "last", "none")
    assert family.settings()["fps"] == 12
    paper = Aether("aether", Options(preset="paper"))
    assert paper.settings()["fps"] == 8
    assert (paper.default_sites(), paper.default_levels()) == (
        ("transformer_blocks.18", "transformer_blocks.20"),
        ("t=250",),
    )
    assert family.settings()["disparity and ray map"] != paper.settings()["disparity and ray map"]


def test_windows_are_as_long_as_in_training() -> None:
    assert [Aether("aether", Options(frames=length)).latent_shape[1] for length in LENGTHS] == [5, 7, 9, 11]
    for length in (9, 49):
        with pytest.raises(ExtractError, match=rf"window of {length} frames: aether takes 17, 25, 33, 41"):
            Aether("aether", Options(frames=length)).sites()


def test_bank_frames_share_a_latent_with_the_papers_windows_only() -> None:
    standard, paper = Aether("aether"), Aether("aether", Options(preset="paper"))

    def latents(family: Aether) -> set[int]:
        return {at // 41 * 11 + -(-(at % 41) // 4) for at in family.windows(81, PAPER_BANK).positions}

    assert (len(PAPER_BANK), len(latents(standard)), len(latents(paper))) == (20, 20, 11)
    assert paper.windows(81, PAPER_BANK).frames == ((0, *range(1, 81, 2)), tuple(range(0, 81, 2)))


# --- positions --------------------------------------------------------------------------------


@pytest.mark.parametrize("length", LENGTHS)
def test_at_twelve_frames_per_second_positions_are_the_librarys(length: int) -> None:
    family = Aether("aether", Options(frames=length))
    plain = CogVideoX.make_rotary(family, CPU)
    for ours, theirs in zip(family.rotary(CPU), plain, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("rate", [8, 10, 15, 24])
def test_at_another_rate_time_passes_at_another_pace(folder: Path, rate: int) -> None:
    family = TINY[0].family(folder)
    assert isinstance(family, Aether)
    plain = CogVideoX.make_rotary(family, CPU)
    expected = positions(components(folder), 5, *TINY[0].size, rate=rate)
    for ours, theirs, before in zip(at_pace(plain, 5, 12 / rate), expected, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
        assert torch.equal(ours[:, 4:], before[:, 4:])  # a quarter of the channels is for time
        assert not torch.equal(ours[:, :4], before[:, :4])


# --- what the network is told -----------------------------------------------------------------


def test_geometry_is_noise_alone_and_no_camera_is_given(folder: Path) -> None:
    seen: dict[str, Any] = {}
    backbone = load(TINY[0], folder)
    backbone.networks["transformer"].register_forward_pre_hook(lambda _m, _a, told: seen.update(told), with_kwargs=True)
    clip = random_clip(TINY[0].frames, TINY[0].size)
    state = encode(backbone, clip, [0, 16])
    level = backbone.family.noise_level("sigma=0.5")
    backbone.forward(state, level)
    assert state.latents.shape == state.noise.shape == (1, NOISY, 5, 4, 6)
    sample = seen["hidden_states"].transpose(1, 2)
    video, geometry, image, camera = sample.split([CHANNELS, CHANNELS + RAY_MAP, CHANNELS, RAY_MAP], dim=1)
    assert torch.equal(geometry, level.sigma * state.noise[:, CHANNELS:])
    assert torch.equal(video, backbone.family.schedule.mix(state.latents, state.noise, level)[:, :CHANNELS])
    assert not camera.any()
    assert not image[:, :, 1:].any()
    still = in_range(clip)[0][None, :, None]
    with torch.no_grad():
        assert torch.equal(image[:, :, :1], backbone.family.compress(backbone.networks, still))


@pytest.mark.parametrize("choice", ["last", "none"])
def test_other_conditions_are_those_of_a_straight_line_computation(folder: Path, choice: str) -> None:
    tiny = replace(TINY[0], straight_line=partial(straight_line, image=choice), options={"condition": choice})
    promises.test_features_are_those_of_a_straight_line_computation(tiny, folder, "sigma=0.5")


# --- reconstruction ---------------------------------------------------------------------------


@torch.no_grad()
def reconstruct(root: Path, images: Tensor, generator: torch.Generator) -> Tensor:
    """Four steps of the library's sampler with the window given; what it makes of disparity and ray map."""
    pipeline = components(root)
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [999, 749, 499, 249]
    video = 0.7 * pipeline.vae.encode(images.movedim(0, 1)[None]).latent_dist.mode()
    _, _, time, rows, columns = video.shape
    given = torch.cat([video, torch.zeros(1, RAY_MAP, time, rows, columns)], dim=1)
    sample = torch.randn(1, NOISY, time, rows, columns, generator=generator)
    text, _ = pipeline.encode_prompt("", do_classifier_free_guidance=False)
    rotary = positions(pipeline, time, *images.shape[-2:], rate=8)
    old = None
    for i, t in enumerate(scheduler.timesteps):
        (velocity,) = pipeline.transformer(
            hidden_states=torch.cat([sample, given], dim=1).transpose(1, 2),
            encoder_hidden_states=text,
            timestep=t.expand(1),
            image_rotary_emb=rotary,
            return_dict=False,
        )
        last = scheduler.timesteps[i - 1] if i else None
        sample, old = scheduler.step(velocity.transpose(1, 2), old, t, last, sample, generator=generator)
    return sample[:, CHANNELS:]


def test_the_papers_features_are_those_of_reconstruction_and_one_pass(folder: Path) -> None:
    backbone = load(TINY[0], folder, preset="paper")
    family = backbone.family
    bank = list(range(17))
    clip = random_clip(17, TINY[0].size)
    state = encode(backbone, clip, bank)
    got = features(backbone, state, "t=250")

    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, NOISY, 5, 4, 6, generator=generator)
    windows = family.windows(17, bank)
    assert windows.frames[0] == (0, *range(1, 17, 2), *[16] * 8)
    images = [in_range(clip[list(frames)]) for frames in windows.frames]
    geometry = [reconstruct(folder, each, generator) for each in images]
    assert torch.equal(state.latents[:, CHANNELS:], torch.cat(geometry))
    assert not torch.equal(*geometry)
    level = family.noise_level("t=250")
    computed = [
        straight_line(folder, images[w], noise[w : w + 1], level, geometry=geometry[w]) for w in range(len(images))
    ]
    for row, position in enumerate(windows.positions):
        for name, grid in got.items():
            assert torch.equal(grid[row], computed[position // 17][name][-(-(position % 17) // 4)])


def test_another_draw_of_noise_keeps_the_reconstruction(folder: Path) -> None:
    backbone = load(TINY[0], folder, torch.bfloat16, preset="paper")
    state = encode(backbone, random_clip(17, TINY[0].size), [0, 16])
    assert state.latents.dtype == torch.float32
    drawn = backbone.redraw(state, torch.Generator().manual_seed(1))
    assert torch.equal(drawn.latents, state.latents)
    assert drawn.noise.shape == state.noise.shape
    assert not torch.equal(drawn.noise, state.noise)


@pytest.mark.parametrize("offload", ["group", "sequential"])
def test_a_reconstruction_does_not_depend_on_where_weights_wait(folder: Path, offload: Any) -> None:
    clip = random_clip(17, TINY[0].size)
    there = load(TINY[0], folder, preset="paper")
    away = TINY[0].family(folder, preset="paper").load_offloaded(CPU, torch.float32, offload)
    states = [encode(each, clip, [0, 16]) for each in (there, away)]
    assert torch.equal(states[0].latents, states[1].latents)
    grids = [features(each, state, "t=250") for each, state in zip((there, away), states, strict=True)]
    assert same(*grids)


# --- checkpoints ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "changes", "why"),
    [
        ("transformer/config", {"in_channels": 32}, r"in_channels is 32 and not 60"),
        ("transformer/config", {"out_channels": 16}, r"out_channels is 16 and not 32"),
        (
            "transformer/config",
            {"use_learned_positional_embeddings": True},
            "use_learned_positional_embeddings is true",
        ),
        ("transformer/config", {"use_rotary_positional_embeddings": False}, "use_rotary_positional_embeddings is fal"),
        ("transformer/config", {"patch_size_t": 2}, "patch_size_t is 2"),
        ("transformer/config", {"ofs_embed_dim": 512}, "ofs_embed_dim is 512"),
        ("vae/config", {"invert_scale_latents": True}, "invert_scale_latents is true"),
        ("scheduler/scheduler_config", {"snr_shift_scale": 3.0}, "snr_shift_scale is 3.0 and not 1.0"),
    ],
)
def test_another_network_is_refused(folder: Path, tmp_path: Path, file: str, changes: dict[str, Any], why: str) -> None:
    root = shutil.copytree(folder, tmp_path / "changed")
    path = root / f"{file}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(WeightsError, match=why):
        TINY[0].family(root).sites()


@pytest.mark.parametrize("missing", ["transformer", "vae", "scheduler", "text_encoder", "tokenizer"])
def test_an_incomplete_folder_says_how_to_complete_it(folder: Path, tmp_path: Path, missing: str) -> None:
    root = shutil.copytree(folder, tmp_path / "part")
    shutil.rmtree(root / missing)
    with pytest.raises(WeightsError, match=rf"{missing}/(.|\n)*{ASSEMBLE}"):
        TINY[0].family(root).weights()


def published(folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """As if the hub, and the configurations we ship, were of this checkpoint. Returns what the hub is asked for."""
    own, base = place / "hub" / "own" / "c0ffee", place / "hub" / "base" / "decade"
    for name in ("transformer", "vae", "text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(folder / name, (own if name == "transformer" else base) / name)
    (place / "configs").mkdir()
    shutil.copytree(folder, place / "configs" / "aether")
    asked: list[Any] = []

    def download(repository: str, revision: str | None, names: Sequence[str], parts: Sequence[Any]) -> Path:
        asked.append((repository, revision, [*names], [part.name for part in parts]))
        return own if parts[0].name == "transformer" else base

    monkeypatch.setattr(aether, "download", download)
    monkeypatch.setattr(Aether, "published_configs", place / "configs")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    return asked


def test_both_repositories_are_fetched_and_joined(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = published(folder, tmp_path, monkeypatch)
    options = Options(frames=17, size=TINY[0].size, revision="v1")
    family, again = (Aether("aether", options) for _ in range(2))
    weights = family.weights()
    assert (weights.id, weights.revision) == ("AetherWorldModel/AetherV1", "c0ffee+decade")
    assert weights == again.weights()
    assert weights.digest == TINY[0].family(folder).weights().digest
    assert asked[:2] == [
        ("AetherWorldModel/AetherV1", "v1", ["transformer/config.json"], ["transformer"]),
        (
            "zai-org/CogVideoX-5b-I2V",
            None,
            ["vae/config.json", "text_encoder/config.json", "tokenizer/*", "scheduler/scheduler_config.json"],
            ["vae", "text_encoder"],
        ),
    ]
    clip = random_clip(17, TINY[0].size)
    here, there = family.load(CPU, torch.float32), load(TINY[0], folder)
    assert same(*(features(each, encode(each, clip, [0]), "t=250") for each in (here, there)))


def test_a_repository_of_another_network_is_not_taken_for_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(folder, tmp_path, monkeypatch)
    path = tmp_path / "hub" / "own" / "c0ffee" / "transformer" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in config.items() if key != "patch_size_t"}))
    assert Aether("aether").weights()  # what is left out has its default
    path.write_text(json.dumps(config | {"num_layers": 6}))
    with pytest.raises(
        WeightsError, match=r"transformer/config.json differs from that of .*--checkpoint .*c0ffee\+dec"
    ):
        Aether("aether").weights()


def test_without_the_hub_the_error_says_how_to_do_it_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: Any) -> Path:
        raise WeightsError("weights of AetherWorldModel/AetherV1 cannot be fetched")

    monkeypatch.setattr(aether, "download", download)
    with pytest.raises(WeightsError, match=rf"cannot be fetched\n(.|\n)*{ASSEMBLE}"):
        Aether("aether").weights()
