"""A small store with every kind of array, and a clip with a shorter bank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from store import (
    ArraySpec,
    ClipRow,
    Coordinate,
    DatasetRecipe,
    Recipe,
    StoreWriter,
    clips_digest,
    common_bank,
    create,
)

GRID = (2, 3, 5)
SPECS = [
    ArraySpec(
        "early", (4, *GRID), "float16", ("frame", "y", "x", "channel"), {"site": "early", "depth": 0, "noise": None}
    ),
    ArraySpec(
        "late@t5",
        (4, *GRID),
        "bfloat16",
        ("frame", "y", "x", "channel"),
        {"site": "late", "depth": 1, "noise": {"sigma": 1.0}},
    ),
    ArraySpec(
        "wide", (4, *GRID), "float32", ("frame", "y", "x", "channel"), {"site": "wide", "depth": 2, "noise": None}
    ),
    ArraySpec("label", (4, 6, 6), "uint16", ("frame", "y", "x"), compressed=True),
    ArraySpec("slot", (7,), "uint8", ("slot",)),
]


@dataclass
class Example:
    path: Path
    recipe: Recipe
    clips: list[ClipRow]
    values: dict[int, dict[str, NDArray[Any]]]

    def create(self, specs: list[ArraySpec] | None = None, recipe: Recipe | None = None) -> None:
        frames = np.full((len(self.clips), 4), -1, dtype=np.int32)
        for clip in self.clips:
            frames[clip.row, : len(clip.bank)] = clip.bank
        create(
            self.path,
            recipe or self.recipe,
            self.clips,
            SPECS if specs is None else specs,
            attrs={"model": "toy"},
            coordinates={"bank_frame": Coordinate(frames, ("clip", "frame"), "frame numbers")},
            provenance={"host": "here"},
        )

    def write(self, rows: list[int]) -> None:
        with StoreWriter(self.path) as writer:
            for row in rows:
                writer.put(row, self.values[row])


def dataset_recipe(name: str, clips: Sequence[ClipRow]) -> DatasetRecipe:
    return DatasetRecipe(
        name=name,
        version="1",
        clips=clips_digest(clips),
        bank=common_bank(clips),
        classes="0" * 32,
        image_size=(6, 6),
    )


def clip_values(seed: int, frames: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return {
        "early": rng.normal(size=(frames, *GRID)).astype(np.float32),
        "late@t5": rng.normal(scale=1e6, size=(frames, *GRID)).astype(np.float32),
        "wide": rng.normal(size=(frames, *GRID)).astype(np.float32),
        "label": rng.integers(0, 9, (frames, 6, 6)).astype(np.uint16),
        "slot": rng.integers(0, 9, 7).astype(np.uint8),
    }


@pytest.fixture
def example(store_root: Path) -> Example:
    banks = [(0, 1, 5, 9), (0, 2), (0, 1, 5, 9)]
    clips = [
        ClipRow(
            row=row,
            id=f"clip{row}",
            scene=f"scene{row}",
            split="test" if row == 2 else "train",
            bank=bank,
            n_frames=12,
            digest="00",
        )
        for row, bank in enumerate(banks)
    ]
    recipe = Recipe(kind="features", dataset=dataset_recipe("toys", clips))
    path = store_root / "toy" / "toys"
    path.parent.mkdir()
    return Example(path, recipe, clips, {clip.row: clip_values(clip.row, len(clip.bank)) for clip in clips})


@pytest.fixture
def filled(example: Example) -> Example:
    example.create()
    example.write([0, 1, 2])
    return example
