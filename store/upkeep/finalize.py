"""Closing a store for sharing: one manifest instead of many commits, and consolidated Zarr metadata."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from store.arrays import GROUP
from store.digest import digest_bytes
from store.errors import FormatError, StoreError
from store.feature_store import FeatureStore
from store.folder import LocalFolder
from store.manifest import MANIFEST, write_manifest
from store.metadata import ZARR_JSON, read_group
from store.upkeep.group import GROUP_FILE, array_documents, group_document
from store.upkeep.inventory import Inventory
from store.upkeep.listing import digest_of
from store.upkeep.verify import table_problems

_GRACE = 86400.0
"""Seconds that a table is kept after another manifest has taken its place."""
_ATTEMPTS = 10


def finalize(store: FeatureStore) -> None:
    """Write the manifest (the merged commits) and consolidate the Zarr metadata.

    A finalized store opens at once, and can be read where folders cannot be listed. May be run again after taps or
    clips were added, and by several processes at once: who finds another's group under its own manifest begins anew.

    Raises:
        FormatError: the `zarr.json` of an array or the table of the last manifest is missing or damaged.
        StoreError: other processes kept adding arrays.
    """
    for _ in range(_ATTEMPTS):
        _check_table(store)
        group = _group(store)
        store.folder.write(GROUP_FILE, [group])
        manifest = write_manifest(
            store.folder,
            store.fingerprint,
            len(store.clips),
            {name: info.digest for name, info in store.arrays.items()},
            digest_bytes(group),
            store.commits,
            store.committed,
        )
        _retire(store, manifest.table.file)
        if read_group(store.folder)[1] == manifest.group:
            return
        store = FeatureStore(store.folder)
    raise StoreError(f"{store.path}: other processes kept adding arrays while it was finalized. Run it again.")


def finalize_if_stale(path: Path) -> None:
    """Finalize the store in directory `path` unless its manifest is current."""
    store = FeatureStore(LocalFolder(path))
    if not is_current(store):
        finalize(store)


def is_current(store: FeatureStore) -> bool:
    """Whether the manifest holds every commit and array that the store has, and names its group's metadata."""
    return store.manifest is not None and (
        set(store.manifest.commits) == set(store.commits)
        and store.manifest.arrays.keys() == store.arrays.keys()
        and store.manifest.group == read_group(store.folder)[1]
    )


def _retire(store: FeatureStore, current: str) -> None:
    """Let the age of a table tell since when no manifest names it, and drop those that are old by then.

    Who opened the store under an earlier manifest may still read its table, on a network file system by name.
    """
    if store.manifest is not None and store.manifest.table.file != current:
        with suppress(FileNotFoundError):
            os.utime(store.path / store.manifest.table.file)
    for old in store.path.glob("manifest-*.table"):
        with suppress(FileNotFoundError):  # another process deletes it, too
            if old.name != current and time.time() - old.stat().st_mtime > _GRACE:
                old.unlink()


def refinalize(path: Path) -> FeatureStore:
    """`finalize`, also where the manifest, its table, or the group's `zarr.json` is damaged: all follow from the rest.

    Returns:
        The store, opened anew.

    Raises:
        StoreError: some other file is damaged, or one cannot be read.
    """
    inventory = Inventory(path, every_commit=True)
    broken = [bad for bad in inventory.bad if bad.name.startswith("manifest")] + table_problems(inventory)
    unreadable = [f"{bad.name} {bad.problem}" for bad in broken if not bad.damaged]
    if unreadable:
        raise StoreError(f"{path}: {'; '.join(unreadable)}. Check the permissions, then run this again.")
    if broken:
        (path / MANIFEST).unlink(missing_ok=True)  # only a summary of the commits
    if inventory.head is not None and inventory.is_bad(GROUP_FILE):
        documents = array_documents(inventory.folder, inventory.arrays)
        inventory.folder.write(GROUP_FILE, [group_document(inventory.head.attributes, documents)])
    finalize(FeatureStore(LocalFolder(path)))
    return FeatureStore(LocalFolder(path))


def _check_table(store: FeatureStore) -> None:
    """The new table is made from the old one, so damage in it must not be carried on under a new digest."""
    if store.manifest is None:
        return
    table = store.manifest.table
    try:
        same = digest_of(store.path / table.file) == table.xxh3_128
    except FileNotFoundError:  # another process has finalized the store since it was opened, and found it sound
        return
    if not same:
        raise FormatError(
            f"{store.path / table.file}: damaged. Run `python -m store finalize STORE`, which makes it again from the "
            "commits."
        )


def _group(store: FeatureStore) -> bytes:
    """The group's `zarr.json`, of documents that are each the one that was written."""
    documents = array_documents(store.folder, store.folder.names(GROUP) or ())
    expected = {name: info.digest for name, info in store.arrays.items()}
    for file, digest in store.head.files.items():
        folder, _, name = file.removeprefix(f"{GROUP}/").partition("/")
        if file.startswith(f"{GROUP}/") and name == ZARR_JSON:  # of a coordinate
            expected[folder] = digest
    for name, digest in expected.items():
        if name not in documents or digest_bytes(documents[name]) != digest:
            raise FormatError(
                f"{store.folder.url}/{GROUP}/{name}/{ZARR_JSON}: missing, or not the one that was written. "
                "Restore it from a copy of the store."
            )
    return group_document(store.attrs, documents)
