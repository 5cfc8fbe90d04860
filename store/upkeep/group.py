"""The group's `zarr.json` with the metadata of all arrays in it, so that a reader needs one file and not one per array.

It is made of `recipe.json` and the `zarr.json` of every array alone: the same store has the same bytes, whoever writes
them, and damage in what was there before does not live on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from store.arrays import GROUP
from store.documents import parse_json
from store.folder import Folder
from store.metadata import ZARR_JSON
from store.upkeep.listing import MOST_BYTES

GROUP_FILE = f"{GROUP}/{ZARR_JSON}"


def array_documents(folder: Folder, names: Iterable[str]) -> dict[str, bytes]:
    """Array name -> content of its `zarr.json`; entries of the group that have none are left out."""
    found = {}
    for name in names:
        try:
            found[name] = folder.read(f"{GROUP}/{name}/{ZARR_JSON}", MOST_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return found


def group_document(attributes: Mapping[str, Any], arrays: Mapping[str, bytes]) -> bytes:
    """The group's `zarr.json`, laid out as zarr-python writes it.

    Consolidated metadata is not in the Zarr v3 specification yet; every reader ignores or understands it.

    Args:
        attributes: of the group.
        arrays: array name -> content of its `zarr.json`. Raises `FormatError` if one is no JSON object.
    """
    metadata = {name: parse_json(content, f"{GROUP}/{name}/{ZARR_JSON}") for name, content in sorted(arrays.items())}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": metadata}
    document = {
        "attributes": dict(attributes),
        "zarr_format": 3,
        "consolidated_metadata": consolidated,
        "node_type": "group",
    }
    return json.dumps(document, indent=2).encode()
