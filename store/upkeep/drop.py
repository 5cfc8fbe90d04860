"""Un-committing what is damaged, so that the next extraction computes exactly that again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from store.arrays import GROUP, SCALE
from store.clips import CLIPS
from store.commits import COMMITS, NAME_PATTERN, Commit, row_of, write_commit
from store.errors import FormatError, StoreError
from store.files import raise_for, sync_directory
from store.head import RECIPE
from store.metadata import ZARR_JSON
from store.records import ShardRecord
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
        FormatError: of what stays committed, commits name different metadata.
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
    merged = set(inventory.merged.manifest.commits if inventory.merged else ())
    rest = _rest(inventory, {row_of(name) for name in [*affected, *merged.intersection(damaged)]}, shards)
    metadata = {array: _metadata(inventory, array) for array in sorted(set().union(*rest.values()))}
    # The files first: from the moment that they are un-committed, another process may put new ones in their place.
    _delete(inventory.path, shards.values())
    _commit_the_rest(inventory, rest, metadata)
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


def _rest(inventory: Inventory, rows: Iterable[int], shards: Shards) -> dict[int, dict[str, ShardRecord]]:
    """Row -> array -> record of all its shards but the dropped ones."""
    return {
        row: {array: record for array, record in inventory.committed.get(row, {}).items() if (row, array) not in shards}
        for row in sorted(rows)
    }


def _metadata(inventory: Inventory, array: str) -> str:
    """The digest of the `zarr.json` under which an array was committed, on which all must agree."""
    digests = sorted(inventory.metadata[array])
    if len(digests) > 1:
        raise FormatError(
            f"{inventory.path}/{GROUP}/{array}/{ZARR_JSON}: nothing was dropped: commits name different ones "
            f"({', '.join(digests)}), so two stores were mixed here. Take the commits of the other one out of "
            f"{COMMITS}/, which name another than is there, then run the same command again."
        )
    return digests[0]


def _commit_the_rest(
    inventory: Inventory, rest: Mapping[int, Mapping[str, ShardRecord]], metadata: Mapping[str, str]
) -> None:
    """One new commit for each row of which something stays."""
    assert inventory.clips is not None
    for row, records in rest.items():
        if records:
            clip, under = inventory.clips[row], {array: metadata[array] for array in records}
            write_commit(inventory.folder, row, clip.id, len(clip.bank), records, under)


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
