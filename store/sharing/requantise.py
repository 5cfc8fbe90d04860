"""Keeping features in another storage type: a new store, whose recipe says what it was converted from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.casting import absmax_scale, quantise, to_physical
from store.creation import create
from store.digest import digest_bytes
from store.documents import parse_json
from store.dtypes import FEATURE_DTYPES, INT8_CHANNEL, dequantise, to_logical
from store.errors import ArrayValueError, CorruptShardError, StoreError
from store.feature_store import FeatureStore
from store.head import RECIPE, Head, seal_head
from store.layout import PROVENANCE
from store.progress import Progress, Silent, in_order
from store.readable import Readable
from store.recipe import Recipe
from store.sharing.destination import LocalDestination, check_apart
from store.sharing.selection import Selection, chosen_arrays, chosen_rows
from store.sharing.skeleton import check_same_recipe, skeleton
from store.suggest import did_you_mean
from store.upkeep.finalize import finalize_if_stale
from store.writer import StoreWriter

_MEMORY = 1 << 29
"""Bytes of float32 values of one clip that are held at once; a clip with more gets several commits."""
_AHEAD = 2
_BLOCK = 1 << 20


@dataclass
class Cost:
    """What the conversion of one tap cost: the relative L2 error |converted - original| / |original| of clips.

    Attributes:
        clips: number of clips.
        total: sum of their errors.
        worst, worst_clip: the largest, and the id of its clip.
    """

    clips: int = 0
    total: float = 0.0
    worst: float = 0.0
    worst_clip: str = ""

    @property
    def mean(self) -> float:
        """Mean over the clips; NaN if there are none."""
        return self.total / self.clips if self.clips else math.nan

    def add(self, clip: str, error: float) -> None:
        """Count one clip."""
        self.clips, self.total = self.clips + 1, self.total + error
        if error > self.worst or not self.worst_clip:
            self.worst, self.worst_clip = error, clip


@dataclass
class Converted:
    """What a conversion did.

    Attributes:
        clips: number of clips that were asked for and are committed at the source.
        clips_there: of these, those that were converted before.
        recipe: of the new store.
        costs: tap -> error of the clips that were converted now.
        failed: (clip, array, problem) that could not be converted.
    """

    clips: int
    clips_there: int
    recipe: Recipe
    costs: dict[str, Cost]
    failed: list[tuple[str, str, str]] = field(default_factory=list)


def requantise(
    source: FeatureStore,
    path: Path,
    dtype: str,
    selection: Selection | None = None,
    *,
    threads: int = 2,
    progress: Progress | None = None,
) -> Converted:
    """Write the features of a store into another one, in another storage type. Run again, it goes on.

    Arrays that hold no features are kept as they are. A store that was converted before may be converted again: the new
    recipe then names every type on the way, since each has left its error in the values.

    Args:
        source: the store, here or elsewhere.
        path: directory of the new store.
        dtype: `float16`, `bfloat16`, `float32` or `int8-channel`.
        selection: which part; all of it by default.
        threads: clips that are converted at once.
        progress: hears how far it is.

    Raises:
        StoreError: the type is unknown or the one there is, or the arrays hold labels.
        RecipeMismatchError: another store is at the path; names the fields that differ.
    """
    selection = selection or Selection()
    recipe = converted_recipe(source, dtype)
    names = chosen_arrays(source, selection)
    labels = [name for name in names if not source.info(name).is_tap]
    if labels and selection.arrays:
        raise StoreError(
            f"{source.name}: {', '.join(labels)} hold no features, and labels have one storage type only. "
            "Leave them out of --taps, or copy them without --dtype."
        )
    rows = chosen_rows(source, selection, names)
    return rewrite(source, _prepare(source, path, recipe, names), names, rows, threads, progress)


def rewrite(
    source: Readable,
    there: FeatureStore,
    names: Sequence[str],
    rows: Sequence[int],
    threads: int,
    progress: Progress | None,
) -> Converted:
    """Write what a store lacks of some arrays and clips, in the storage types that it has for them.

    Args:
        source: what the values are read from.
        there: a store on this machine, of the same clips, which has the arrays.
        names, rows: which arrays and clips.
        threads, progress: as for `requantise`.
    """
    progress = progress or Silent()
    lacking = {name: source.mask(name) & ~there.mask(name) for name in names}
    todo = {row: [name for name in names if lacking[name][row]] for row in rows}
    done = Converted(len(rows), sum(not due for due in todo.values()), there.recipe, {})
    sizes = {name: source.sizes(name) for name in names}
    progress.start(int(sum(sizes[name][row] for row, due in todo.items() for name in due)))
    portions = [(row, portion) for row, due in todo.items() for portion in _portions(source, due)]

    def convert(portion: tuple[int, list[str]]) -> list[_Values]:
        return [_convert(source, there, portion[0], name) for name in portion[1]]

    with ThreadPoolExecutor(threads, thread_name_prefix="convert") as pool, StoreWriter(there.path) as writer:
        for (row, _), results in zip(portions, in_order(pool, convert, portions, _AHEAD), strict=True):
            clip = source.clips[row].id
            for result in results:
                if result.problem:
                    done.failed.append((clip, result.name, result.problem))
                elif result.error is not None:
                    done.costs.setdefault(result.name, Cost()).add(clip, result.error)
                progress.advance(int(sizes[result.name][row]))
            if values := {result.name: result.values for result in results if result.values is not None}:
                writer.put(row, values)
    finalize_if_stale(there.path)
    return done


def converted_recipe(source: FeatureStore, dtype: str) -> Recipe:
    """The recipe of the converted store. Raises `StoreError` if there is nothing to convert."""
    storage = source.recipe.storage
    check_dtype(dtype)
    if source.recipe.kind != "features":
        raise StoreError(f"{source.name}: holds labels, which have one storage type only. Copy it without --dtype.")
    if storage.dtype == dtype:
        raise StoreError(f"{source.name}: is {dtype} already. Copy it without --dtype.")
    history = storage.dtype if storage.converted_from is None else f"{storage.converted_from} > {storage.dtype}"
    storage = storage.model_copy(update={"dtype": dtype, "converted_from": history})
    return source.recipe.model_copy(update={"storage": storage})


def check_dtype(dtype: str) -> None:
    """Raise `StoreError` with the nearest name if features cannot be kept in this type."""
    if dtype not in FEATURE_DTYPES:
        raise StoreError(did_you_mean("storage type", dtype, FEATURE_DTYPES))


def _prepare(source: FeatureStore, path: Path, recipe: Recipe, names: Sequence[str]) -> FeatureStore:
    """The new store, which has the arrays, made if there is none."""
    target = LocalDestination(path)
    check_apart(source.folder, target)
    there = target.existing()
    if there is None:
        target.begin(_skeleton(source, recipe))
    else:
        check_same_recipe(recipe, there)
    infos = [source.info(name) for name in names]
    specs = [info.spec(recipe.storage.dtype if info.is_tap else None) for info in infos]
    create(target.path, recipe, source.clips, specs, attrs=source.attrs, coordinates={}, provenance={})
    return FeatureStore(target.folder)


def _skeleton(source: FeatureStore, recipe: Recipe) -> dict[str, bytes]:
    """The files of the source, with another recipe, and a note of where they are from."""
    files = skeleton(source)
    del files[RECIPE]
    if PROVENANCE in files:
        provenance = parse_json(files[PROVENANCE], f"{source.folder.url}/{PROVENANCE}")
        note = {"from": source.fingerprint, "dtype": recipe.storage.dtype}
        files[PROVENANCE] = json.dumps({**provenance, "converted": note}, indent=1, sort_keys=True).encode()
    digests = {name: digest_bytes(content) for name, content in files.items()}
    return {**files, RECIPE: seal_head(Head(recipe, source.attrs, digests))}


def _portions(source: Readable, names: Sequence[str]) -> Iterator[list[str]]:
    portion: list[str] = []
    held = 0
    for name in names:
        size = source.info(name).spec().clip_bytes * 4 // source.info(name).physical.itemsize
        if portion and held + size > _MEMORY:
            yield portion
            portion, held = [], 0
        portion.append(name)
        held += size
    if portion:
        yield portion


@dataclass(frozen=True)
class _Values:
    """Of one array and clip: what to write, and the relative error that it has; or what the problem is."""

    name: str
    values: NDArray[Any] | None = None
    error: float | None = None
    problem: str = ""


def _convert(source: Readable, there: FeatureStore, row: int, name: str) -> _Values:
    dtype = there.info(name).dtype
    try:
        values = source.read(name, row, verify=True)
        if not source.info(name).is_tap:
            return _Values(name, values)
        if dtype == INT8_CHANNEL:
            values = values.astype(np.float32, copy=False)
            scale = absmax_scale(values)
            return _Values(name, values, relative_error(values, dequantise(quantise(values, scale), scale)))
        stored = _cast(values, dtype, f"clip {source.clips[row].id}, tap {name}")
        return _Values(name, stored, relative_error(values, to_logical(stored, dtype)))
    except (CorruptShardError, ArrayValueError) as error:
        return _Values(name, problem=str(error))


def _cast(values: NDArray[Any], dtype: str, where: str) -> NDArray[Any]:
    largest = float(np.abs(values).max())
    try:
        stored: NDArray[Any] = to_physical(values, dtype, where)
    except ArrayValueError as error:
        if not math.isfinite(largest):
            raise
        raise ArrayValueError(
            f"{where}: the largest magnitude, {largest:.4g}, does not fit {dtype}. The tap was not written for this "
            "clip. Convert to bfloat16 or float32 instead."
        ) from error
    return stored


def relative_error(original: NDArray[Any], converted: NDArray[Any]) -> float:
    """|converted - original| / |original| over all values, in float64; 0 where both are zero."""
    flat, other = original.reshape(-1), converted.reshape(-1)
    squares, differences = 0.0, 0.0
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK].astype(np.float64)
        change = other[start : start + _BLOCK] - block
        squares += float(np.dot(block, block))
        differences += float(np.dot(change, change))
    return math.sqrt(differences / squares) if squares else (math.inf if differences else 0.0)
