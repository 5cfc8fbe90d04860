"""What killed writers left behind, and what nothing refers to any more.

Age is all that tells what a killed writer left from what a living one is about to commit, so nothing young is touched.
A shard without a commit may be in flight; it is also what the next extraction commits without writing it again.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from store.arrays import GROUP
from store.feature_store import FeatureStore
from store.files import raise_for
from store.folder import LocalFolder
from store.upkeep.listing import ShardFolder

DAY = 86400.0
PARTIAL_FILE, DRAFT, SHARD, TABLE = "partial", "draft", "uncommitted", "old table"
_PARTIAL = re.compile(r".+\.[0-9a-f]{12,32}\.partial")
"""Ours are `.NAME.<12 digits>.partial`, those of zarr-python `NAME.<32 digits>.partial`."""


@dataclass(frozen=True)
class Garbage:
    """A file or folder that is not needed.

    Attributes:
        path: where it is.
        kind: one of `PARTIAL_FILE`, `DRAFT`, `SHARD`, `TABLE`.
        size: bytes that deleting it frees.
        changed: seconds since the epoch, when it or anything in it was last written to or moved here.
    """

    path: Path
    kind: str
    size: int
    changed: float


def garbage(store: Path, older_than: float = DAY) -> list[Garbage]:
    """What is not needed in the directory of a store.

    Args:
        store: its directory.
        older_than: seconds for which something must not have changed.

    Raises:
        StoreError: the store cannot be opened, so nobody knows which of its shards are committed.
    """
    opened = FeatureStore(LocalFolder(store))
    found = [*_partial(store), *_tables(opened), *_shards(opened)]
    return sorted(_old(found, older_than), key=lambda each: each.path)


def drafts(folder: Path, older_than: float = DAY, name: str | None = None) -> list[Garbage]:
    """Drafts of stores, left by whoever was killed while it made one, directly inside a folder.

    Args:
        folder: of a model, or the root.
        older_than: seconds for which nothing in a draft must have changed.
        name: only drafts of the store that would have this name.
    """
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        is_draft = path.name[0] == "." and _PARTIAL.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
        if is_draft and name in (None, path.name[1:].rsplit(".", 2)[0]):
            found.append(_weigh(path, DRAFT))
    return _old(found, older_than)


def delete(found: Iterable[Garbage]) -> list[Garbage]:
    """Delete what `garbage` and `drafts` found, unless it has changed since. Returns what is gone.

    Raises:
        StoreError: something cannot be deleted. What was deleted before stays deleted.
    """
    gone = []
    shards: dict[Path, set[Path]] = {}
    for each in found:
        if each.kind == SHARD:
            store = each.path.parents[2]
            # Looked at again: someone may have committed such a shard instead of writing it anew.
            if store not in shards:
                shards[store] = {shard.path for shard in _shards(FeatureStore(LocalFolder(store)))}
            if each.path not in shards[store]:
                continue
        try:
            if _weigh(each.path, each.kind).changed != each.changed:
                continue
            if each.kind == DRAFT or each.path.is_dir():
                shutil.rmtree(each.path)
            else:
                each.path.unlink()
        except FileNotFoundError:  # its writer came back, or another run was here
            continue
        except OSError as error:
            raise_for(error, each.path)
        gone.append(each)
    return gone


def _old(found: Iterable[Garbage], older_than: float) -> list[Garbage]:
    limit = time.time() - older_than
    return [each for each in found if each.changed <= limit]


def _partial(store: Path) -> Iterator[Garbage]:
    for folder, folders, files in os.walk(store):
        for name in [name for name in folders if _PARTIAL.fullmatch(name)]:
            folders.remove(name)
            yield from _weighed(Path(folder, name), PARTIAL_FILE)
        for name in files:
            if _PARTIAL.fullmatch(name):
                yield from _weighed(Path(folder, name), PARTIAL_FILE)


def _tables(store: FeatureStore) -> Iterator[Garbage]:
    current = store.manifest.table.file if store.manifest else None
    for path in store.path.glob("manifest-*.table"):
        if path.name != current:
            yield from _weighed(path, TABLE)


def _shards(store: FeatureStore) -> Iterator[Garbage]:
    for name, info in store.arrays.items():
        folder = ShardFolder(store.path / GROUP / name, len(info.shape))
        held = store.committed.mask(name)
        for row, state in sorted(folder.files.items()):
            if row < len(held) and not held[row]:
                yield Garbage(folder.path(row), SHARD, state.st_size, _changed(state))


def _weighed(path: Path, kind: str) -> Iterator[Garbage]:
    """Nothing, if it is gone: its writer is alive, and finished it."""
    with suppress(FileNotFoundError):
        yield _weigh(path, kind)


def _weigh(path: Path, kind: str) -> Garbage:
    """A file, or a folder with all that is in it."""
    state = path.lstat()
    if not stat.S_ISDIR(state.st_mode):
        # A draft that was published and not removed is one file with the shard: deleting it frees nothing.
        return Garbage(path, kind, state.st_size if state.st_nlink == 1 else 0, _changed(state))
    inside = [each for child in path.iterdir() for each in _weighed(child, kind)]
    size, changed = sum(each.size for each in inside), max((each.changed for each in inside), default=0.0)
    return Garbage(path, kind, size, max(changed, _changed(state)))


def _changed(state: os.stat_result) -> float:
    # A copy may keep the times of its original; when it came here is told by the time of its inode.
    return max(state.st_mtime, state.st_ctime)
