"""What makes a store before any clip is there: recipe, clip table, coordinates, and the metadata of its arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from store.arrays import GROUP, ArrayInfo, differing, identity
from store.clips import CLIPS
from store.digest import digest_bytes
from store.documents import unseal
from store.errors import FormatError, RecipeMismatchError
from store.feature_store import FeatureStore
from store.folder import Folder
from store.head import RECIPE
from store.layout import PROVENANCE
from store.metadata import ZARR_JSON
from store.recipe import Recipe, differences
from store.upkeep.group import GROUP_FILE

_MOST_BYTES = 1 << 30
"""Of all these files together: they are held in memory."""


def skeleton(source: FeatureStore) -> dict[str, bytes]:
    """The files that were written when the store was created, each checked against `recipe.json`, which comes last.

    The Zarr group is the one without consolidated metadata, since a part of a store has fewer arrays.

    Raises:
        FormatError: a file is missing or damaged, or has no business in a store.
    """
    files: dict[str, bytes] = {}
    for name, digest in sorted(source.head.files.items()):
        if name not in (CLIPS, PROVENANCE) and not name.startswith(f"{GROUP}/"):
            raise FormatError(f"{source.folder.url}: recipe.json names the file {name!r}, which no store has.")
        if name != GROUP_FILE:
            files[name] = _read(source.folder, name, digest, _MOST_BYTES - sum(map(len, files.values())))
    files[GROUP_FILE] = group_json(source.attrs)
    where = f"{source.folder.url}/{RECIPE}"
    recipe = _read(source.folder, RECIPE)
    if unseal(recipe, where).get("fingerprint") != source.fingerprint:
        raise FormatError(f"{where}: was replaced while it was read. Run the same command again.")
    return {**files, RECIPE: recipe}


def group_json(attrs: Mapping[str, Any]) -> bytes:
    """The metadata of a Zarr group without those of its arrays, as zarr-python writes it."""
    return json.dumps({"attributes": dict(attrs), "zarr_format": 3, "node_type": "group"}, indent=2).encode()


def array_file(source: FeatureStore, name: str) -> dict[str, bytes]:
    """The metadata of one array, byte for byte. Raises `FormatError` if it is not what clips were committed under."""
    file = f"{GROUP}/{name}/{ZARR_JSON}"
    return {file: _read(source.folder, file, source.info(name).digest)}


def check_same_store(source: FeatureStore, there: FeatureStore) -> None:
    """Raise unless both are parts of one store.

    Raises:
        RecipeMismatchError: another recipe; names every field that differs.
        FormatError: the clips differ, or an array of one name is another array.
    """
    check_same_recipe(source.recipe, there)
    if there.clips != source.clips:
        raise FormatError(
            f"{there.folder.url}/{CLIPS}: differs from that of {source.folder.url} although the recipe agrees. "
            "Restore it from a copy of the store."
        )
    for name, info in source.arrays.items():
        if name in there.arrays:
            check_same_array(info, there.arrays[name], there.folder.url)


def check_same_recipe(recipe: Recipe, there: FeatureStore) -> None:
    """Raise `RecipeMismatchError`, naming every field that differs, unless the store was made by this recipe."""
    fields = [f"  {name}: {old!r} there, {new!r} here" for name, old, new in differences(there.recipe, recipe)]
    if fields:
        raise RecipeMismatchError(
            "\n".join([f"{there.folder.url}: a store made by another recipe is there:", *fields])
            + "\nChoose another destination."
        )


def check_same_array(ours: ArrayInfo, theirs: ArrayInfo, where: str) -> None:
    """Raise `FormatError` unless the shards of both mean the same. The text of their metadata may differ."""
    mine, other = identity(ours), identity(theirs)
    changed = [f"{name}: {other[name]!r} there, {mine[name]!r} here" for name in differing(mine, other)]
    if changed:
        raise FormatError(
            f"{where}/{GROUP}/{ours.name}: is another array than the one of that name here ({'; '.join(changed)}). "
            "Choose another destination."
        )


def _read(folder: Folder, name: str, digest: str | None = None, most: int = _MOST_BYTES) -> bytes:
    where = f"{folder.url}/{name}"
    try:
        content = folder.read(name, most)
    except FileNotFoundError as error:
        raise FormatError(f"{where}: is missing. Restore it from a copy of the store.") from error
    if digest is not None and digest_bytes(content) != digest:
        raise FormatError(f"{where}: is not the one that the store was made with. Restore it from a copy of the store.")
    return content
