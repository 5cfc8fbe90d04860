"""Targets: the labels of a data set at its bank frames, written once for all backbones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.datasets.base import Clip, Dataset, Targets
from extract.errors import DataError, ExtractError
from extract.identity import dataset_recipe
from extract.outcome import Outcome
from extract.plan import bank_coordinate, bank_length
from extract.progress import Progress
from extract.provenance import provenance
from store import (
    ArraySpec,
    ArrayValueError,
    ClipRow,
    FeatureStore,
    Recipe,
    StorageRecipe,
    StoreWriter,
    create,
    finalize_if_stale,
    root,
)
from store.head import RECIPE
from store.layout import TARGETS
from store.upkeep.describe import done

log = logging.getLogger(__name__)

VERSION = 1
"""Raise it when a change of this file changes a target: it is part of the recipe."""

_DIMS = {
    "rgb": ("frame", "y", "x", "rgb"),
    "depth": ("frame", "y", "x"),
    "confidence": ("frame", "y", "x"),
    "instance": ("frame", "y", "x"),
    "instance_class": ("slot",),
    "class_pixels": ("frame", "class"),
    "cam_to_world": ("frame", "row", "column"),
    "intrinsics": ("frame", "row", "column"),
}
_UNITS = {"depth": "m", "confidence": "1", "instance": "1", "class_pixels": "1"}
"""As the CF conventions write them; arrays without one mix units, or have none."""
_DESCRIPTIONS = {
    "depth": "planar z in metres, 0 = invalid",
    "confidence": "of depth, as the network that made it states it; more is surer",
    "instance": "instance id within the clip, 0 = nothing",
    "instance_class": "class id of each instance id, 0 = nothing",
    "class_pixels": "pixels of each class",
    "cam_to_world": "OpenCV axes, metres",
    "intrinsics": "pixels of the target images; the image spans [0, width] x [0, height]",
}
_UNSCALED = {
    "depth": {"description": "planar z, 0 = invalid; each scene has a scale of its own", "units": "1"},
    "cam_to_world": {"description": "OpenCV axes, positions in the unit of depth"},
}
"""What is said instead where `Dataset.depth_unit` is not metres."""


def targets_path(dataset: Dataset) -> Path:
    """Where the targets of a data set are."""
    return root() / TARGETS / dataset.name


def write_targets(
    dataset: Dataset, clips: Sequence[Clip], table: Sequence[ClipRow], rows: Sequence[int], progress: Progress
) -> Outcome:
    """Write the targets of `rows` that are not committed yet.

    A clip whose labels cannot be read is listed in the outcome, and the rest goes on.
    """
    pending = lacking_targets(dataset, table, rows)
    outcome = Outcome(skipped=[row for row in rows if row not in set(pending)])
    with (
        progress.bar(f"targets {dataset.name}", len(pending)) as advance,
        TargetsWriter(dataset, clips, table) as writer,
    ):
        outcome += writer.run(pending, advance)
    if outcome.done or outcome.skipped:
        finalize_if_stale(targets_path(dataset))
    return outcome


def lacking_targets(dataset: Dataset, table: Sequence[ClipRow], rows: Sequence[int]) -> list[int]:
    """Rows without committed targets. Raises `RecipeMismatchError` if the targets that are there are of other data."""
    path = targets_path(dataset)
    if not (path / RECIPE).exists():
        return list(rows)
    _create(path, dataset, table, [])
    committed = set(np.flatnonzero(done(FeatureStore.open(path))).tolist())
    return [row for row in rows if row not in committed]


class TargetsWriter:
    """Writes targets; the store is made of what the first clip has, and every other must have the same arrays."""

    def __init__(self, dataset: Dataset, clips: Sequence[Clip], table: Sequence[ClipRow]) -> None:
        self._dataset, self._clips, self._table = dataset, clips, table
        self._writer: StoreWriter | None = None
        self._names: set[str] = set()

    def run(self, rows: Sequence[int], advance: Callable[[], None]) -> Outcome:
        """Write clips; returns when all that can be are committed. Those whose labels cannot be read are listed."""
        outcome = Outcome()
        before = self._writer.bytes_written if self._writer else 0
        for row in rows:
            clip = self._clips[row]
            try:
                self._put(row, clip)
                outcome.done.append(row)
            except (ExtractError, ArrayValueError) as error:
                outcome.failed[clip.id] = str(error)
                log.error("targets of clip %s failed: %s", clip.id, error)
            advance()
        if self._writer is not None:
            self._writer.flush()
            outcome.bytes = self._writer.bytes_written - before
        return outcome

    def __enter__(self) -> TargetsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, trace)

    def _put(self, row: int, clip: Clip) -> None:
        arrays = target_arrays(clip.targets(), len(self._dataset.classes))
        if self._writer is None:
            self._writer = _open(targets_path(self._dataset), self._dataset, self._table, arrays)
            self._names = set(arrays)
        if set(arrays) != self._names:
            raise DataError(f"clip {clip.id}: has targets {sorted(arrays)}, other clips have {sorted(self._names)}.")
        self._writer.put(row, arrays)


def target_arrays(targets: Targets, n_classes: int) -> dict[str, NDArray[Any]]:
    """The arrays of one clip as they are stored, with the pixels per frame and class counted."""
    arrays = {
        name: getattr(targets, name)
        for name in ("rgb", "depth", "confidence", "instance", "instance_class", "cam_to_world", "intrinsics")
        if getattr(targets, name) is not None
    }
    if targets.instance is not None and targets.instance_class is not None:
        classes = targets.instance_class[targets.instance]
        counts = [np.bincount(frame.ravel(), minlength=n_classes + 1)[1:] for frame in classes]
        arrays["class_pixels"] = np.stack(counts).astype(np.int32)
    return arrays


def _open(path: Path, dataset: Dataset, table: Sequence[ClipRow], arrays: dict[str, NDArray[Any]]) -> StoreWriter:
    longest = bank_length(table)
    specs = []
    for name, values in arrays.items():
        dims = _DIMS[name]
        shape = (longest, *values.shape[1:]) if dims[0] == "frame" else values.shape
        said = {"description": _DESCRIPTIONS.get(name), "units": _UNITS.get(name)}
        if dataset.depth_unit != "m":
            said |= _UNSCALED.get(name, {})
        attrs = {key: value for key, value in said.items() if value is not None}
        specs.append(ArraySpec(name, shape, str(values.dtype), dims, attrs, compressed=True))
    _create(path, dataset, table, specs)
    return StoreWriter(path)


def _create(path: Path, dataset: Dataset, table: Sequence[ClipRow], specs: Sequence[ArraySpec]) -> None:
    recipe = Recipe(
        kind="targets",
        dataset=dataset_recipe(dataset, table),
        preprocessing={"version": VERSION},
        storage=StorageRecipe(dtype="labels"),
    )
    create(
        path,
        recipe,
        table,
        specs,
        attrs={
            "dataset": dataset.name,
            "fingerprint": recipe.fingerprint,
            "length_unit": dataset.depth_unit,
            "classes": [{"name": each.name, "kind": each.kind} for each in dataset.classes],
        },
        coordinates=bank_coordinate(table),
        provenance=provenance(),
        remedy="Targets are shared by all backbones, and these are of other data. Point at the data that they were "
        "made of, or keep this data's stores in another root: FEATURE_STORE=DIR. A folder of recordings may have a "
        'name of its own: {"name": "kitchen"} in its dataset.json.',
    )
