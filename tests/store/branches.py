"""Small stores of the same clips, to be fused; and a fusion that is computed by hand, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from store import (
    ArraySpec,
    BackboneRecipe,
    ClipRow,
    Coordinate,
    FeatureStore,
    Recipe,
    StorageRecipe,
    StoreWriter,
    create,
)
from store.layout import root
from tests.store.conftest import dataset_recipe

FRAMES = 4
IDENTITY = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
NOISE = {"name": "t502", "sigma": 2.0, "log_snr": -1.4, "timestep": 502.0}


def table(clips: int = 5, step: int = 2) -> list[ClipRow]:
    """Clips of two splits; the second has a shorter bank."""
    return [
        ClipRow(
            row=row,
            id=f"clip{row}",
            scene=f"scene{row}",
            split="test" if row == clips - 1 else "train",
            bank=tuple(range(0, step * (2 if row == 1 else FRAMES), step)),
            n_frames=20,
            digest=f"{row:032x}",
        )
        for row in range(clips)
    ]


def backbone(model: str, **changes: Any) -> BackboneRecipe:
    facts: dict[str, Any] = {
        "family": "toy",
        "family_version": 1,
        "model": model,
        "kind": "vgm",
        "checkpoint": f"lab/{model}",
        "revision": None,
        "digest": "0" * 32,
        "attention": None,
    }
    return BackboneRecipe(**facts | changes)


def tap(
    name: str, grid: tuple[int, int] = (3, 4), channels: int = 5, dtype: str = "float16", **attrs: Any
) -> ArraySpec:
    """A tap. Depth is the number at the end of its site."""
    site = name.partition("@")[0]
    said = {"site": site, "depth": int(site.rpartition(".")[2]), "noise": None, "grid_to_image": IDENTITY}
    return ArraySpec(name, (FRAMES, *grid, channels), dtype, ("frame", "y", "x", "channel"), said | attrs)


def write_branch(
    model: str,
    taps: Sequence[ArraySpec],
    *,
    clips: Sequence[ClipRow] | None = None,
    rows: Sequence[int] | None = None,
    dataset: Mapping[str, Any] | None = None,
    norm: float = 1.0,
    reach: int = 1,
    facts: Mapping[str, Any] | None = None,
) -> FeatureStore:
    """`store/<model>/toys`. Every clip frame is summarised with `reach - 1` frames after it."""
    clips = list(clips or table())
    path = root() / model / "toys"
    path.parent.mkdir(parents=True, exist_ok=True)
    bank = np.full((len(clips), FRAMES), -1, np.int32)
    for clip in clips:
        bank[clip.row, : len(clip.bank)] = clip.bank
    span = np.stack([bank, np.where(bank < 0, -1, bank + reach - 1)], -1)
    recipe = Recipe(
        kind="features",
        dataset=dataset_recipe("toys", clips).model_copy(update=dict(dataset or {})),
        backbone=backbone(**{"model": model} | dict(facts or {})),
        storage=StorageRecipe(dtype=taps[0].dtype),
    )
    coordinates = {
        "bank_frame": Coordinate(bank, ("clip", "frame"), "frame numbers"),
        "span": Coordinate(span, ("clip", "frame", "bound"), "first and last frame"),
    }
    create(path, recipe, clips, taps, attrs={"model": model}, coordinates=coordinates, provenance={})
    with StoreWriter(path) as writer:
        for row in range(len(clips)) if rows is None else rows:
            shape = len(clips[row].bank)
            values = {}
            for spec in taps:
                rng = np.random.default_rng([row, *f"{model}/{spec.name}".encode()])
                values[spec.name] = norm * rng.normal(0.3, 1, (shape, *spec.shape[1:])).astype(np.float32)
            writer.put(row, values)
    return FeatureStore.open(path)


def by_hand(
    branches: Sequence[FeatureStore],
    taps: Sequence[str],
    row: int,
    frames: Sequence[int],
    mode: str,
) -> NDArray[np.float32]:
    """(frame, y, x, channel): pool all frames of a branch at once, normalise every cell alone, put them together."""
    read = [b.read(t, row, frames).astype(np.float32) for b, t in zip(branches, taps, strict=True)]
    grid = min(each.shape[1] for each in read), min(each.shape[2] for each in read)
    parts = []
    for values in read:
        pooled = F.adaptive_avg_pool2d(torch.from_numpy(values).permute(0, 3, 1, 2), grid).permute(0, 2, 3, 1)
        if mode == "lnconcat":
            cells = [F.layer_norm(cell, cell.shape, eps=1e-6) for cell in pooled.reshape(-1, values.shape[-1])]
            pooled = torch.stack(cells).reshape(pooled.shape)
        parts.append(pooled)
    joined: NDArray[np.float32] = torch.cat(parts, -1).numpy()
    return joined
