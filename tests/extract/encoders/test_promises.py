"""What the engine promises, for every family: faithful features of every site, early stop, no trace of other clips."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from extract.backbones._per_frame import CPU_FRAMES
from extract.checkpoints.folder import tensors_in
from extract.errors import ExtractError, WeightsError
from extract.taps import listen
from tests.extract.encoders.tiny import Grids, Tiny, features, same
from tests.extract.video.tiny import random_clip

FRAMES = 5


def test_features_are_those_of_a_straight_line_computation(tiny: Tiny, folder: Path) -> None:
    """Bit for bit if as many frames are computed at once; and closely, however many they are."""
    clip = random_clip(FRAMES, tiny.size)
    backbone = tiny.load(folder)
    got, whole = features(backbone, clip), tiny.straight_line(folder, clip)
    parts = clip.split(CPU_FRAMES) if backbone.family.frame_by_frame else [clip]
    lines = [tiny.straight_line(folder, part) for part in parts]
    assert list(got) == [site.name for site in backbone.family.sites()] == list(whole)
    for site in backbone.family.sites():
        assert got[site.name].shape == (FRAMES, *site.grid, site.channels)
        assert torch.equal(got[site.name], torch.cat([line[site.name] for line in lines])), site.name
        torch.testing.assert_close(got[site.name], whole[site.name], atol=1e-4, rtol=1e-4)


def test_the_weights_are_kept_under_the_published_names(tiny: Tiny, folder: Path) -> None:
    assert set(tiny.published) <= tensors_in(folder / "model.safetensors").keys()


def test_what_the_library_saves_loads_too(tiny: Tiny, folder: Path, tmp_path: Path) -> None:
    import transformers

    family = tiny.family(folder)
    whole = getattr(transformers, family.whole or family.network).from_pretrained(folder)
    whole.save_pretrained(tmp_path / "saved")
    clip = random_clip(1, tiny.size)
    assert same(features(tiny.load(tmp_path / "saved"), clip), features(tiny.load(folder), clip))


def test_an_early_stop_changes_nothing(tiny: Tiny, folder: Path) -> None:
    backbone = tiny.load(folder)
    clip = random_clip(FRAMES, tiny.size)
    whole = features(backbone, clip)
    for name, grid in whole.items():
        assert torch.equal(features(backbone, clip, [name], stop=True)[name], grid), name


def test_the_encoder_stops_after_the_deepest_site(tiny: Tiny, folder: Path) -> None:
    backbone = tiny.load(folder)
    modules = list(dict.fromkeys(site.module for site in backbone.family.sites()))
    ran: list[str] = []
    for module in modules:
        backbone.module.get_submodule(module).register_forward_hook(
            lambda *call, module=module: ran.append(module), prepend=True
        )
    for site in backbone.family.sites():
        ran.clear()
        features(backbone, random_clip(1, tiny.size), [site.name], stop=True)
        assert ran == modules[: modules.index(site.module) + 1]


def test_nothing_is_left_of_another_clip(tiny: Tiny, folder: Path) -> None:
    backbone = tiny.load(folder)
    a, b = random_clip(FRAMES, tiny.size), random_clip(FRAMES + 1, tiny.size, seed=9)
    first = features(backbone, a)
    features(backbone, b)
    features(backbone, b, ["blocks.0"], stop=True)
    assert same(features(backbone, a), first)


def test_frames_see_each_other_only_where_the_family_says_so(tiny: Tiny, folder: Path) -> None:
    backbone = tiny.load(folder)
    clip = random_clip(FRAMES, tiny.size)
    changed = clip.clone()
    changed[2] = 255 - changed[2]
    whole, other = features(backbone, clip), features(backbone, changed)
    rest = [0, 1, 3, 4]
    for name, grid in whole.items():
        assert not torch.equal(other[name][2], grid[2]), name
        alone = torch.allclose(other[name][rest], grid[rest], atol=1e-5, rtol=1e-4)
        assert alone == backbone.family.frame_by_frame, name


def test_the_order_of_frames_counts_only_where_they_see_each_other(tiny: Tiny, folder: Path) -> None:
    backbone = tiny.load(folder)
    clip = random_clip(FRAMES, tiny.size)
    order = [3, 0, 4, 2, 1]
    whole, moved = features(backbone, clip), features(backbone, clip[order])
    for name, grid in whole.items():
        kept = torch.allclose(moved[name], grid[order], atol=1e-4, rtol=1e-4)
        assert kept == backbone.family.frame_by_frame, name


def test_only_bank_frames_are_seen(tiny: Tiny, folder: Path) -> None:
    backbone = tiny.load(folder)
    clip = random_clip(FRAMES, tiny.size)
    site = backbone.family.site("blocks.1")
    state = backbone.encode(clip, [1, 4], torch.Generator())
    with listen(backbone.module, [site], stop=True) as heard:
        backbone.forward(state, None)
    expected = features(backbone, clip[[1, 4]], ["blocks.1"])["blocks.1"]
    assert torch.equal(backbone.grid(site, heard["blocks.1"], state), expected)


def test_every_cell_sees_its_own_pixels_first(tiny: Tiny, folder: Path) -> None:
    """A change of some pixels changes their own cell most: rows and columns are right."""
    backbone = tiny.load(folder)
    clip = random_clip(1, tiny.size)
    rows, columns = backbone.family.site("blocks.0").grid
    patch = backbone.family.patch
    assert (rows * patch, columns * patch) == tiny.size
    whole = features(backbone, clip, ["blocks.0"])["blocks.0"]
    for y, x in ((0, 1), (rows - 1, 0), (rows // 2, columns - 1)):
        other = clip.clone()
        other[0, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch] ^= 255
        moved = (features(backbone, other, ["blocks.0"])["blocks.0"] - whole).abs().sum(-1)[0]
        assert divmod(int(moved.argmax()), columns) == (y, x)


def test_short_types_are_close_to_single(tiny: Tiny, folder: Path) -> None:
    clip = random_clip(2, tiny.size)
    a, b = features(tiny.load(folder), clip), features(tiny.load(folder, torch.bfloat16), clip)
    for name in a:
        assert b[name].dtype == torch.bfloat16
        error = (b[name].float() - a[name]).square().mean().sqrt() / a[name].square().mean().sqrt()
        assert 0 < error < 0.2, (name, float(error))


def test_other_ways_to_compute_attention_agree(tiny: Tiny, folder: Path) -> None:
    clip = random_clip(2, tiny.size)
    usual, eager = tiny.load(folder), tiny.load(folder, attention="eager")
    assert (usual.family.attention, eager.family.attention) == ("sdpa", "eager")
    a, b = features(usual, clip), features(eager, clip)
    for name in a:
        torch.testing.assert_close(b[name], a[name], atol=1e-3 * float(a[name].abs().max()), rtol=0)
    with pytest.raises(WeightsError, match=r"flash-attn is not installed.*--attention sdpa"):
        tiny.load(folder, torch.bfloat16, attention="flash_attention_2")


def test_untrained_depends_on_its_seed_and_sees_the_frames(tiny: Tiny, folder: Path) -> None:
    clip = random_clip(3, tiny.size)

    def run(seed: int | None, frames: Tensor = clip) -> tuple[str, Grids]:
        backbone = tiny.load(folder, untrained=seed)
        return backbone.family.weights().digest, features(backbone, frames)

    (digest, grids), again, other, trained, elsewhere = run(0), run(0), run(1), run(None), run(0, 255 - clip)
    assert digest == again[0] == elsewhere[0]
    assert len({digest, other[0], trained[0]}) == 3
    assert same(grids, again[1])
    for name in grids:
        assert not torch.equal(grids[name], other[1][name])
        assert not torch.equal(grids[name], trained[1][name])
        scale = grids[name].std()
        assert 1e-4 < scale < 1e4, (name, float(scale))
        assert (grids[name] - elsewhere[1][name]).abs().max() > 1e-3 * scale, name


def test_an_untrained_network_needs_no_weights(tiny: Tiny, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    clip = random_clip(1, tiny.size)
    bare, full = (features(tiny.load(where, untrained=0), clip) for where in (tmp_path, folder))
    assert same(bare, full)


def test_nothing_can_be_trained_and_nothing_else_is_kept(tiny: Tiny, folder: Path) -> None:
    module = tiny.load(folder).module
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    kept = [f"{name}." for name, _ in module.named_modules()]
    assert not [name for name in kept if name.startswith(("text_model.", "decoder.", "predictor."))]


def test_tokens_of_another_shape_are_refused(tiny: Tiny, folder: Path) -> None:
    backbone = tiny.load(folder)
    for site in backbone.family.sites():
        tokens = torch.zeros(1, 7, site.channels)
        with pytest.raises(ExtractError, match=rf"site {site.name}: got tokens of shape \(1, 7, .*expected 1 x"):
            backbone.family.cells(site, tokens, 1)


def test_elsewhere_than_on_a_cpu_a_clip_is_one_part(tiny: Tiny, folder: Path) -> None:
    """On a GPU all frames of a clip are computed at once."""
    backbone = tiny.load(folder)
    state = backbone.encode(random_clip(FRAMES, tiny.size), range(FRAMES), torch.Generator())
    state.values["images"] = state.values["images"].to("meta")
    (part,) = backbone.parts(state)
    assert len(part.bank) == FRAMES
