"""What is committed: the manifest's table, read array by array as it is asked for, and the commits made since."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.clips import ClipRow
from store.commits import Commit
from store.errors import FormatError
from store.manifest import Merged, unpack
from store.records import ShardRecord


class Committed(Mapping[int, Mapping[str, ShardRecord]]):
    """row -> array -> record of the shard. Only rows with at least one commit are there.

    Args:
        n_clips: length of the clip table.
        merged: the manifest and its table, if there is one.
        commits: further commits, oldest first; a later one wins.
        taken_back: rows of which a merged commit is gone; for them the table counts for nothing.
    """

    def __init__(
        self, n_clips: int, merged: Merged | None, commits: Sequence[Commit], taken_back: Collection[int] = ()
    ) -> None:
        self._n_clips, self._merged, self._taken_back = n_clips, merged, sorted(taken_back)
        self._tables: dict[str, NDArray[Any]] = {}
        self._since: dict[int, dict[str, ShardRecord]] = {}
        for commit in commits:
            self._since.setdefault(commit.row, {}).update(commit.arrays)
        self._tabled = frozenset(merged.manifest.arrays if merged else ())
        self._arrays = self._tabled.union(*(commit.arrays for commit in commits))

    def record(self, row: int, array: str) -> ShardRecord | None:
        """The record of one shard, or `None` if nothing is committed."""
        since = self._since.get(row, {}).get(array)
        if since is not None or array not in self._tabled or not 0 <= row < self._n_clips:
            return since
        entry = self._table(array)[row]
        return unpack(entry, self._merged.where if self._merged else "") if entry["size"] else None

    def mask(self, array: str) -> NDArray[np.bool_]:
        """Which rows are committed for the array: (clip,)."""
        held = np.zeros(self._n_clips, bool)
        if array in self._tabled:
            held |= self._table(array)["size"] > 0
        for row, arrays in self._since.items():
            held[row] |= array in arrays
        return held

    def sizes(self, array: str) -> NDArray[np.uint64]:
        """Bytes of every shard of the array, 0 where nothing is committed: (clip,)."""
        sizes = np.zeros(self._n_clips, np.uint64)
        if array in self._tabled:
            sizes |= self._table(array)["size"]
        for row, arrays in self._since.items():
            if array in arrays:
                sizes[row] = arrays[array].size
        return sizes

    def __contains__(self, row: object) -> bool:
        return isinstance(row, int | np.integer) and any(self.record(int(row), array) for array in self._arrays)

    def __getitem__(self, row: int) -> Mapping[str, ShardRecord]:
        found = {name: record for name in sorted(self._arrays) if (record := self.record(row, name)) is not None}
        if not found:
            raise KeyError(row)
        return found

    def __iter__(self) -> Iterator[int]:
        held = np.zeros(self._n_clips, bool)
        for array in self._arrays:
            held |= self.mask(array)
        yield from np.flatnonzero(held).tolist()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _table(self, array: str) -> NDArray[Any]:
        if array not in self._tables:
            assert self._merged is not None
            table = self._merged.records(array)
            table["size"][self._taken_back] = 0
            self._tables[array] = table
        return self._tables[array]


def check_rows(clips: Sequence[ClipRow], where: str, taken_back: Collection[int], commits: Sequence[Commit]) -> None:
    """Raise `FormatError` if a commit is of a row that the clip table does not have, or of another clip."""
    wrong = sorted(row for row in {*taken_back, *(commit.row for commit in commits)} if row >= len(clips))
    if wrong:
        raise FormatError(f"{where}: commits name rows {wrong}, but the clip table has {len(clips)} clips.")
    for commit in commits:
        clip = clips[commit.row]
        if (commit.clip, commit.n_frames) != (clip.id, len(clip.bank)):
            raise FormatError(
                f"{where}: a commit of row {commit.row} is of clip {commit.clip!r} with {commit.n_frames} frames, but "
                f"the clip table has {clip.id!r} with {len(clip.bank)} there. Take out the commits of another store."
            )
        if unknown := commit.arrays.keys() - commit.metadata.keys():
            raise FormatError(
                f"{where}: a commit of row {commit.row} does not say under which metadata it wrote {sorted(unknown)}."
            )
