"""Writing a fusion down, as a store like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from store.creation import create
from store.feature_store import FeatureStore
from store.fusion.fused_store import FusedStore
from store.layout import place
from store.progress import Progress
from store.recipe import Recipe
from store.sharing.destination import LocalDestination, check_apart
from store.sharing.requantise import Converted, check_dtype, rewrite
from store.sharing.selection import Selection, chosen_arrays, chosen_rows
from store.sharing.skeleton import check_same_recipe


def materialise(
    source: FusedStore,
    path: Path | str,
    dtype: str = "float16",
    selection: Selection | None = None,
    *,
    threads: int = 2,
    progress: Progress | None = None,
) -> Converted:
    """Write fused features into a store. Run again, it goes on, also with further taps and clips.

    In float32 the store has the fingerprint of the fusion, and holds the same numbers.

    Args:
        source: the fusion.
        path: directory of the new store, or a name under the root.
        dtype: `float16`, `bfloat16`, `float32` or `int8-channel`.
        selection: which part; all of it by default: every combination of the taps of the branches.
        threads: clips that are computed at once.
        progress: hears how far it is.

    Returns:
        What was done; `costs` are the errors of storing float32 as `dtype`.

    Raises:
        StoreError: the type is unknown.
        StorageFullError: the disk has no room for it.
        RecipeMismatchError: another store is at the path; names the fields that differ.
    """
    selection = selection or Selection()
    check_dtype(dtype)
    names = chosen_arrays(source, selection)
    rows = chosen_rows(source, selection, names)
    target = LocalDestination(place(path))
    for branch in source.branches:
        check_apart(branch.folder, target)
    recipe = stored_recipe(source.recipe, dtype)
    specs = [source.info(name).spec(dtype) for name in names]
    there = target.existing()
    if there is not None:
        check_same_recipe(recipe, there)
    due = {name: source.mask(name)[rows] & ~(there.mask(name)[rows] if there else False) for name in names}
    target.make_room(sum(spec.clip_bytes * int(due[spec.name].sum()) for spec in specs))
    create(
        target.path,
        recipe,
        source.clips,
        specs,
        attrs=dict(source.attrs) | {"fingerprint": recipe.fingerprint},
        coordinates=source.coordinates(),
        provenance=_provenance(source),
        remedy="Choose another destination.",
    )
    return rewrite(source, FeatureStore(target.folder), names, rows, threads, progress)


def stored_recipe(recipe: Recipe, dtype: str) -> Recipe:
    """The recipe of a fusion as it is stored. It was never stored before, so `converted_from` stays empty."""
    return recipe.model_copy(update={"storage": recipe.storage.model_copy(update={"dtype": dtype})})


def _provenance(source: FusedStore) -> dict[str, Any]:
    """What the branches were called here, and the library that computed."""
    branches = [{"store": branch.name, "fingerprint": branch.fingerprint} for branch in source.branches]
    return {"fused": branches, "versions": {"torch": torch.__version__}}
