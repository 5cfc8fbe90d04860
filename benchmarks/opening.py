"""Opening a large store: 140 arrays of 5000 clips, all committed, as after a sweep over layers and noise levels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.material import empty_store, table, tap
from benchmarks.measure import milliseconds, times
from store import FeatureStore, finalize
from store.committed import Committed
from store.records import ShardRecord

ARRAYS, CLIPS = 140, 5000


def opening(folder: Path, rounds: int) -> dict[str, float]:
    """Milliseconds to open, and to learn which clips are committed for one tap.

    The records are made up: no shard is written, since none is opened.
    """
    path = folder / "opening" / "noise"
    names = [f"blocks.{k}@t{t}" for k in range(ARRAYS // 5) for t in (100, 300, 500, 700, 900)]
    empty_store(path, CLIPS, [tap((20, 16, 28, 1536), name) for name in names])
    store = FeatureStore.open(path)
    record = ShardRecord(size=27525124, xxh3_128="0" * 32, minimum=-1, maximum=1, mean=0, std=1)
    store.committed = _Everything(CLIPS, dict.fromkeys(names, record))
    store.commits = [f"{clip.row:06d}-{'0' * 12}.json" for clip in table(CLIPS)]
    finalize(store)
    for name in store.commits:
        (path / "commits" / name).touch()
    taken = times(
        {
            "open": lambda: FeatureStore.open(path),
            "rows": lambda: FeatureStore.open(path).rows("train", [names[0]]),
        },
        rounds,
    )
    return {"open_ms": milliseconds(taken, "open"), "open_and_rows_ms": milliseconds(taken, "rows")}


class _Everything(Committed):
    """All clips of all arrays, with the same records for each."""

    def __init__(self, clips: int, records: dict[str, ShardRecord]) -> None:
        super().__init__(clips, None, [])
        self._records = records

    def __getitem__(self, row: int) -> Mapping[str, ShardRecord]:
        return self._records

    def __iter__(self) -> Iterator[int]:
        return iter(range(CLIPS))
