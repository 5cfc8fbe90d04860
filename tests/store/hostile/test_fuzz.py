"""Documents changed at random and sealed again: whatever they say, it is refused or read, and nothing else happens."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import StoreError, finalize
from store.digest import digest_file
from store.feature_store import FeatureStore
from tests.store.hostile.forge import adopt, assert_verify_ends, commit_of, frugally, load, use, write_sealed

LONG = (pytest.mark.long, pytest.mark.timeout(1800))
NASTY: list[Any] = [
    None, True, False, 0, 1, -1, 2, 7, 2**31, 2**53 + 1, 2**60, 2**63, 2**64, 10**300, 0.5, -0.0, 1e300, "", "x", "0",
    "../x", "/", "a/b", "\0", "é", "x" * 300, "float16", "bfloat16", "int8-channel", "uint16", "frame", "clip", "half",
    "byte~scale", "0" * 32, "f" * 32, [], [None], [[]], [0], [1, 2, 3], [2**60] * 3, {}, {"": None}, {"name": "bytes"},
    {"name": "zstd", "configuration": {"level": 3, "checksum": False}}, {"name": "x"}, [{}], {"sigma": 1},
]  # fmt: skip


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a document."""
    keys = document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in keys:
        yield (*path, key)
        yield from places(document[key], (*path, key))


def mutate(document: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """One to three changes: a value replaced, taken away, doubled, exchanged for another of the document, renamed."""
    document = copy.deepcopy(document)
    for _ in range(rng.integers(1, 4)):
        ways = list(places(document))
        if not ways:
            return document
        *outer, key = ways[rng.integers(len(ways))]
        parent: Any = document
        for step in outer:
            parent = parent[step]
        action = rng.integers(6)
        if action <= 2:
            parent[key] = copy.deepcopy(NASTY[rng.integers(len(NASTY))])
        elif action == 3:
            del parent[key]
        elif action == 4:
            other: Any = document
            for step in ways[rng.integers(len(ways))]:
                other = other[step]
            parent[key] = copy.deepcopy(other)
        elif isinstance(parent, list):
            parent.insert(int(rng.integers(len(parent) + 1)), copy.deepcopy(parent[key]))
        else:
            name = NASTY[rng.integers(len(NASTY))]
            parent[name if isinstance(name, str) else str(name)] = parent.pop(key)
    return document


def put(store: Path, name: str, document: dict[str, Any]) -> None:
    path = commit_of(store) if name == "commit" else store / name
    if name.endswith("zarr.json"):
        path.write_text(json.dumps(document))
    else:
        write_sealed(path, json.dumps(document, indent=1) if document else '{\n "a": 1\n}')


DOCUMENTS = [
    ("open", "recipe.json"),
    ("open", "clips.json"),
    ("open", "commit"),
    ("open", "features.zarr/half/zarr.json"),
    ("open", "features.zarr/byte/zarr.json"),
    ("open", "features.zarr/byte~scale/zarr.json"),
    ("open", "features.zarr/label/zarr.json"),
    ("closed", "recipe.json"),
    ("closed", "manifest.json"),
    ("closed", "features.zarr/zarr.json"),
]


@pytest.mark.parametrize(("state", "name"), DOCUMENTS)
@pytest.mark.parametrize("times", [5, pytest.param(300, marks=LONG)])
def test_a_document_changed_at_random(state: str, name: str, times: int, pristine: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng([0, *name.encode()])
    store = shutil.copytree(pristine, tmp_path / "known")
    for table in list(store.glob("manifest*")) if state == "open" else ():
        table.unlink()
    sound = shutil.copytree(store, tmp_path / "sound")
    document = load(commit_of(store) if name == "commit" else store / name)
    outcomes = set()
    for _ in range(times):
        changed = mutate(document, rng)
        put(store, name, changed)
        with suppress(Exception):  # of the forger, who stumbles over what is missing
            adopt(store)
        if name == "features.zarr/zarr.json":
            put(store, name, changed)
            manifest = load(store / "manifest.json")
            manifest["group"] = digest_file(store / name)
            put(store, "manifest.json", manifest)
        outcomes.add(outcome(store, changed))
        shutil.rmtree(store)
        shutil.copytree(sound, store)
    assert "refused" in outcomes


def outcome(store: Path, changed: dict[str, Any]) -> str:
    try:
        with frugally():
            use(store)
    except StoreError:
        found = "refused"
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}\n{json.dumps(changed)[:3000]}") from error
    else:
        found = "read"
    try:
        with suppress(StoreError):
            finalize(FeatureStore.open(store))
        assert_verify_ends(store)
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}\n{json.dumps(changed)[:3000]}") from error
    return found
