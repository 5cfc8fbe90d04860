"""What is measured on: a store of one tap, and the same clips as `.pt` and safetensors files beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from store import (
    ArraySpec,
    ClipRow,
    DatasetRecipe,
    FeatureStore,
    Recipe,
    StorageRecipe,
    StoreWriter,
    clips_digest,
    common_bank,
    create,
    finalize_if_stale,
)

TAP = "blocks.0"
FRAMES = 20
CRC_BYTES = 4


@dataclass(frozen=True)
class Shape:
    """A clip of features: 20 frames of a grid of 16 x 28."""

    channels: int

    @property
    def clip(self) -> tuple[int, ...]:
        """(frame, y, x, channel)."""
        return (FRAMES, 16, 28, self.channels)

    @property
    def nbytes(self) -> int:
        """Bytes of a clip in float16."""
        return 2 * int(np.prod(self.clip))


SHAPES = {"27 MB": Shape(1536), "92 MB": Shape(5120)}


def features(shape: Shape, row: int) -> NDArray[np.float16]:
    """Features as transformers make them: heavy tails, and a few channels far larger than all others."""
    rng = np.random.default_rng(row)
    spread = np.exp(np.random.default_rng(0).normal(0, 0.7, shape.channels)).astype(np.float32)
    spread[:6] *= np.linspace(15, 60, 6, dtype=np.float32)
    values = rng.standard_normal(shape.clip, dtype=np.float32)
    values *= spread
    return values.astype(np.float16)


def table(clips: int) -> list[ClipRow]:
    """A clip table."""
    return [
        ClipRow(
            row=row,
            id=f"clip{row:05d}",
            scene=f"scene{row:05d}",
            split="train",
            bank=tuple(range(FRAMES)),
            n_frames=FRAMES,
            digest="0" * 32,
        )
        for row in range(clips)
    ]


def empty_store(path: Path, clips: int, specs: Sequence[ArraySpec], dtype: str = "float16") -> None:
    """A store without a commit."""
    rows = table(clips)
    data = DatasetRecipe(
        name="noise",
        version="1",
        clips=clips_digest(rows),
        bank=common_bank(rows),
        classes="0" * 32,
        image_size=(256, 448),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(kind="features", dataset=data, storage=StorageRecipe(dtype=dtype))
    create(path, recipe, rows, specs, attrs={}, coordinates={}, provenance={})


def tap(shape: tuple[int, ...], name: str = TAP, dtype: str = "float16") -> ArraySpec:
    """A feature array."""
    attrs = {"site": name, "depth": 0, "noise": None}
    return ArraySpec(name, shape, dtype, ("frame", "y", "x", "channel"), attrs)


@dataclass(frozen=True)
class Material:
    """Files on disk.

    Attributes:
        folder: holds `store/noise`, and `<row>.pt` and `<row>.safetensors`.
        shape: of a clip.
        clips: how many.
    """

    folder: Path
    shape: Shape
    clips: int

    @property
    def store(self) -> Path:
        """The feature store."""
        return self.folder / "store" / "noise"

    def shard(self, row: int) -> Path:
        """The file of one clip in the store."""
        return self.store / "features.zarr" / TAP / f"c.{row}.0.0.0.0"

    def pt(self, row: int) -> Path:
        """One clip as `torch.save` writes it."""
        return self.folder / f"{row}.pt"

    def safetensors(self, row: int) -> Path:
        """One clip as safetensors, the reference's format."""
        return self.folder / f"{row}.safetensors"

    def files(self) -> Iterator[Path]:
        """All large files."""
        for row in range(self.clips):
            yield from (self.shard(row), self.pt(row), self.safetensors(row))

    def open(self) -> FeatureStore:
        """The store, opened anew: nothing is cached or checked yet."""
        return FeatureStore.open(self.store)

    def forget(self) -> None:
        """Drop all large files from the page cache."""
        for path in self.files():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def build(folder: Path, shape: Shape, clips: int) -> Material:
    """Write all files and sync them, so that the page cache can let go of them."""
    material = Material(folder, shape, clips)
    empty_store(material.store, clips, [tap(shape.clip)])
    with StoreWriter(material.store) as writer:
        for row in range(clips):
            values = features(shape, row)
            writer.put(row, {TAP: values})
            torch.save(torch.from_numpy(values), material.pt(row))
            save_file({TAP: values}, material.safetensors(row))
    finalize_if_stale(material.store)
    os.sync()
    return material
