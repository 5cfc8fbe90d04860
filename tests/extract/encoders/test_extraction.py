"""From the command line to a store: what a lab member reads of an encoder's features."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from extract.__main__ import app
from extract.backbones._per_frame import CPU_FRAMES
from extract.datasets.rooms import Rooms
from store import FeatureStore, RecipeMismatchError, resolve
from tests.extract.encoders import tiny_clip, tiny_dinov3, tiny_vit_mae, tiny_vjepa2
from tests.extract.encoders.tiny import Tiny
from tests.extract.tiny_rooms import write_rooms

CLIP, CLIP_WIDE = tiny_clip.TINY
DINO = tiny_dinov3.TINY[1]
FRAMES = 3
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, checkpoint: Callable[[Tiny], Path]) -> Run:
    """Extract with a tiny encoder from rooms of three frames."""

    def extract(tiny: Tiny, *more: str) -> dict[str, Any]:
        root = tmp_path / f"rooms-{tiny.size[0]}-{tiny.size[1]}"
        if not root.exists():
            write_rooms(root, splits=("train", "val", "test"), size=tiny.size, frames=FRAMES)
        arguments = ["--model", tiny.model, "--dataset", "rooms", "--root", str(root), "--json"]
        arguments += ["--checkpoint", str(checkpoint(tiny)), "--store-dtype", "float32", *more]
        if "size" in tiny.options:
            arguments += ["--size", f"{tiny.size[0]}x{tiny.size[1]}"]
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return {**json.loads(done.stdout), "root": root}

    return extract


@pytest.mark.parametrize("tiny", [CLIP_WIDE, DINO, tiny_vit_mae.TINY[0], tiny_vjepa2.TINY[0]], ids=lambda tiny: tiny.id)
def test_the_store_holds_what_the_library_computes(run: Run, checkpoint: Callable[[Tiny], Path], tiny: Tiny) -> None:
    root = run(tiny, "--sites", "all")["root"]
    store = FeatureStore.open(resolve(f"store/{tiny.model}"))
    together = FRAMES if tiny.model == "vjepa2-vitl" else CPU_FRAMES
    for row, clip in enumerate(Rooms(root).clips()):
        parts = torch.from_numpy(clip.frames(clip.bank)).split(together)
        expected = [tiny.straight_line(checkpoint(tiny), part) for part in parts]
        assert list(expected[0]) == store.taps
        for tap in store.taps:
            assert np.array_equal(store.read(tap, row), torch.cat([part[tap] for part in expected]).numpy()), tap
    assert store.recipe.noise is None
    assert store.recipe.backbone is not None
    assert store.recipe.backbone.kind == "encoder"
    assert store.recipe.backbone.attention == "sdpa"
    assert store.recipe.backbone.settings == tiny.family(checkpoint(tiny)).settings()
    expected_size = {"height": tiny.size[0], "width": tiny.size[1], "fit": "stretch"}
    assert store.recipe.preprocessing is not None
    assert expected_size.items() <= store.recipe.preprocessing.items()


def test_how_bank_frames_are_given_is_in_the_recipe(checkpoint: Callable[[Tiny], Path]) -> None:
    tiny = tiny_vjepa2.TINY[0]
    assert tiny.family(checkpoint(tiny)).settings() == {"clip": "all bank frames, each 2 times"}


def test_neither_order_nor_company_of_clips_and_taps_changes_a_number(run: Run) -> None:
    run(CLIP, "--sites", "blocks.1", "--split", "test")
    run(CLIP, "--sites", "blocks.1", "--limit", "1")
    assert run(CLIP, "--sites", "blocks.1,global")["done"] == 3
    run(CLIP, "--sites", "global,blocks.1", "--out", "whole")
    pieces, whole = (FeatureStore.open(resolve(f"store/{name}")) for name in (CLIP.model, "whole"))
    assert pieces.fingerprint == whole.fingerprint
    for tap in whole.taps:
        for row in range(3):
            assert np.array_equal(pieces.read(tap, row), whole.read(tap, row)), tap


@pytest.mark.parametrize("other", [["--size", "48x40"], ["--attention", "eager"]])
def test_all_that_changes_a_number_is_part_of_the_recipe(run: Run, other: list[str]) -> None:
    taps = "--sites", "blocks.1", "--limit", "1"
    plain = run(CLIP, *taps)
    with pytest.raises(RecipeMismatchError, match="--out"):
        run(CLIP, *taps, *other)
    assert run(CLIP, *taps, *other, "--out", "other")["fingerprint"] != plain["fingerprint"]


def test_encoders_are_small_and_stay_on_the_device(run: Run) -> None:
    from extract.errors import ExtractError

    with pytest.raises(ExtractError, match=r"--offload group: clip-vit-l14 stays on the device whole"):
        run(CLIP, "--offload", "group")
