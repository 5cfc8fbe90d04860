"""The estimate for a million clips is what `extract plan` says of one, and its records are those of real stores."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.material import tap
from benchmarks.opening import finalized
from benchmarks.records import clip_table_bytes, commit_bytes, manifest_bytes, table_bytes
from benchmarks.scale import OneClip, estimated, paper_models
from benchmarks.small_wan import BANK, FRAMES, TRANSFORMER, small_wan
from benchmarks.weightless import operations
from extract.__main__ import app
from extract.plan import make_taps
from store import StoreWriter


def asked(**values: object) -> argparse.Namespace:
    usual = {"clips": 2, "store_dtype": "float16", "grid": None, "operations": False, "seconds": {}}
    return argparse.Namespace(**{**usual, **values})


def test_all_models_of_the_paper_are_counted() -> None:
    assert len(paper_models()) == 18


@pytest.mark.parametrize(("store_dtype", "grid"), [("float16", None), ("int8-channel", (15, 26))])
def test_sizes_are_those_of_a_plan(tmp_path: Path, store_dtype: str, grid: tuple[int, int] | None) -> None:
    for clip in ("one", "two"):
        (tmp_path / clip).mkdir()
        for frame in range(OneClip.n_frames):
            Image.new("RGB", (16, 9)).save(tmp_path / clip / f"{frame:03d}.png")
    flags = ["--model", "wan2.1-t2v-1.3b", "--preset", "paper", "--dataset", "folder", "--root", str(tmp_path)]
    flags += ["--store-dtype", store_dtype, *(["--grid", "x".join(map(str, grid))] if grid else [])]
    said = CliRunner().invoke(app, ["plan", *flags, "--json"])
    plan = json.loads(said.stdout)
    found = estimated("wan2.1-t2v-1.3b", asked(store_dtype=store_dtype, grid=grid))
    assert plan["clips"] == 2
    assert found.bytes == plan["bytes"]
    assert found.taps == [each["tap"] for each in plan["taps"]]
    assert found.shards == 2 * len(plan["taps"]) * (2 if store_dtype == "int8-channel" else 1)


def test_hours_are_what_somebody_measured_times_the_clips() -> None:
    model = "qwen3-vl-2b"
    assert estimated(model, asked()).gpu_hours is None
    assert estimated(model, asked(clips=7200, seconds={model: 1.5})).gpu_hours == 3


def test_records_are_as_large_as_those_of_stores(tmp_path: Path) -> None:
    names, clips = ["blocks.0", "blocks.1"], 30
    path = tmp_path / "noise"
    finalized(path, clips, [tap((20, 2, 2, 4), name) for name in names])
    assert (path / "manifest.json").stat().st_size == manifest_bytes(names, clips)
    (table,) = path.glob("manifest-*.table")
    assert table.stat().st_size == table_bytes(2, clips)
    assert (path / "clips.json").stat().st_size == pytest.approx(clip_table_bytes(range(20), 20, clips), rel=0.05)


def test_commits_are_as_large_as_those_of_stores(tmp_path: Path) -> None:
    import numpy as np

    from benchmarks.material import empty_store

    names, path = ["blocks.0", "blocks.1"], tmp_path / "noise"
    empty_store(path, 1, [tap((20, 2, 2, 4), name) for name in names])
    with StoreWriter(path) as writer:
        writer.put(0, dict.fromkeys(names, np.random.default_rng(0).standard_normal((20, 2, 2, 4)).astype(np.float16)))
    (commit,) = (path / "commits").iterdir()
    assert commit.stat().st_size == pytest.approx(commit_bytes(names, 1), rel=0.1)


def test_operations_are_those_of_the_blocks(tmp_path: Path) -> None:
    """Two blocks more: attention among tokens and to the text, their projections, and the feed-forward network."""
    family = small_wan(tmp_path)
    deep, shallow = (operations(family, make_taps(family, [f"blocks.{k}"], ["t=500"]), FRAMES, BANK) for k in (5, 3))
    site = family.site("blocks.0")
    tokens = (1 + (FRAMES - 1) // 4) * site.grid[0] * site.grid[1]
    text, wide, hidden = family.prompt_shapes()["text"][1], site.channels, 2048
    assert TRANSFORMER["ffn_dim"] == hidden
    projections = 2 * tokens * (4 * wide**2 + 2 * wide**2 + 2 * wide * hidden) + 2 * text * 2 * wide**2
    attention = 4 * tokens**2 * wide + 4 * tokens * text * wide
    assert deep["bfloat16"] - shallow["bfloat16"] == 2 * (projections + attention)
    assert deep["float32"] == shallow["float32"] > 0
