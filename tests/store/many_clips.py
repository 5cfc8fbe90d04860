"""A store of enough clips for epochs: every storage type of features, and clips that differ in length if wanted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from store import ArraySpec, ClipRow, FeatureStore, Recipe, StoreWriter, create
from store.reading.batch import FeatureBatch
from tests.store.conftest import dataset_recipe

FRAMES, GRID = 5, (3, 4, 6)
TAPS = {"half": "float16", "brain": "bfloat16", "single": "float32", "byte": "int8-channel"}


def write_many_clips(path: Path, clips: int = 11, lengths: tuple[int, ...] = (FRAMES,)) -> FeatureStore:
    """Taps of every storage type; the last quarter of clips is of split `val`. Lengths of banks take turns."""
    table = [
        ClipRow(
            row=row,
            id=f"clip{row}",
            scene=f"scene{row}",
            split="val" if row >= clips - clips // 4 else "train",
            bank=tuple(range(lengths[row % len(lengths)])),
            n_frames=FRAMES,
            digest="00",
        )
        for row in range(clips)
    ]
    dims = ("frame", "y", "x", "channel")
    specs = [
        ArraySpec(tap, (FRAMES, *GRID), dtype, dims, {"site": tap, "depth": depth, "noise": None})
        for depth, (tap, dtype) in enumerate(TAPS.items())
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(kind="features", dataset=dataset_recipe(path.name, table))
    create(path, recipe, table, specs, attrs={}, coordinates={}, provenance={})
    with StoreWriter(path) as writer:
        for clip in table:
            rng = np.random.default_rng(clip.row)
            shape = (len(clip.bank), *GRID)
            scale = 10.0 ** np.arange(-3, GRID[-1] - 3)
            writer.put(clip.row, {tap: (rng.normal(size=shape) * scale).astype(np.float32) for tap in TAPS})
    return FeatureStore.open(path)


def assert_equals_read(batch: FeatureBatch, store: FeatureStore, taps: list[str] | None = None) -> None:
    """Every value of the batch is the one that `FeatureStore.read` gives for its rows and frames."""
    for tap in taps or list(TAPS):
        expected = [
            store.read(tap, row, frames) for row, frames in zip(batch.rows.tolist(), batch.frames.tolist(), strict=True)
        ]
        values = batch.values(tap)
        assert torch.equal(values.float(), torch.from_numpy(np.stack(expected)).float()), tap


def same(a: FeatureBatch, b: FeatureBatch) -> bool:
    """Whether two batches agree in every bit."""
    return (
        torch.equal(a.rows, b.rows)
        and torch.equal(a.frames, b.frames)
        and a.features.keys() == b.features.keys()
        and a.scales.keys() == b.scales.keys()
        and all(torch.equal(a.features[tap], b.features[tap]) for tap in a.features)
        and all(torch.equal(a.scales[tap], b.scales[tap]) for tap in a.scales)
    )


@contextmanager
def no_thread_is_left() -> Iterator[None]:
    """After the block, no thread is alive that was not before."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before
