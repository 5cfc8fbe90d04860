"""From the command line to a store: what a lab member reads of a vision-language model's features."""

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
from extract.datasets.rooms import Rooms
from store import FeatureStore, RecipeMismatchError, resolve
from tests.extract.tiny_rooms import write_rooms
from tests.extract.vlm.tiny import Tiny
from tests.extract.vlm.tiny_qwen3_vl import TINY

FRAMES = 3
Run = Callable[..., dict[str, Any]]
qwen_alone = pytest.mark.parametrize("tiny", TINY[:1], ids=["qwen3-vl-2b"])


@pytest.fixture
def run(tmp_path: Path, tiny: Tiny, folder: Path) -> Run:
    """Extract with a tiny model from rooms of three frames."""
    write_rooms(tmp_path / "rooms", splits=("train", "val", "test"), size=tiny.size, frames=FRAMES)
    family = tiny.family(folder)
    asked: dict[str, Any] = {"size": "x".join(map(str, tiny.size)), **tiny.options}
    flags = [part for name, value in asked.items() if value is not None for part in (f"--{name}", str(value))]

    def extract(*more: str) -> dict[str, Any]:
        arguments = ["--model", family.model, "--dataset", "rooms", "--root", str(tmp_path / "rooms"), "--json"]
        arguments += ["--checkpoint", str(folder), "--store-dtype", "float32", *flags, *more]
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        summary: dict[str, Any] = json.loads(done.stdout)
        return summary

    return extract


def test_the_store_holds_what_the_library_computes(run: Run, tiny: Tiny, folder: Path, tmp_path: Path) -> None:
    run("--sites", "all", "--limit", "2")
    store = FeatureStore.open(resolve(f"store/{tiny.model}"))
    for row, clip in enumerate(Rooms(tmp_path / "rooms").clips()[:2]):
        expected = tiny.straight_line(folder, torch.from_numpy(clip.frames(clip.bank)))
        assert list(expected) == store.taps
        for tap, grid in expected.items():
            assert np.array_equal(store.read(tap, row), grid.numpy()), tap
    assert store.recipe.noise is None
    assert store.recipe.backbone is not None
    assert store.recipe.backbone.kind == "vlm"
    assert store.recipe.backbone.attention == "sdpa"
    chat = store.recipe.backbone.settings["chat"]
    assert isinstance(chat, str)
    assert chat.count("<frame>") == 2


@qwen_alone
def test_neither_order_nor_company_of_clips_and_taps_changes_a_number(run: Run) -> None:
    run("--sites", "llm.1", "--split", "test")
    run("--sites", "llm.1", "--limit", "1")
    assert run("--sites", "llm.1,merger")["done"] == 3
    run("--sites", "merger,llm.1", "--out", "whole")
    pieces, whole = (FeatureStore.open(resolve(f"store/{name}")) for name in ("qwen3-vl-2b", "whole"))
    assert pieces.fingerprint == whole.fingerprint
    for tap in whole.taps:
        for row in range(3):
            assert np.array_equal(pieces.read(tap, row), whole.read(tap, row)), tap


@qwen_alone
@pytest.mark.parametrize(
    "other",
    [["--layout", "video"], ["--prompt", "Where is the sofa?"], ["--attention", "eager"]],
)
def test_all_that_the_model_is_told_is_part_of_the_recipe(run: Run, other: list[str]) -> None:
    taps = "--sites", "llm.1", "--limit", "1"
    plain = run(*taps)
    with pytest.raises(RecipeMismatchError, match="--out"):
        run(*taps, *other)
    assert run(*taps, *other, "--out", "other")["fingerprint"] != plain["fingerprint"]
