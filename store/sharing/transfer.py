"""Moving a store, or a part of it: one engine for copy, push and pull.

A part of a store is the same store with fewer arrays and fewer commits: same recipe, same clip table, same fingerprint.
It is completed by another copy, or by the extraction that would have made it.

Every shard is compared with its committed digest before any byte of it is written, and a clip appears at the
destination by its commit. So a copy may be stopped at any moment; run again, it goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from store.errors import CorruptShardError, FormatError, StoreError
from store.feature_store import FeatureStore
from store.folder import LocalFolder
from store.progress import Progress, Silent, in_order
from store.records import ShardRecord
from store.sharing.destination import Destination, Late, LocalDestination, check_apart
from store.sharing.fetch import Fetcher
from store.sharing.selection import Selection, chosen_arrays, chosen_rows
from store.sharing.skeleton import array_file, check_same_store, skeleton

_MEMORY = 2 << 30
"""Bytes of shards that may be held at once."""
_LOCAL_THREADS, _REMOTE_THREADS = 4, 8


@dataclass
class Transferred:
    """What a transfer did.

    Attributes:
        clips: number of clips that were asked for and are committed at the source.
        arrays: names of the arrays, scales included.
        shards, bytes: copied now.
        shards_there, bytes_there: that the destination had already.
        kept: shards of which the destination has other values of the same recipe; those stay.
        failed: (clip, array, problem) that could not be copied.
    """

    clips: int
    arrays: list[str]
    shards: int = 0
    bytes: int = 0
    shards_there: int = 0
    bytes_there: int = 0
    kept: int = 0
    failed: list[tuple[str, str, str]] = field(default_factory=list)


def transfer(
    source: FeatureStore,
    target: Destination,
    selection: Selection | None = None,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Transferred:
    """Copy a store, or a part of it, and write the manifest of what is then there.

    Args:
        source: the store, here or elsewhere.
        target: where to; nothing, or a part of the same store.
        selection: which part; all of it by default.
        threads: shards that are moved at once. Fewer, if they would take more than 2 GiB of memory.
        progress: hears how far it is.

    Raises:
        RecipeMismatchError: another store is at the destination; names the fields that differ.
        UnknownArrayError, MissingClipError: the selection names what the source does not have.
        FormatError: something is in the way, or metadata is damaged.
        StoreError: the source cannot be listed and has no manifest, a disk is full, a network fails.
    """
    selection, progress = selection or Selection(), progress or Silent()
    check_apart(source.folder, target)
    if source.manifest is None and source.folder.names("commits") is None:
        raise StoreError(
            f"{source.folder.url}: has no manifest.json, and a web server does not say which clips are there. Whoever "
            "shares it must run `python -m store finalize STORE` first."
        )
    names = chosen_arrays(source, selection)
    rows = chosen_rows(source, selection, names)
    units = [(name,) if (scale := source.info(name).scale) is None else (scale, name) for name in names]
    arrays = [name for unit in units for name in unit]
    there = _prepare(source, target, arrays)
    sizes = np.stack([source.committed.sizes(name)[rows] for name in arrays])
    held = np.stack([there.committed.mask(name)[rows] for name in arrays])
    target.make_room(int(sizes[~held].sum()))
    progress.start(int(sizes.sum()))
    local = isinstance(source.folder, LocalFolder) and isinstance(target, LocalDestination)
    threads = threads or (_LOCAL_THREADS if local else _REMOTE_THREADS)
    work = _Work(source, target, there, units, progress, Transferred(len(rows), arrays))
    work.run(rows, max(1, min(threads, _MEMORY // int(sizes.max()))))
    work.correct(target.finish(there))
    return work.done


def _prepare(source: FeatureStore, target: Destination, arrays: Sequence[str]) -> FeatureStore:
    """The store at the destination, which has the arrays, made if there is none."""
    there = target.existing()
    if there is None:
        files = skeleton(source)
        recipe = files.popitem()
        for name in arrays:
            files |= array_file(source, name)
        target.begin(dict([*files.items(), recipe]))
    else:
        check_same_store(source, there)
        missing = [name for name in arrays if name not in there.arrays]
        if not missing:
            return there
        target.add({file: content for name in missing for file, content in array_file(source, name).items()})
    there = target.existing()
    if there is None or not there.arrays.keys() >= set(arrays):
        raise StoreError(f"{target.url}: was changed by others while it was made. Run the same command again.")
    check_same_store(source, there)
    return there


class _Work:
    """One transfer, shared by its threads."""

    def __init__(
        self,
        source: FeatureStore,
        target: Destination,
        there: FeatureStore,
        units: Sequence[tuple[str, ...]],
        progress: Progress,
        done: Transferred,
    ) -> None:
        self._source, self._target, self._there = source, target, there
        self._units, self._progress, self.done = units, progress, done
        self._fetcher = Fetcher(source)
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def run(self, rows: Sequence[int], threads: int) -> None:
        """Move the clips. There are two pools, so that shards go on while a clip waits for its last one."""
        shards = ThreadPoolExecutor(threads, thread_name_prefix="shards")
        clips = ThreadPoolExecutor(threads, thread_name_prefix="clips")
        try:
            for _ in in_order(clips, lambda row: self._clip(row, shards), rows, 2 * threads):
                pass
        finally:
            self._stopped.set()
            clips.shutdown(cancel_futures=True)
            shards.shutdown(cancel_futures=True)

    def correct(self, late: Sequence[Late]) -> None:
        """Count what was taken for copied, and was not."""
        for clip, array, shards, size, problem in late:
            self._count(shards=-shards, bytes=-size, kept=0 if problem else shards)
            if problem:
                self.done.failed.append((clip, array, problem))

    def _clip(self, row: int, shards: ThreadPoolExecutor) -> None:
        """Move what the destination lacks of a clip, and commit what arrived."""
        arriving = [shards.submit(self._unit, row, unit) for unit in self._units]
        records: dict[str, ShardRecord] = {}
        for future in arriving:
            records |= future.result()
        if records:
            self._target.commit(self._source.clips[row], records, self._there.arrays)

    def _unit(self, row: int, unit: tuple[str, ...]) -> dict[str, ShardRecord]:
        """Move what must come from one writer: an array, behind the scales that its values are multiples of."""
        if self._stopped.is_set():
            return {}
        committed = self._source.committed
        records = {name: record for name in unit if (record := committed.record(row, name)) is not None}
        size = sum(record.size for record in records.values())
        try:
            if len(records) < len(unit) or self._is_there(row, records, size):
                return {}
            for name, record in records.items():
                content = self._fetcher.fetch(name, row, record)
                if not self._target.put(self._there.arrays[name].shard(row), content, self._fetcher.path(name, row)):
                    return self._settle(row, unit, records)
            self._count(shards=len(unit), bytes=size)
            return records
        except (CorruptShardError, FormatError) as error:
            with self._lock:
                self.done.failed.append((self._source.clips[row].id, unit[-1], str(error)))
            return {}
        finally:
            self._progress.advance(size)

    def _is_there(self, row: int, records: dict[str, ShardRecord], size: int) -> bool:
        theirs = {name: self._there.committed.record(row, name) for name in records}
        if not all(theirs.values()):
            return False
        if all(record.xxh3_128 == records[name].xxh3_128 for name, record in theirs.items() if record):
            self._count(shards_there=len(records), bytes_there=size)
        else:
            self._count(kept=len(records))
        return True

    def _settle(self, row: int, unit: tuple[str, ...], records: Mapping[str, ShardRecord]) -> dict[str, ShardRecord]:
        """Another writer has published a shard and not committed it: it is about to, or it was stopped.

        What is there stays if it is whole, and is committed.
        """
        arrays = [self._there.arrays[name] for name in unit]
        found, kept = self._target.settle(
            self._source.clips[row],
            arrays,
            records,
            self._source,
            lambda name: self._fetcher.fetch(name, row, records[name]),
        )
        if kept:
            self._count(kept=len(records))
        else:
            self._count(shards=len(records), bytes=sum(record.size for record in records.values()))
        return dict(found)

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, number in more.items():
                setattr(self.done, name, getattr(self.done, name) + number)
