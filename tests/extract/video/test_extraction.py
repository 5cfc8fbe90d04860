"""From the command line to a store: what a lab member reads of a video model's features."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from typer.testing import CliRunner

from extract import loop
from extract.__main__ import app
from extract.errors import ExtractError
from store import FeatureStore, resolve
from tests.extract.tiny_rooms import write_rooms
from tests.extract.video.tiny import Tiny
from tests.extract.video.tiny_wan import SIZE, TINY

FRAMES = 5


@pytest.fixture
def run(tmp_path: Path, checkpoint: Callable[[Tiny], Path]) -> Callable[..., dict[str, Any]]:
    """Extract with a tiny Wan from rooms of five frames, all of which are in the bank."""
    write_rooms(tmp_path / "rooms", splits=("train", "val", "test"), size=SIZE, frames=FRAMES)
    folder = checkpoint(TINY[0])

    def extract(*more: str) -> dict[str, Any]:
        arguments = ["--model", TINY[0].model, "--dataset", "rooms", "--root", str(tmp_path / "rooms")]
        arguments += ["--checkpoint", str(folder), "--frames", "9", "--size", f"{SIZE[0]}x{SIZE[1]}", "--json", *more]
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        summary: dict[str, Any] = json.loads(done.stdout)
        return summary

    return extract


def test_a_store_says_what_its_features_are_of(run: Callable[..., dict[str, Any]]) -> None:
    summary = run("--sites", "vae.latent,blocks.1,blocks.3", "--noise", "t=300,sigma=0.7")
    assert summary["taps"] == [
        "vae.latent",
        "blocks.1@t300",
        "blocks.3@t300",
        "blocks.1@sigma0.7",
        "blocks.3@sigma0.7",
    ]
    store = FeatureStore.open(resolve("store/wan2.1-t2v-1.3b"))
    assert store.read("blocks.1@t300", 2).shape == (FRAMES, 2, 3, 24)
    noise = store.info("blocks.1@t300").attrs["noise"]
    assert noise == {
        "name": "t300",
        "sigma": 0.3,
        "log_snr": pytest.approx(2 * np.log(0.7 / 0.3)),
        "timestep": 300.0,
    }
    # Nine frames are three latents: frame 0 and two others; five bank frames need two windows.
    span = zarr.open_array(store.path / "features.zarr" / "span", mode="r")
    assert np.asarray(span[0]).tolist() == [[0, 0], [1, 2], [2, 3], [3, 4], [4, 4]]
    settings = store.recipe.backbone.settings if store.recipe.backbone else {}
    assert settings["frames"] == 9
    assert settings["window"] == "one latent per bank frame"


def test_neither_order_nor_company_of_clips_and_taps_changes_a_number(run: Callable[..., dict[str, Any]]) -> None:
    run("--sites", "blocks.1", "--noise", "t=300", "--split", "test")
    run("--sites", "blocks.1", "--noise", "t=300", "--limit", "1")
    again = run("--sites", "blocks.1,blocks.3", "--noise", "t=300,t=600")
    run("--sites", "blocks.1,blocks.3", "--noise", "t=300,t=600", "--out", "whole")
    pieces, whole = (FeatureStore.open(resolve(f"store/{name}")) for name in ("wan2.1-t2v-1.3b", "whole"))
    assert again["done"] == 3
    assert pieces.fingerprint == whole.fingerprint
    for tap in whole.taps:
        for row in range(3):
            assert np.array_equal(pieces.read(tap, row), whole.read(tap, row)), tap


def test_offloading_is_not_in_the_recipe_but_the_preset_is(run: Callable[..., dict[str, Any]]) -> None:
    taps = "--sites", "blocks.1", "--noise", "t=300", "--limit", "1"
    plain = run(*taps, "--out", "a")
    assert run(*taps, "--out", "b", "--offload", "group")["fingerprint"] == plain["fingerprint"]
    a, b = (FeatureStore.open(resolve(f"store/{name}")).read("blocks.1@t300", 0) for name in "ab")
    assert np.array_equal(a, b)
    assert run(*taps, "--out", "c", "--draws", "2")["fingerprint"] != plain["fingerprint"]
    assert run(*taps, "--out", "d", "--frames", "13")["fingerprint"] != plain["fingerprint"]


def test_a_full_device_is_one_clear_error(run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nmore")

    monkeypatch.setattr(loop, "clip_features", full)
    with pytest.raises(ExtractError, match=r"out of memory \(CUDA out of memory.*20 GiB\.\)\. .*--offload group"):
        run()
