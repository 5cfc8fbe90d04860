"""Stores whose features are known: what is planted, and all tokens as one matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store import ArraySpec, ClipRow, FeatureStore, Readable, Recipe, StorageRecipe, StoreWriter, create
from store.layout import root
from tests.store.branches import FRAMES, backbone, table, tap
from tests.store.conftest import dataset_recipe

Values = Mapping[str, Sequence[NDArray[Any]]]


def write_planted(
    model: str,
    values: Values,
    *,
    dtype: str = "float32",
    clips: Sequence[ClipRow] | None = None,
    rows: Sequence[int] | None = None,
    **attrs: Any,
) -> FeatureStore:
    """`store/<model>/toys` with these values of every tap: (frame, y, x, channel) for each clip, short or not."""
    clips = list(clips or table())
    path = root() / model / "toys"
    path.parent.mkdir(parents=True)
    specs: list[ArraySpec] = []
    for depth, (name, of_clips) in enumerate(values.items()):
        spec = tap(f"blocks.{depth}", of_clips[0].shape[1:3], of_clips[0].shape[3], dtype, **attrs)
        specs.append(ArraySpec(name, spec.shape, dtype, spec.dims, spec.attrs))
    recipe = Recipe(
        kind="features",
        dataset=dataset_recipe("toys", clips),
        backbone=backbone(model),
        storage=StorageRecipe(dtype=dtype),
    )
    create(path, recipe, clips, specs, attrs={}, coordinates={}, provenance={})
    with StoreWriter(path) as writer:
        for row in range(len(clips)) if rows is None else rows:
            held = len(clips[row].bank)
            writer.put(row, {name: of_clips[row][:held].astype(np.float32) for name, of_clips in values.items()})
    return FeatureStore.open(path)


def noise(seed: int, clips: int = 5, grid: tuple[int, int] = (3, 4), channels: int = 6) -> list[NDArray[Any]]:
    """Normal values with another mean and spread in each channel."""
    rng = np.random.default_rng(seed)
    spread, mean = rng.uniform(0.5, 2, channels), rng.normal(0, 1, channels)
    return [rng.normal(size=(FRAMES, *grid, channels)) * spread + mean for _ in range(clips)]


def all_tokens(features: Readable, name: str, rows: Sequence[int] | None = None) -> NDArray[np.float64]:
    """(token, channel) of all clips, as `read` gives them."""
    rows = features.rows(None, [name]) if rows is None else rows
    read = [features.read(name, row).astype(np.float64) for row in rows]
    return np.concatenate([values.reshape(-1, values.shape[-1]) for values in read])
