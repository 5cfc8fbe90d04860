"""What the engine promises, for every family: faithful features of every site, early stop, no trace of other clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from extract.errors import ExtractError, WeightsError
from extract.taps import listen
from extract.vision_language.backbone import VisionLanguageBackbone
from tests.extract.video.tiny import random_clip
from tests.extract.vlm.tiny import CPU, Tiny

Grids = dict[str, Tensor]
FRAMES = 3


def load(tiny: Tiny, folder: Path, dtype: torch.dtype = torch.float32, **options: Any) -> VisionLanguageBackbone:
    backbone = tiny.family(folder, **options).load(CPU, dtype)
    assert isinstance(backbone, VisionLanguageBackbone)
    return backbone


@torch.inference_mode()
def features(
    backbone: VisionLanguageBackbone, clip: Tensor, names: list[str] | None = None, stop: bool = False
) -> Grids:
    """Grids (frame, y, x, channel) of some sites, by default of all, in one pass."""
    sites = [site for site in backbone.family.sites() if names is None or site.name in names]
    state = backbone.encode(clip, range(len(clip)), torch.Generator())
    with listen(backbone.module, sites, stop=stop) as heard:
        backbone.forward(state, None)
    return {site.name: backbone.grid(site, heard[site.name], state) for site in sites}


def same(a: Grids, b: Grids) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_features_are_those_of_a_straight_line_computation(tiny: Tiny, folder: Path) -> None:
    clip = random_clip(FRAMES, tiny.size)
    backbone = load(tiny, folder)
    got, expected = features(backbone, clip), tiny.straight_line(folder, clip)
    assert list(got) == [site.name for site in backbone.family.sites()]
    assert got.keys() == expected.keys()
    for site in backbone.family.sites():
        assert got[site.name].shape == (FRAMES, *site.grid, site.channels)
        difference = float((got[site.name] - expected[site.name]).abs().max())
        assert torch.equal(got[site.name], expected[site.name]), (site.name, difference)


def test_the_weights_are_kept_under_the_published_names(tiny: Tiny, folder: Path) -> None:
    from extract.checkpoints.folder import tensors_in

    assert set(tiny.published) <= tensors_in(folder / "model.safetensors").keys()


def test_an_early_stop_changes_nothing(tiny: Tiny, folder: Path) -> None:
    backbone = load(tiny, folder)
    clip = random_clip(FRAMES, tiny.size)
    whole = features(backbone, clip)
    for name, grid in whole.items():
        assert torch.equal(features(backbone, clip, [name], stop=True)[name], grid)


def test_the_language_model_stops_after_the_deepest_site(tiny: Tiny, folder: Path) -> None:
    backbone = load(tiny, folder)
    sites = [site.name for site in backbone.family.sites()]
    ran: list[str] = []
    for site in backbone.family.sites():
        backbone.module.get_submodule(site.module).register_forward_hook(
            lambda *call, name=site.name: ran.append(name), prepend=True
        )
    for name in ("vision.0", "merger", "llm.1"):
        ran.clear()
        features(backbone, random_clip(FRAMES, tiny.size), [name], stop=True)
        assert ran == sites[: sites.index(name) + 1]


def test_nothing_is_left_of_another_clip(tiny: Tiny, folder: Path) -> None:
    backbone = load(tiny, folder)
    a, b = random_clip(FRAMES, tiny.size), random_clip(FRAMES + 1, tiny.size, seed=9)
    first = features(backbone, a)
    features(backbone, b)
    features(backbone, b, ["llm.0"], stop=True)
    assert same(features(backbone, a), first)


def test_frames_see_those_before_and_none_after(tiny: Tiny, folder: Path) -> None:
    backbone = load(tiny, folder)
    clip = random_clip(FRAMES, tiny.size)
    changed = {k: clip.clone() for k in (0, FRAMES - 1)}
    for k, other in changed.items():
        other[k] = 255 - other[k]
    whole = features(backbone, clip)
    first, last = (features(backbone, changed[k]) for k in changed)
    for name, grid in whole.items():
        torch.testing.assert_close(last[name][:-1], grid[:-1], atol=1e-5, rtol=1e-4)
        assert not torch.equal(last[name][-1], grid[-1]), name
        seen = not torch.allclose(first[name][1:], grid[1:], atol=1e-4)
        assert seen == name.startswith("llm."), name


def test_every_cell_sees_its_own_pixels_first(tiny: Tiny, folder: Path) -> None:
    """A change of some pixels changes their own cell most: rows and columns are right."""
    backbone = load(tiny, folder)
    clip = random_clip(1, tiny.size)
    rows, columns = backbone.family.vision.grid
    height, width = (side // count for side, count in zip(tiny.size, (rows, columns), strict=True))
    whole = features(backbone, clip, ["vision.0"])["vision.0"]
    for y, x in ((0, 1), (rows - 1, 0), (rows // 2, columns - 1)):
        other = clip.clone()
        other[0, y * height : (y + 1) * height, x * width : (x + 1) * width] ^= 255
        moved = (features(backbone, other, ["vision.0"])["vision.0"] - whole).abs().sum(-1)[0]
        assert divmod(int(moved.argmax()), columns) == (y, x)


def test_the_prompt_counts(tiny: Tiny, folder: Path) -> None:
    clip = random_clip(FRAMES, tiny.size)
    usual, other = load(tiny, folder), load(tiny, folder, prompt="What is on the table?")
    assert usual.family.settings() != other.family.settings()
    chat = other.family.settings()["chat"]
    assert chat.index("What is on the table?") < chat.index("<frame>")
    a, b = features(usual, clip), features(other, clip)
    for name in a:
        assert torch.equal(a[name], b[name]) == (not name.startswith("llm.")), name


@pytest.mark.parametrize("offload", ["group", "sequential"])
def test_offloading_changes_nothing_and_brings_all_weights_back(tiny: Tiny, folder: Path, offload: Any) -> None:
    clip = random_clip(FRAMES, tiny.size)
    away = tiny.family(folder).load_offloaded(CPU, torch.float32, offload)
    assert isinstance(away, VisionLanguageBackbone)
    homes = {name: each.data_ptr() for name, each in away.module.named_parameters()}
    whole = features(load(tiny, folder), clip)
    assert same(features(away, clip), whole)
    for name in ("vision.1", "llm.2"):
        assert torch.equal(features(away, clip, [name], stop=True)[name], whole[name])
    assert {name: each.data_ptr() for name, each in away.module.named_parameters()} == homes


def test_short_types_are_close_to_single(tiny: Tiny, folder: Path) -> None:
    clip = random_clip(FRAMES, tiny.size)
    a, b = features(load(tiny, folder), clip), features(load(tiny, folder, torch.bfloat16), clip)
    for name in a:
        assert b[name].dtype == torch.bfloat16
        error = (b[name].float() - a[name]).square().mean().sqrt() / a[name].square().mean().sqrt()
        assert 0 < error < 0.2, (name, float(error))


def test_other_ways_to_compute_attention_agree(tiny: Tiny, folder: Path) -> None:
    clip = random_clip(FRAMES, tiny.size)
    usual, eager = load(tiny, folder), load(tiny, folder, attention="eager")
    assert (usual.family.attention, eager.family.attention) == ("sdpa", "eager")
    a, b = features(usual, clip), features(eager, clip)
    for name in a:
        torch.testing.assert_close(b[name], a[name], atol=1e-3 * float(a[name].abs().max()), rtol=0)
    with pytest.raises(WeightsError, match=r"flash-attn is not installed.*--attention sdpa"):
        load(tiny, folder, torch.bfloat16, attention="flash_attention_2")


def test_untrained_depends_on_its_seed_and_sees_the_frames(tiny: Tiny, folder: Path) -> None:
    clip = random_clip(FRAMES, tiny.size)

    def run(seed: int | None, frames: Tensor = clip) -> tuple[str, Grids]:
        backbone = load(tiny, folder, untrained=seed)
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


def test_random_weights_and_buffers_have_the_types_of_trained_ones(tiny: Tiny, folder: Path) -> None:
    trained, drawn = (load(tiny, folder, torch.bfloat16, untrained=seed).module for seed in (None, 0))
    a, b = ({name: each.dtype for name, each in (*m.named_parameters(), *m.named_buffers())} for m in (trained, drawn))
    assert a == b
    assert torch.bfloat16 in a.values()


def test_nothing_can_be_trained_and_there_is_no_head(tiny: Tiny, folder: Path) -> None:
    module = load(tiny, folder).module
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not [name for name, _ in module.named_modules() if name.endswith("lm_head")]


def test_a_chat_that_is_too_long_is_refused(tiny: Tiny, folder: Path) -> None:
    backbone = load(tiny, folder, prompt="a" * 100_000)
    remedy = "Use a smaller --size, or clips" if "size" in backbone.family.takes else "Use clips"
    with pytest.raises(ExtractError, match=rf"tokens, and the model reads \d+\. {remedy}"):
        backbone.encode(random_clip(1, tiny.size), [0], torch.Generator())


def test_a_prompt_cannot_smuggle_in_images(tiny: Tiny, folder: Path) -> None:
    from extract.vision_language.chat import tokeniser

    plain = tiny.family(folder)
    names = [name for name in tokens_of(folder) if tokeniser(plain)(name) == [plain.placeholder]]
    assert names
    backbone = load(tiny, folder, prompt=f"What is {names[0]}?")
    with pytest.raises(ExtractError, match="holds a token that stands for an image"):
        backbone.encode(random_clip(1, tiny.size), [0], torch.Generator())


def tokens_of(folder: Path) -> list[str]:
    from transformers import AutoTokenizer

    return list(AutoTokenizer.from_pretrained(folder).get_added_vocab())
