"""Un-committing what is damaged, so that the next extraction computes exactly that again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from store.arrays import SCALE
from store.clips import CLIPS
from store.commits import COMMITS, NAME_PATTERN, Commit, row_of, write_commit
from store.errors import StoreError
from store.files import raise_for, sync_directory
from store.head import RECIPE
from store.upkeep.inventory import Inventory
from store.upkeep.verify import Report

Shards = Mapping[tuple[int, str], str]
"""(row, array) -> name of the file."""


@dataclass(frozen=True)
class Dropped:
    """What `drop` took back: shards that are no longer committed, their clips, and damaged commits."""

    clips: int
    shards: int
    commits: int


def drop(report: Report) -> Dropped:
    """Un-commit every damaged shard and delete it, delete every damaged commit, and leave all else as it is.

    Arrays of the same clip that are sound stay committed. Wherever this is cut off, no sound shard is lost, and what is
    left to do is found by the next `verify`. Run it while nothing writes into the store.

    Args:
        report: of `verify`, just made.

    Raises:
        StoreError: the recipe or the clip table is damaged, or a file cannot be deleted.
    """
    inventory = Inventory(report.inventory.path, every_commit=True)
    if inventory.is_bad(RECIPE, CLIPS):
        raise StoreError(
            f"{inventory.path}: nothing was dropped: {RECIPE} or {CLIPS} is damaged, and without them the rest cannot "
            "be judged. Restore them from a copy of the store first."
        )
    shards = _damaged_shards(report, inventory)
    damaged = [PurePosixPath(bad.name).name for bad in inventory.bad if bad.damaged and _is_commit(bad.name)]
    affected = [name for name, commit in inventory.commits.items() if _touches(commit, shards)]
    # The files first: from the moment that they are un-committed, another process may put new ones in their place.
    _delete(inventory.path, shards.values())
    merged = set(inventory.merged.manifest.commits if inventory.merged else ())
    _commit_the_rest(inventory, {row_of(name) for name in [*affected, *merged.intersection(damaged)]}, shards)
    # A commit that is gone from its folder also counts no more in the manifest.
    _delete(inventory.path, [f"{COMMITS}/{name}" for name in [*damaged, *affected]])
    return Dropped(len({row for row, _ in shards}), len(shards), len(damaged))


def _is_commit(name: str) -> bool:
    path = PurePosixPath(name)
    return path.parent.name == COMMITS and re.fullmatch(NAME_PATTERN, path.name) is not None


def _touches(commit: Commit, shards: Shards) -> bool:
    return any((commit.row, array) in shards for array in commit.arrays)


def _damaged_shards(report: Report, inventory: Inventory) -> Shards:
    shards: dict[tuple[int, str], str] = {}
    for bad in report.bad:
        if bad.row < 0 or not bad.damaged:
            continue
        record = inventory.committed.record(bad.row, bad.array)
        if record is None or record != report.inventory.committed.record(bad.row, bad.array):
            continue  # another process was here since
        # int8 values are worth nothing without the very scale that they were divided by.
        together = {bad.array, bad.array.removesuffix(SCALE)}
        infos = [inventory.arrays.get(array) for array in together if inventory.committed.record(bad.row, array)]
        if all(infos):  # without its metadata, an array cannot be refilled, and may be on a drive that is not there
            shards |= {(bad.row, info.name): info.shard(bad.row) for info in infos if info}
    return shards


def _commit_the_rest(inventory: Inventory, rows: Iterable[int], shards: Shards) -> None:
    """One new commit for each row, of all its shards but the dropped ones."""
    assert inventory.clips is not None
    for row in sorted(rows):
        clip = inventory.clips[row]
        held = inventory.committed.get(row, {})
        records = {array: record for array, record in held.items() if (row, array) not in shards}
        if records:
            metadata = {array: min(inventory.metadata[array]) for array in records}
            write_commit(inventory.folder, row, clip.id, len(clip.bank), records, metadata)


def _delete(store: Path, names: Iterable[str]) -> None:
    folders = set()
    for name in names:
        path = store / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise_for(error, path)
        folders.add(path.parent)
    for folder in folders:
        if folder.is_dir():
            sync_directory(folder)
