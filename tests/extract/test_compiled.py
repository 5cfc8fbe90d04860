"""`--compile`: compiled blocks give the same features, are read by the same hooks, and stop as early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from extract import compiled
from extract.arguments import Arguments
from extract.backbones.base import Backbone, Family, Options, Site
from extract.compiled import block_names, compile_blocks
from extract.engine import load_backbone
from extract.errors import ExtractError
from extract.plan import Request, make_plan
from extract.registry import families, make_dataset, make_family
from extract.resolve import outline
from extract.taps import listen
from tests.extract import tiny_svd
from tests.extract.encoders.tiny import all_tiny as encoders
from tests.extract.svd_features import SIZE
from tests.extract.tiny_rooms import write_rooms
from tests.extract.video.tiny import all_tiny as video
from tests.extract.video.tiny import random_clip
from tests.extract.vlm.tiny import all_tiny as vlms

CPU = torch.device("cpu")
FRAMES = 3
SVD_TINY = SimpleNamespace(
    model="svd",
    name="",
    id="svd",
    size=SIZE,
    build=tiny_svd.build,
    family=lambda folder: make_family("svd", Options(checkpoint=str(folder), size=SIZE)),
)
SIMPLEST = {"svd", "clip-vit-l14", "wan2.1-t2v-1.3b", "qwen3-vl-2b"}
COMPILED = [
    pytest.param(tiny, id=tiny.id, marks=[] if tiny.model in SIMPLEST and not tiny.name else [pytest.mark.long])
    for tiny in [SVD_TINY, *encoders(), *video(), *vlms()]
    if families()[tiny.model].compiles
]


@torch.inference_mode()
def features(backbone: Backbone, family: Family, clip: Tensor, sites: Sequence[Site]) -> dict[str, Tensor]:
    """Sites of the forward stage at the first level, stopped after the deepest, parts laid end to end."""
    level = family.noise_level(family.default_levels()[0]) if family.default_levels() else None
    frames, bank = family.window(len(clip), range(FRAMES))
    state = backbone.encode(clip[list(frames)], bank, torch.Generator().manual_seed(0))
    found: dict[str, list[Tensor]] = {}
    for part in backbone.parts(state):
        with listen(backbone.module, sites, stop=True) as heard:
            backbone.forward(part, level)
        for site in sites:
            found.setdefault(site.name, []).append(backbone.grid(site, heard.pop(site.name), part))
    return {name: torch.cat(parts) for name, parts in found.items()}


@pytest.mark.parametrize("tiny", COMPILED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch imports parts of its own that it deprecates
def test_blocks_give_the_same_features(
    tiny: Any, checkpoint: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    check(tiny, checkpoint(tiny))


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("tiny", [SVD_TINY, encoders()[0], video()[0]], ids=lambda tiny: tiny.id)
def test_blocks_give_the_same_features_by_the_compiler_of_users(tiny: Any, checkpoint: Callable[[Any], Path]) -> None:
    check(tiny, checkpoint(tiny))


def check(tiny: Any, folder: Path) -> None:
    family = tiny.family(folder)
    backbone = family.load(CPU, torch.float32)
    clip = random_clip(getattr(tiny, "frames", FRAMES), tiny.size)
    sites = [site for site in family.sites() if site.stage == "forward"]
    blocks = list(block_names(backbone.module, sites))
    middle = [site for site in sites if site.module == blocks[len(blocks) // 2]]
    expected = features(backbone, family, clip, sites)
    torch._dynamo.reset()
    counted = torch._dynamo.utils.counters["frames"]
    before = counted["ok"]
    compile_blocks(backbone.module, family.sites())
    first = features(backbone, family, clip, middle)
    again = features(backbone, family, clip, sites)
    assert counted["ok"] > before
    for name, grid in again.items():
        torch.testing.assert_close(grid, expected[name], rtol=1e-3, atol=1e-4 * float(expected[name].abs().max()))
    for name, grid in first.items():
        torch.testing.assert_close(grid, again[name], rtol=1e-3, atol=1e-4 * float(grid.abs().max()))


class Deep(nn.Module):
    """Blocks with parts, and a last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.GELU()) for _ in range(2))
        self.norm = nn.LayerNorm(2)


def site(module: str) -> Site:
    return Site(module, module, 2, (1, 1), 0)


def test_which_modules_are_compiled() -> None:
    assert list(block_names(Deep(), [site("blocks.0"), site("blocks.1"), site("norm")])) == ["blocks.0", "blocks.1"]
    assert list(block_names(Deep(), [site("blocks.0"), site("blocks.0.1"), site("blocks.1")])) == ["blocks.1"]
    with pytest.raises(ExtractError, match="--compile: the network has no list of blocks"):
        compile_blocks(Deep(), [site("norm")])


def test_families_that_were_not_tried_refuse() -> None:
    with pytest.raises(ExtractError, match=r"--compile: mobilenetv2 has no blocks that are known to compile"):
        make_family("mobilenetv2", Options(compiled=True))
    assert not families()["opensora-2"].compiles


def test_whoever_asks_for_it_gets_it_and_the_recipe_says_so(
    tmp_path: Path, checkpoint: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = encoders()[0]
    write_rooms(tmp_path / "rooms", splits=("train",), size=tiny.size, frames=2)
    rooms = make_dataset("rooms", tmp_path / "rooms")
    plain, asked = (make_plan(tiny.family(checkpoint(tiny), compiled=each), rooms, Request()) for each in (False, True))
    assert plain.recipe.backbone is not None
    assert asked.recipe.backbone is not None
    assert asked.recipe.backbone.settings == {**plain.recipe.backbone.settings, "compiled": "blocks"}
    assert asked.recipe.fingerprint != plain.recipe.fingerprint
    compiled_of: list[list[str]] = []
    monkeypatch.setattr(
        "extract.engine.compile_blocks",
        lambda network, sites: compiled_of.append(list(block_names(network, sites))),
    )
    load_backbone(plain, CPU, "none")
    assert compiled_of == []
    load_backbone(asked, CPU, "none")
    assert len(compiled_of[0]) == len([site for site in asked.family.sites() if site.name.startswith("blocks.")])


def test_weights_that_come_and_go_are_not_compiled(tmp_path: Path) -> None:
    arguments = Arguments(model="svd", dataset="rooms", root=tmp_path, compile=True, offload="group")
    with pytest.raises(ExtractError, match=r"--compile: weights that come and go are not compiled\. Leave out"):
        outline(arguments)
