"""Opening a large store: 140 arrays of 5000 clips, all committed, as after a sweep over layers and noise levels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.material import empty_store, table, tap
from benchmarks.measure import milliseconds, times
from store import ArraySpec, FeatureStore, finalize
from store.committed import Committed
from store.records import ShardRecord

ARRAYS, CLIPS = 140, 5000
RECORD = ShardRecord(size=27525124, xxh3_128="0" * 32, minimum=-1, maximum=1, mean=0, std=1)


def opening(folder: Path, rounds: int) -> dict[str, float]:
    """Milliseconds to open, and to learn which clips are committed for one tap."""
    path = folder / "opening" / "noise"
    names = [f"blocks.{k}@t{t}" for k in range(ARRAYS // 5) for t in (100, 300, 500, 700, 900)]
    finalized(path, CLIPS, [tap((20, 16, 28, 1536), name) for name in names])
    taken = times(
        {
            "open": lambda: FeatureStore.open(path),
            "rows": lambda: FeatureStore.open(path).rows("train", [names[0]]),
        },
        rounds,
    )
    return {"open_ms": milliseconds(taken, "open"), "open_and_rows_ms": milliseconds(taken, "rows")}


def finalized(path: Path, clips: int, specs: Sequence[ArraySpec]) -> None:
    """A finalized store, of which all clips are committed.

    The records are made up, and commits are empty: no shard is written, since none is opened, and no commit is read.
    """
    empty_store(path, clips, specs)
    store = FeatureStore.open(path)
    store.committed = _Everything(clips, dict.fromkeys([spec.name for spec in specs], RECORD))
    store.commits = [f"{clip.row:06d}-{'0' * 12}.json" for clip in table(clips)]
    finalize(store)
    for name in store.commits:
        (path / "commits" / name).touch()


class _Everything(Committed):
    """All clips of all arrays, with the same records for each."""

    def __init__(self, clips: int, records: dict[str, ShardRecord]) -> None:
        super().__init__(clips, None, [])
        self._all, self._records = clips, records

    def __getitem__(self, row: int) -> Mapping[str, ShardRecord]:
        return self._records

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._all))
