"""What probes are timed on: a store of one tap, its targets, and the same features in one safetensors file per clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from probes.config import TapSpec
from probes.inputs import TRAIN, VAL, Inputs, align, choose_taps, open_inputs
from store import (
    ArraySpec,
    BackboneRecipe,
    ClipRow,
    DatasetRecipe,
    Recipe,
    StorageRecipe,
    StoreWriter,
    clips_digest,
    common_bank,
    create,
    finalize_if_stale,
)

TAP = "blocks.0"
FRAMES, VIEWS = 20, 4
TASKS = ("depth", "segmentation", "grouping", "tagging")
CLASSES = [{"name": f"class {k}", "kind": "stuff" if k < 2 else "thing"} for k in range(20)]
"""As many as ScanNet's benchmark has."""
SLOTS = 24
_DIMS = {
    "depth": ("frame", "y", "x"),
    "instance": ("frame", "y", "x"),
    "instance_class": ("slot",),
    "class_pixels": ("frame", "class"),
}


@dataclass(frozen=True)
class Case:
    """Sizes of a store.

    Attributes:
        grid: (y, x) cells of a frame.
        channels: of the tap.
        cell: pixels of a target image along each axis of a cell.
        train, val: clips.
    """

    grid: tuple[int, int]
    channels: int
    cell: int
    train: int = 12
    val: int = 1


CASES = {"16 x 16 x 1024": Case((16, 16), 1024, 16), "30 x 52 x 1536": Case((30, 52), 1536, 8)}


@dataclass(frozen=True)
class Probed:
    """Stores on disk, opened."""

    folder: Path
    inputs: Inputs
    tap: TapSpec

    def safetensors(self, row: int) -> Path:
        """All bank frames of one clip, under the name of the tap."""
        return self.folder / f"{row}.safetensors"


def build(folder: Path, case: Case) -> Probed:
    """Write everything, and open it."""
    splits = [TRAIN] * case.train + [VAL] * case.val
    table = [
        ClipRow(
            row=row,
            id=f"clip{row}",
            scene=f"scene{row}",
            split=split,
            bank=tuple(range(FRAMES)),
            n_frames=FRAMES,
            digest="0" * 32,
        )
        for row, split in enumerate(splits)
    ]
    height, width = (cells * case.cell for cells in case.grid)
    dataset = DatasetRecipe(
        name="noise",
        version="1",
        clips=clips_digest(table),
        bank=common_bank(table),
        classes="0" * 32,
        image_size=(height, width),
    )
    _write_targets(folder / "targets" / "noise", table, dataset, case)
    _write_features(folder, table, dataset, case)
    features, targets = open_inputs(str(folder / "model" / "noise"), str(folder / "targets" / "noise"), None)
    inputs = align(features, targets, [TAP], TASKS, VIEWS, None, (TRAIN, VAL))
    return Probed(folder, inputs, choose_taps([TAP], features)[0])


def _write_targets(path: Path, table: list[ClipRow], dataset: DatasetRecipe, case: Case) -> None:
    path.parent.mkdir(parents=True)
    labels = [_labels(clip.row, case) for clip in table]
    specs = [ArraySpec(name, v.shape, str(v.dtype), _DIMS[name], compressed=True) for name, v in labels[0].items()]
    recipe = Recipe(kind="targets", dataset=dataset, storage=StorageRecipe(dtype="labels"))
    create(path, recipe, table, specs, attrs={"classes": CLASSES}, coordinates={}, provenance={})
    with StoreWriter(path) as writer:
        for clip, arrays in zip(table, labels, strict=True):
            writer.put(clip.row, arrays)
    finalize_if_stale(path)


def _labels(row: int, case: Case) -> dict[str, NDArray[Any]]:
    """Patches of two by two cells, each with an instance and a depth."""
    rng = np.random.default_rng([row, 1])
    shape = (FRAMES, *(-(-cells // 2) for cells in case.grid))
    height, width = (cells * case.cell for cells in case.grid)

    def patches(values: NDArray[Any]) -> NDArray[Any]:
        side = 2 * case.cell
        return np.ascontiguousarray(values.repeat(side, 1).repeat(side, 2)[:, :height, :width])

    instance = patches(rng.integers(0, SLOTS, shape).astype(np.uint16))
    of_class = np.concatenate([[0], rng.integers(1, len(CLASSES) + 1, SLOTS - 1)]).astype(np.uint8)
    pixels = [np.bincount(of_class[frame].ravel(), minlength=len(CLASSES) + 1)[1:] for frame in instance]
    return {
        "depth": patches(rng.uniform(0.5, 6, shape).astype(np.float32)),
        "instance": instance,
        "instance_class": of_class,
        "class_pixels": np.stack(pixels).astype(np.int32),
    }


def _write_features(folder: Path, table: list[ClipRow], dataset: DatasetRecipe, case: Case) -> None:
    backbone = BackboneRecipe(
        family="noise",
        family_version=1,
        model="model",
        kind="encoder",
        checkpoint="noise",
        revision=None,
        digest="0" * 32,
        attention=None,
    )
    path = folder / "model" / "noise"
    path.parent.mkdir()
    attrs = {"site": TAP, "depth": 0, "noise": None}
    spec = ArraySpec(TAP, (FRAMES, *case.grid, case.channels), "float16", ("frame", "y", "x", "channel"), attrs)
    recipe = Recipe(kind="features", dataset=dataset, backbone=backbone)
    create(path, recipe, table, [spec], attrs={}, coordinates={}, provenance={})
    with StoreWriter(path) as writer:
        for clip, values in zip(table, _features(case), strict=False):
            writer.put(clip.row, {TAP: values})
            save_file({TAP: values}, folder / f"{clip.row}.safetensors")
    finalize_if_stale(path)


def _features(case: Case) -> Iterator[NDArray[np.float16]]:
    """Clips of noise, all of the same frames in other orders."""
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((FRAMES, *case.grid, case.channels), dtype=np.float32).astype(np.float16)
    while True:
        yield frames[rng.permutation(FRAMES)]
