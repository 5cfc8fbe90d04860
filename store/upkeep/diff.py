"""Where two stores differ, and which stored features come nearest to what is asked for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from store.arrays import identity
from store.errors import StoreError
from store.feature_store import FeatureStore
from store.folder import LocalFolder
from store.head import load_head
from store.layout import find_stores
from store.recipe import Recipe, canonical_json, differences, flatten

Changes = list[tuple[str, object, object]]
"""Dotted name of a field, its value in the one and in the other; `None` where there is no such field."""

_NEAREST = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Difference:
    """Where store A differs from store B. Everything is empty if nowhere.

    Attributes:
        recipe: fields of the recipes.
        attributes: attributes of the groups.
        clips_only_a, clips_only_b: ids of the clips that only one has.
        clips: clip id -> fields that differ.
        arrays_only_a, arrays_only_b: names of the arrays that only one has.
        arrays: array name -> fields that differ: shape and type of a clip, layout, attributes.
        rows_only_a, rows_only_b: array name -> rows that only one has committed; for one recipe, where a row is the
            same clip in both.
        shards: array name -> rows whose values differ, although the recipe is the same.
    """

    recipe: Changes = field(default_factory=list)
    attributes: Changes = field(default_factory=list)
    clips_only_a: list[str] = field(default_factory=list)
    clips_only_b: list[str] = field(default_factory=list)
    clips: dict[str, Changes] = field(default_factory=dict)
    arrays_only_a: list[str] = field(default_factory=list)
    arrays_only_b: list[str] = field(default_factory=list)
    arrays: dict[str, Changes] = field(default_factory=dict)
    rows_only_a: dict[str, list[int]] = field(default_factory=dict)
    rows_only_b: dict[str, list[int]] = field(default_factory=dict)
    shards: dict[str, list[int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(vars(self).values())


def diff(a: FeatureStore, b: FeatureStore) -> Difference:
    """Compare two stores by what their documents say; no shard is read."""
    clips_a, clips_b = ({clip.id: clip.model_dump(mode="json") for clip in store.clips} for store in (a, b))
    arrays_a, arrays_b = ({name: identity(info) for name, info in store.arrays.items()} for store in (a, b))
    found = Difference(
        recipe=list(differences(a.recipe, b.recipe)),
        attributes=_changes(a.attrs, b.attrs),
        clips_only_a=[clip for clip in clips_a if clip not in clips_b],
        clips_only_b=[clip for clip in clips_b if clip not in clips_a],
        clips=_in_both(clips_a, clips_b),
        arrays_only_a=sorted(arrays_a.keys() - arrays_b.keys()),
        arrays_only_b=sorted(arrays_b.keys() - arrays_a.keys()),
        arrays=_in_both(arrays_a, arrays_b),
    )
    if a.fingerprint == b.fingerprint:
        for name in sorted(arrays_a.keys() & arrays_b.keys()):
            _compare_shards(found, name, a, b)
    return found


def nearest(recipe: Recipe, base: Path) -> list[tuple[Path, Changes]]:
    """Stores of this recipe below a folder; if there is none, those that come nearest to it and why they are others.

    Near is a store of the same kind, data set and model.

    Args:
        recipe: what is asked for.
        base: root of the stores.

    Returns:
        (directory, fields that differ: there, asked for), the nearest first, at most three. A store of this very recipe
        has no such field, and then only such stores are listed.
    """
    found = []
    for path in find_stores(base):
        try:
            there = load_head(LocalFolder(path)).recipe
        except (StoreError, OSError) as error:
            log.warning("%s: passed over, since its recipe cannot be read (%s)", path, error)
            continue
        if _subject(there) == _subject(recipe):
            found.append((path, list(differences(there, recipe))))
    found.sort(key=lambda each: len(each[1]))
    return [each for each in found if not each[1]] or found[:_NEAREST]


def _subject(recipe: Recipe) -> tuple[str, str, str | None]:
    return recipe.kind, recipe.dataset.name, recipe.backbone.model if recipe.backbone else None


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Changes:
    left, right = flatten(dict(a)), flatten(dict(b))
    names = sorted(left.keys() | right.keys())
    pairs = [(name, left.get(name), right.get(name)) for name in names]
    return [(name, one, other) for name, one, other in pairs if canonical_json(one) != canonical_json(other)]


def _in_both(a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]) -> dict[str, Changes]:
    return {name: changes for name in a if name in b and (changes := _changes(a[name], b[name]))}


def _compare_shards(found: Difference, name: str, a: FeatureStore, b: FeatureStore) -> None:
    held_a, held_b = a.committed.mask(name), b.committed.mask(name)
    for rows, missing in ((found.rows_only_a, held_a & ~held_b), (found.rows_only_b, held_b & ~held_a)):
        if missing.any():
            rows[name] = np.flatnonzero(missing).tolist()
    differ = []
    for row in np.flatnonzero(held_a & held_b).tolist():
        left, right = a.committed.record(row, name), b.committed.record(row, name)
        if left and right and (left.size, left.xxh3_128) != (right.size, right.xxh3_128):
            differ.append(row)
    if differ:
        found.shards[name] = differ
