"""Checking a store on this machine: is every file that it needs there, and does each hold what was committed?

Shallow, every document is read and every shard has the committed size. Deep, every byte is read: a flipped bit in any
file of the store is found, but for arrays of which no clip is committed yet, whose `zarr.json` nothing vouches for.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from store.arrays import GROUP
from store.clips import CLIPS
from store.commits import Commit, row_of
from store.committed import Committed
from store.errors import FormatError
from store.progress import Progress, Silent, in_order
from store.records import ShardRecord
from store.upkeep.group import GROUP_FILE
from store.upkeep.inventory import LINK, BadFile, Inventory
from store.upkeep.listing import ShardFolder, digest_of, is_file


@dataclass(frozen=True)
class Report:
    """What `verify` found.

    Attributes:
        bad: every bad file: first documents by name, then shards by row and array.
        shards, size: number and bytes of the committed shards that were looked at.
        inventory: the documents as they were then.
    """

    bad: list[BadFile]
    shards: int
    size: int
    inventory: Inventory


def verify(path: Path, *, deep: bool = False, threads: int = 8, progress: Progress | None = None) -> Report:
    """Check the store in directory `path`, however damaged it is. Files that do not belong to it are passed over.

    Args:
        path: of a store on this machine.
        deep: read every byte and compare digests; else documents and sizes only.
        threads: files checked at once.
        progress: hears of the committed bytes that were looked at.

    Raises:
        StoreNotFoundError: there is no `recipe.json`.
        FormatError: the store is of another version of the format.
    """
    inventory = Inventory(path, every_commit=deep)
    sizes = {array: inventory.committed.sizes(array) for array in inventory.names}
    shards = sum(int((size > 0).sum()) for size in sizes.values())
    total = sum(int(size.sum()) for size in sizes.values())
    bad = [*inventory.bad, *_created(inventory, deep)]
    if deep:
        bad += table_problems(inventory)
    progress = progress or Silent()
    progress.start(total)
    with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:
        for looked in pool.map(partial(_sizes, inventory), sizes):
            bad += looked.bad
            size = sizes[looked.array]
            progress.advance(int(size.sum() - size[looked.whole].sum() if deep else size.sum()))
            if not deep:
                continue
            for row, problem in in_order(pool, partial(_digest, inventory, looked), looked.whole, 4 * threads):
                progress.advance(int(size[row]))
                bad += problem
    return Report(sorted(bad), shards, total, inventory)


@dataclass(frozen=True)
class _Looked:
    """One array: its shards that are missing or of the wrong size, and the rows of all others."""

    array: str
    folder: ShardFolder | None
    bad: list[BadFile]
    whole: list[int]


def _sizes(inventory: Inventory, array: str) -> _Looked:
    info = inventory.arrays.get(array)
    place = f"{GROUP}/{array}"
    try:
        folder = ShardFolder(inventory.path / place, len(info.shape) if info else None)
    except OSError as error:
        problem, _ = _unreadable(error)
        return _Looked(array, None, [BadFile(-1, "", place, problem, False)], [])
    committed = inventory.committed.sizes(array)
    bad, whole = [], []
    for row in np.flatnonzero(committed).tolist():
        state = folder.files.get(row)
        if state is None:
            problem = "missing"
        elif not is_file(state):
            problem = "is a link, a folder or a device, not a file"
        elif state.st_size != committed[row]:
            problem = f"has {state.st_size} bytes, committed were {committed[row]}"
        else:
            whole.append(row)
            continue
        bad.append(BadFile(row, array, f"{place}/{folder.path(row).name}", problem))
    return _Looked(array, folder, bad, whole)


def _digest(inventory: Inventory, looked: _Looked, row: int) -> tuple[int, list[BadFile]]:
    """The row, and what is wrong with its shard if anything."""
    assert looked.folder is not None
    path = looked.folder.path(row)
    problem, damaged = None, True
    try:
        record = inventory.committed.record(row, looked.array)
        digest = digest_of(path)
        if record is not None and digest != record.xxh3_128:
            problem = "its content differs from what was committed"
            if any(row == commit.row and _says(commit, looked.array, digest) for commit in inventory.commits.values()):
                problem = "holds what an earlier commit says, not the last one: two copies were mixed"
    except OSError as error:
        problem, damaged = _unreadable(error)
    except FormatError as error:
        problem, damaged = f"its record cannot be used: {error}", False
    bad = [BadFile(row, looked.array, f"{GROUP}/{looked.array}/{path.name}", problem, damaged)] if problem else []
    return row, bad


def _says(commit: Commit, array: str, digest: str) -> bool:
    record = commit.arrays.get(array)
    return record is not None and record.xxh3_128 == digest


def _created(inventory: Inventory, deep: bool) -> Iterator[BadFile]:
    """Files of the store's creation that are missing or, if deep, changed."""
    for name, digest in (inventory.head.files if inventory.head else {}).items():
        if name in (CLIPS, GROUP_FILE):  # looked at already
            continue
        problem, damaged = None, True
        try:
            if (inventory.path / name).is_symlink():
                problem = LINK
            elif deep and digest_of(inventory.path / name) != digest:
                problem = "its content differs from what was written when the store was made"
            elif not (inventory.path / name).is_file():
                problem = "missing"
        except OSError as error:
            problem, damaged = _unreadable(error)
        if problem:
            yield BadFile(-1, "", name, problem, damaged)


def table_problems(inventory: Inventory) -> list[BadFile]:
    """The manifest's table, if it does not say what the commits do that it was made of.

    Args:
        inventory: with every commit.
    """
    if inventory.merged is None:
        return []
    manifest = inventory.merged.manifest
    unread = {row_of(name) for name in set(manifest.commits).difference(inventory.commits)}
    said: dict[tuple[int, str], list[ShardRecord]] = {}
    for name in manifest.commits:
        if row_of(name) not in unread:
            commit = inventory.commits[name]
            for array, record in commit.arrays.items():
                said.setdefault((commit.row, array), []).append(record)
    table = Committed(manifest.clips, inventory.merged, [])
    tabled = {(row, array) for array in manifest.arrays for row in np.flatnonzero(table.mask(array)).tolist()}
    wrong = {(row, array) for row, array in tabled - said.keys() if row not in unread}
    wrong |= {(row, array) for (row, array), records in said.items() if table.record(row, array) not in records}
    if not wrong:
        return []
    row, array = min(wrong)
    problem = f"differs from the commits that it was made of, in {len(wrong)} records (one is {array} of row {row})"
    return [BadFile(-1, "", manifest.table.file, problem)]


def _unreadable(error: OSError) -> tuple[str, bool]:
    """What to say of a file that cannot be read, and whether that means that it is damaged."""
    if isinstance(error, FileNotFoundError):
        return "missing", True
    return f"cannot be read ({error.strerror})", error.errno == errno.EIO
