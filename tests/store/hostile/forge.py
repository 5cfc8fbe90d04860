"""Stores that lie: any document changed in any way, with all seals and digests made good again."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import FeatureStore, StoreError
from store.digest import digest_bytes, digest_file
from store.documents import seal_text
from store.manifest import RECORD
from store.upkeep.verify import verify

MOST_MEMORY = 100e6
MOST_SECONDS = 10.0
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
Change = Callable[[dict[str, Any]], None]


def load(path: Path) -> dict[str, Any]:
    """A document without its seal."""
    document: dict[str, Any] = json.loads(path.read_bytes())
    document.pop("xxh3_128", None)
    return document


def write_sealed(path: Path, text: str) -> None:
    """Any text that ends as a JSON object does, sealed."""
    path.write_bytes(seal_text(text))


def edit(path: Path, change: Change) -> None:
    """Change a sealed document, also into what the store would never write: NaN, wrong types."""
    document = load(path)
    change(document)
    write_sealed(path, json.dumps(document, indent=1))


def edit_array(store: Path, name: str, change: Change) -> None:
    """Change the metadata of an array."""
    path = store / "features.zarr" / name / "zarr.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))
    adopt(store)


def adopt(store: Path) -> None:
    """Make every digest that the store has of its own files that of what is there now: nobody can tell from them."""
    metadata = {path.parent.name: path for path in store.glob("features.zarr/*/zarr.json")}
    digests = {name: digest_file(path) for name, path in metadata.items()}
    for commit in store.glob("commits/*.json"):
        edit(commit, lambda document: _adopt_commit(document, store, digests))
    edit(store / "recipe.json", lambda head: head["files"].update({"clips.json": digest_file(store / "clips.json")}))
    if (store / "manifest.json").exists():
        group = json.loads((store / "features.zarr" / "zarr.json").read_bytes())
        consolidated = {name: json.loads(path.read_bytes()) for name, path in sorted(metadata.items())}
        group["consolidated_metadata"]["metadata"] = consolidated
        (store / "features.zarr" / "zarr.json").write_text(json.dumps(group))
        edit(store / "manifest.json", lambda manifest: _adopt_manifest(manifest, store, digests))


def _adopt_commit(commit: dict[str, Any], store: Path, digests: dict[str, str]) -> None:
    for name, record in commit["arrays"].items():
        commit["metadata"][name] = digests.get(name, "0" * 32)
        for shard in store.glob(f"features.zarr/{name}/c.{commit['row']}.*"):
            record |= {"size": shard.stat().st_size, "xxh3_128": digest_file(shard)}


def _adopt_manifest(manifest: dict[str, Any], store: Path, digests: dict[str, str]) -> None:
    manifest["arrays"] = {name: digests[name] for name in manifest["arrays"]}
    manifest["group"] = digest_file(store / "features.zarr" / "zarr.json")
    old = store / manifest["table"]["file"]
    table = np.frombuffer(old.read_bytes(), RECORD).reshape(len(manifest["arrays"]), -1).copy()
    for position, name in enumerate(manifest["arrays"]):
        for row in range(table.shape[1]):
            for shard in store.glob(f"features.zarr/{name}/c.{row}.*"):
                table[position, row]["size"] = shard.stat().st_size
    replace_table(store, manifest, table.tobytes())


def replace_table(store: Path, manifest: dict[str, Any], content: bytes) -> None:
    (store / manifest["table"]["file"]).unlink()
    digest = digest_bytes(content)
    manifest["table"] = {"size": len(content), "xxh3_128": digest, "file": f"manifest-{digest}.table"}
    (store / manifest["table"]["file"]).write_bytes(content)


def commit_of(store: Path, row: int = 0) -> Path:
    return next(store.glob(f"commits/{row:06d}-*"))


def use(path: Path) -> None:
    """Do with a store what a user does: open it, look at all that it says, read everything with every checksum."""
    store = FeatureStore.open(path)
    for name in store.taps:
        store.tap_fingerprint(name)
    for row in store.rows():
        for name in store.committed[row]:
            store.committed.sizes(name)
            store.read(name, row, verify=True)
            if store.info(name).scale:
                store.scale(name, row)


@contextmanager
def frugally(*, exact: bool = False) -> Iterator[None]:
    """The block takes little memory and time, whatever it is told. `exact` also counts memory that is never touched."""
    start = time.perf_counter()
    _CLEAR.write_text("5")  # the high-water mark is what is resident now: proc(5)
    before = _resident()
    if exact:
        tracemalloc.start()
    try:
        yield
        peak = max(_resident() - before, tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert peak < MOST_MEMORY
    assert time.perf_counter() - start < MOST_SECONDS


def _resident() -> int:
    """Most bytes that were resident since the mark was cleared."""
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def assert_refused(path: Path, match: str | None = None, *, exact: bool = False) -> None:
    """A user hears what is wrong, at once."""
    with frugally(exact=exact), pytest.raises(StoreError, match=match):
        use(path)


def assert_verify_ends(path: Path) -> None:
    """`verify`, which goes on when it meets damage, comes to an end."""
    with frugally():
        try:
            verify(path, deep=True)
        except StoreError:
            return
