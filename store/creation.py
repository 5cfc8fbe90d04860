"""Making a store, or joining one that exists: metadata is written once, whole, before any writer starts."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.arrays import ArraySpec, create_arrays, differing, identity, with_scales
from store.clips import CLIPS, ClipRow, load_clips, seal_clips
from store.digest import digest_file
from store.dtypes import INT8_CHANNEL
from store.errors import FormatError, RecipeMismatchError
from store.files import PARTIAL, raise_for, sync_directory, sync_tree, write_atomic
from store.folder import LocalFolder
from store.head import Head, load_head, seal_head
from store.layout import Layout
from store.metadata import check_array_name, read_array
from store.recipe import Recipe, differences


@dataclass(frozen=True)
class Coordinate:
    """A small array beside the taps: `values` with dimension names `dims` (`bank_frame`, `span`)."""

    values: NDArray[Any]
    dims: tuple[str, ...]
    description: str


def create(
    path: Path,
    recipe: Recipe,
    clips: Sequence[ClipRow],
    specs: Sequence[ArraySpec],
    *,
    attrs: Mapping[str, Any],
    coordinates: Mapping[str, Coordinate],
    provenance: Mapping[str, Any],
    remedy: str = "Ask for what the store holds, or write another store with --out NAME.",
) -> None:
    """Make the store, or check that the one at `path` has the same recipe and clips and add the arrays it lacks.

    Safe with any number of processes at once: a new store appears by one rename, and whoever comes second joins it.

    Raises:
        RecipeMismatchError: a store made by another recipe is there; names every field that differs, and `remedy`.
        FormatError: what is there is damaged, or an array of that name has another shape or type.
    """
    layout = Layout(path)
    if not layout.recipe.exists():
        _create_new(layout, recipe, clips, attrs, coordinates, provenance)
    _check_same(layout, recipe, clips, remedy)
    _add_arrays(layout, specs, len(clips))


def _create_new(
    layout: Layout,
    recipe: Recipe,
    clips: Sequence[ClipRow],
    attrs: Mapping[str, Any],
    coordinates: Mapping[str, Coordinate],
    provenance: Mapping[str, Any],
) -> None:
    import zarr

    if layout.path.exists() and not layout.path.is_dir():
        raise FormatError(f"{layout.path}: a file is in the way. Move it, or choose another --out.")
    if layout.path.exists() and any(layout.path.iterdir()):
        if layout.recipe.exists():  # another process was first: join its store
            return
        raise FormatError(
            f"{layout.path}: a folder that is no feature store (no recipe.json) is in the way. "
            "Move it, or choose another --out."
        )
    draft = Layout(layout.path.with_name(f".{layout.path.name}.{uuid.uuid4().hex[:12]}{PARTIAL}"))
    try:
        draft.commits.mkdir(parents=True)
        write_atomic(draft.clips, [seal_clips(clips)])
        write_atomic(draft.provenance, [json.dumps(provenance, indent=1, sort_keys=True).encode()])
        group = zarr.open_group(str(draft.group), mode="w", zarr_format=3, attributes=dict(attrs))
        for name, coordinate in coordinates.items():
            array = group.create_array(
                name,
                shape=coordinate.values.shape,
                chunks=tuple(max(1, size) for size in coordinate.values.shape),
                dtype=coordinate.values.dtype,
                dimension_names=coordinate.dims,
                attributes={"description": coordinate.description},
            )
            array[...] = np.asarray(coordinate.values)
        files = [path for path in draft.path.rglob("*") if path.is_file()]
        digests = {path.relative_to(draft.path).as_posix(): digest_file(path) for path in files}
        write_atomic(draft.recipe, [seal_head(Head(recipe, attrs, digests))])
        sync_tree(draft.path)
        os.rename(draft.path, layout.path)
        sync_directory(layout.path.parent)
    except OSError as error:
        if layout.recipe.exists():  # another process was first: join its store
            return
        raise_for(error, layout.path)
    finally:
        shutil.rmtree(draft.path, ignore_errors=True)


def _check_same(layout: Layout, recipe: Recipe, clips: Sequence[ClipRow], remedy: str) -> None:
    folder = LocalFolder(layout.path)
    head = load_head(folder)
    if head.recipe != recipe:
        fields = "\n".join(
            f"  {name}: {old!r} in the store, {new!r} asked for" for name, old, new in differences(head.recipe, recipe)
        )
        raise RecipeMismatchError(f"{layout.path}: the store was made by another recipe:\n{fields}\n{remedy}")
    if load_clips(folder, head.files.get(CLIPS)) != list(clips):
        raise FormatError(
            f"{layout.clips}: differs from the data set although the recipe agrees. "
            "Restore it from a copy of the store."
        )


def _add_arrays(layout: Layout, specs: Sequence[ArraySpec], n_clips: int) -> None:
    """Add missing arrays, each by one rename of its folder."""
    asked = with_scales(specs)
    missing = _missing(layout, asked, n_clips)
    if not missing:
        return
    import zarr

    draft = layout.path / f".arrays.{uuid.uuid4().hex[:12]}{PARTIAL}"
    try:
        zarr.open_group(str(draft), mode="w", zarr_format=3)
        create_arrays(draft, missing, n_clips)
        sync_tree(draft)
        for spec in missing:
            try:
                os.rename(draft / spec.name, layout.group / spec.name)
            except OSError:
                if not (layout.group / spec.name / "zarr.json").exists():
                    raise
        sync_directory(layout.group)
    except OSError as error:
        raise_for(error, layout.group)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _missing(layout, asked, n_clips)  # another process may have been first with another array of that name


def _missing(layout: Layout, specs: Sequence[ArraySpec], n_clips: int) -> list[ArraySpec]:
    """The arrays that are not there. Raises `FormatError` if one is there, but another one than what is asked for."""
    folder = LocalFolder(layout.path)
    missing = []
    for spec in specs:
        check_array_name(spec.name)
        if spec.dtype == INT8_CHANNEL and spec.dims[-1:] in ((), ("frame",)):
            raise FormatError(f"{layout.group / spec.name}: int8-channel needs an axis of channels after {spec.dims}.")
        try:
            old = read_array(folder, spec.name)
        except FileNotFoundError:
            missing.append(spec)
            continue
        if old is None:
            raise FormatError(f"{layout.group / spec.name}: a coordinate has this name. Choose another for the array.")
        there, asked = identity(old.spec()), identity(spec)
        changed = [f"{name}: {there[name]!r} there, {asked[name]!r} asked for" for name in differing(there, asked)]
        if old.shape[0] != n_clips or changed:
            raise FormatError(
                f"{layout.group / spec.name}: the array is another one ({'; '.join(changed)}). "
                "Write another store with --out NAME."
            )
    return missing
