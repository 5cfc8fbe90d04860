"""What the engine promises, for every family: faithful features, one encoding, early stop, noise that is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from extract.diffusion.backbone import LatentVideoBackbone, VideoState
from extract.diffusion.latent_video import LATENT
from extract.errors import ExtractError
from extract.taps import listen
from tests.extract.video.tiny import CPU, Tiny, in_range, random_clip

LEVELS = ("sigma=0.3", "sigma=0.7")
Grids = dict[str, Tensor]


def load(tiny: Tiny, folder: Path, dtype: torch.dtype = torch.float32, **options: Any) -> LatentVideoBackbone:
    return tiny.family(folder, **options).load(CPU, dtype)


def encode(backbone: LatentVideoBackbone, clip: Tensor, bank: list[int], seed: int = 0) -> VideoState:
    numbers, positions = backbone.family.window(len(clip), bank)
    return backbone.encode(clip[list(numbers)], positions, torch.Generator().manual_seed(seed))


@torch.inference_mode()
def features(
    backbone: LatentVideoBackbone, state: VideoState, level: str, names: list[str] | None = None, stop: bool = False
) -> Grids:
    """Grids (bank, y, x, channel) of some sites, by default of all that see noise."""
    sites = [site for site in backbone.family.sites() if site.stage == "forward"]
    if names is not None:
        sites = [site for site in sites if site.name in names]
    grids: Grids = {}
    for part in backbone.parts(state):
        with listen(backbone.module, sites, stop=stop) as heard:
            backbone.forward(part, backbone.family.noise_level(level))
        for site in sites:
            found = backbone.grid(site, heard[site.name], part)
            whole = grids.setdefault(site.name, torch.full((len(state.bank), *found.shape[1:]), torch.nan))
            assert part.rows is not None
            whole[list(part.rows)] = found.float()
    return grids


def same(a: Grids, b: Grids) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("level", LEVELS)
def test_features_are_those_of_a_straight_line_computation(tiny: Tiny, folder: Path, level: str) -> None:
    backbone = load(tiny, folder)
    family = backbone.family
    held = family.latent_shape[1]
    bank = [2 * k for k in range(2 * held - 1)]
    clip = random_clip(bank[-1] + 1, tiny.size)
    windows = family.windows(len(clip), bank)
    assert len(windows.frames) == 2
    latent = family.site(LATENT)
    with listen(backbone.module, [latent], stop=False) as heard:
        state = encode(backbone, clip, bank)
    got = {LATENT: backbone.grid(latent, heard[LATENT], state)} | features(backbone, state, level)

    shape = 2, family.denoised_channels, *family.latent_shape[1:]
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    computed = [
        tiny.straight_line(folder, in_range(clip[list(frames)]), noise[w : w + 1], family.noise_level(level))
        for w, frames in enumerate(windows.frames)
    ]
    assert list(got) == [site.name for site in family.sites()]
    stride = family.strides.time
    for row, position in enumerate(windows.positions):
        window, place = divmod(position, family.frames)
        for name, grid in got.items():
            expected = computed[window][name][-(-place // stride)]
            assert torch.equal(grid[row], expected), (name, row, float((grid[row] - expected).abs().max()))


def test_an_early_stop_changes_nothing(tiny: Tiny, folder: Path) -> None:
    backbone = load(tiny, folder)
    clip = random_clip(tiny.frames, tiny.size)
    state = encode(backbone, clip, [0, tiny.frames - 1])
    whole = features(backbone, state, LEVELS[0])
    for name, grid in whole.items():
        assert torch.equal(features(backbone, state, LEVELS[0], [name], stop=True)[name], grid)


def test_levels_share_one_noise_and_none_changes_another(tiny: Tiny, folder: Path) -> None:
    backbone = load(tiny, folder)
    clip = random_clip(tiny.frames, tiny.size)
    state = encode(backbone, clip, [0, tiny.frames - 1])
    together = [features(backbone, state, level) for level in LEVELS]
    for level, grids in zip(LEVELS, together, strict=True):
        assert same(features(backbone, encode(backbone, clip, [0, tiny.frames - 1]), level), grids)
    assert not same(*together)


def test_features_depend_on_the_noise_and_another_draw_is_another(tiny: Tiny, folder: Path) -> None:
    backbone = load(tiny, folder)
    clip = random_clip(tiny.frames, tiny.size)
    state = encode(backbone, clip, [0])
    redrawn = backbone.redraw(state, torch.Generator().manual_seed(1))
    assert torch.equal(redrawn.latents, state.latents)
    assert same(features(backbone, redrawn, LEVELS[0]), features(backbone, encode(backbone, clip, [0], 1), LEVELS[0]))
    assert not same(features(backbone, redrawn, LEVELS[0]), features(backbone, state, LEVELS[0]))


def test_features_depend_on_the_frames(tiny: Tiny, folder: Path) -> None:
    backbone = load(tiny, folder)
    clip = random_clip(tiny.frames, tiny.size)
    other = clip.clone()
    other[-1] = 255 - other[-1]
    bank = [0, tiny.frames - 1]
    a, b = (features(backbone, encode(backbone, each, bank), LEVELS[0]) for each in (clip, other))
    for name in a:
        assert not torch.equal(a[name][1], b[name][1]), name


@pytest.mark.parametrize("offload", ["group", "sequential"])
def test_offloading_changes_nothing(tiny: Tiny, folder: Path, offload: Any) -> None:
    clip = random_clip(tiny.frames, tiny.size)
    family = tiny.family(folder)
    names = [family.sites()[2].name, family.sites()[-1].name]
    there, away = load(tiny, folder), family.load_offloaded(CPU, torch.float32, offload)
    for level in LEVELS:  # a stop in the middle of the network leaves it usable
        for name in names:
            states = [encode(each, clip, [0, tiny.frames - 1]) for each in (there, away)]
            a, b = (
                features(each, state, level, [name], stop=True)
                for each, state in zip((there, away), states, strict=True)
            )
            assert same(a, b)


def test_short_types_are_close_to_single(tiny: Tiny, folder: Path) -> None:
    clip = random_clip(tiny.frames, tiny.size)
    exact, short = load(tiny, folder), load(tiny, folder, torch.bfloat16)
    a, b = (features(each, encode(each, clip, [0, tiny.frames - 1]), LEVELS[0]) for each in (exact, short))
    for name in a:
        assert not torch.equal(a[name], b[name])
        torch.testing.assert_close(b[name], a[name], atol=0.1 * float(a[name].abs().max()), rtol=0)


def test_untrained_depends_on_its_seed_alone(tiny: Tiny, folder: Path) -> None:
    clip = random_clip(tiny.frames, tiny.size)

    def run(seed: int | None, dtype: torch.dtype = torch.float32) -> tuple[str, Grids]:
        backbone = load(tiny, folder, dtype, untrained=seed)
        return backbone.family.weights().digest, features(backbone, encode(backbone, clip, [0]), LEVELS[0])

    (digest, grids), again, other, trained = run(0), run(0), run(1), run(None)
    assert digest == again[0] != other[0]
    assert same(grids, again[1])
    assert not same(grids, other[1])
    assert not same(grids, trained[1])


def test_an_untrained_network_sees_the_clip_through_the_noise(tiny: Tiny, folder: Path) -> None:
    backbone = load(tiny, folder, untrained=0)
    assert backbone.family.settings()["latent"].endswith("unit variance")
    assert "unit variance" not in tiny.family(folder).settings()["latent"]
    channels = backbone.family.latent_channels
    latents = encode(backbone, random_clip(tiny.frames, tiny.size), [0]).latents[:, :channels]
    torch.testing.assert_close(latents.mean((2, 3, 4)), torch.zeros(1, channels), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.square().mean((2, 3, 4)), torch.ones(1, channels), atol=1e-3, rtol=0)


def test_random_weights_have_the_types_of_trained_ones(tiny: Tiny, folder: Path) -> None:
    trained, drawn = load(tiny, folder, torch.bfloat16), load(tiny, folder, torch.bfloat16, untrained=0)
    types = [{name: each.dtype for name, each in b.module.named_parameters()} for b in (trained, drawn)]
    assert types[0] == types[1]
    assert {types[0][name] for name in types[0] if name.startswith("vae.")} == {
        torch.float32 if trained.family.exact_autoencoder else torch.bfloat16
    }


def test_nothing_can_be_trained(tiny: Tiny, folder: Path) -> None:
    module = load(tiny, folder).module
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_a_level_is_needed_and_frames_come_in_windows(tiny: Tiny, folder: Path) -> None:
    backbone = load(tiny, folder)
    clip = random_clip(tiny.frames, tiny.size)
    with pytest.raises(ExtractError, match=r"needs a noise level: --noise"):
        backbone.forward(next(backbone.parts(encode(backbone, clip, [0]))), None)
    with pytest.raises(ExtractError, match=rf"whole windows of {tiny.frames}"):
        backbone.encode(clip[:-1], [0], torch.Generator())
