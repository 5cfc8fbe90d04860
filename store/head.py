"""`recipe.json`: the root of a store. Its seal covers the recipe, the group's attributes, and the digests of all files
that were written with it and never change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from store.digest import DIGEST_PATTERN
from store.documents import parse_json, seal, unseal
from store.errors import FormatError
from store.folder import Folder, check_name
from store.recipe import Recipe, parse_recipe

RECIPE = "recipe.json"
FORMAT = 2
_MOST_BYTES = 1 << 26


class Head(NamedTuple):
    """What `recipe.json` says.

    Attributes:
        recipe: all that can change a number.
        attributes: of the Zarr group; a targets store has `classes`.
        files: name -> xxh3_128 of the files that were written at creation.
    """

    recipe: Recipe
    attributes: Mapping[str, Any]
    files: Mapping[str, str]


def seal_head(head: Head) -> bytes:
    """The content of `recipe.json`."""
    return seal(
        {
            "format": FORMAT,
            "fingerprint": head.recipe.fingerprint,
            "recipe": head.recipe.model_dump(mode="json"),
            "attributes": dict(head.attributes),
            "files": dict(sorted(head.files.items())),
        }
    )


def load_head(folder: Folder) -> Head:
    """Read `recipe.json`.

    Raises:
        FileNotFoundError: there is none.
        FormatError: it is damaged, or of another version of the format.
    """
    where = f"{folder.url}/{RECIPE}"
    content = folder.read(RECIPE, _MOST_BYTES)
    found = parse_json(content, where)
    version = found.get("format", found.get("schema_version"))
    if version != FORMAT:
        raise FormatError(
            f"{where}: store format version {version!r}; this code reads version {FORMAT}. "
            "Install the version of this project that wrote the store, or extract it again."
        )
    document = unseal(content, where)
    recipe = parse_recipe(document.get("recipe"), where)
    if document.get("fingerprint") != recipe.fingerprint:
        raise FormatError(
            f"{where}: says fingerprint {document.get('fingerprint')!r}, its recipe has {recipe.fingerprint}. "
            "Restore it from a copy of the store."
        )
    attributes, files = document.get("attributes"), document.get("files")
    if not isinstance(attributes, dict) or not isinstance(files, dict):
        raise FormatError(f"{where}: attributes and files must be JSON objects. Restore it from a copy of the store.")
    for name, digest in files.items():
        check_name(name)
        if not isinstance(digest, str) or not re.fullmatch(DIGEST_PATTERN, digest):
            raise FormatError(f"{where}: {digest!r} is no digest of {name}. Restore it from a copy of the store.")
    return Head(recipe, attributes, files)
