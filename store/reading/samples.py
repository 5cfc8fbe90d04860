"""Which clips and frames each batch holds: a function of seed, epoch and row alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import xxhash

from store.errors import MissingClipError
from store.readable import Readable


class Sample(NamedTuple):
    """One clip of a batch, and which frames of its bank."""

    row: int
    frames: tuple[int, ...]


def clip_lengths(
    features: Readable, taps: Sequence[str], rows: Sequence[int] | None = None, split: str | None = None
) -> dict[int, int]:
    """Row -> number of bank frames: of `rows`, or of all clips (of a split) that are committed for all taps.

    Raises:
        MissingClipError: one of `rows`, or every clip of the split, is not committed for all taps.
        ValueError: both rows and a split are given, or a row twice.
    """
    if rows is not None and split is not None:
        raise ValueError("rows, split: give one of them")
    held = features.rows(split=split, arrays=taps)
    if rows is None:
        rows = held
    if missing := sorted(set(rows) - set(held)):
        raise MissingClipError(
            f"{features.name}: rows {missing[:10]} ({len(missing)} in all) are not committed for {', '.join(taps)}. "
            "Finish the store with `python -m extract`."
        )
    lengths = {row: len(features.clips[row].bank) for row in rows}
    if len(lengths) < len(rows):
        raise ValueError(f"rows: {len(rows) - len(lengths)} are given more than once. Give each once.")
    return lengths


class Sampler:
    """The batches of one rank, epoch after epoch.

    Random order: rows are sorted by a hash of (seed, epoch, row). Random views: the frames whose hashes of (seed,
    epoch, row, frame) are smallest, in the order of time. So a clip shows the same views whatever else is read, and
    neither a version of NumPy nor the number of workers changes anything.

    Every epoch shows every clip exactly once over all ranks. All ranks have equally many batches, as few as possible,
    and the sizes of batches differ by at most one clip: 10 clips in batches of 4 are batches of 3, 3 and 4. With
    `drop_last` all batches are full, and the up to `batch * world_size - 1` clips that are left over, others in each
    epoch, are not shown.

    Args:
        lengths: row -> number of frames of its bank.
        batch: most clips of a batch.
        frames: positions in the bank; all if `None`.
        views: this many random frames of each clip instead.
        shuffle: a new random order in every epoch; otherwise that of `lengths`.
        seed: of order and views.
        rank, world_size: this process, and how many there are.
        drop_last: full batches only.

    Attributes:
        epoch: whose batches come next; see `set_epoch`.

    Raises:
        ValueError: an argument makes no sense, or the clips do not suffice for all ranks.
    """

    def __init__(
        self,
        lengths: Mapping[int, int],
        *,
        batch: int = 4,
        frames: Sequence[int] | None = None,
        views: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        if batch < 1:
            raise ValueError(f"batch: must be at least 1, got {batch}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank: must be from 0 to world_size - 1 = {world_size - 1}, got {rank}")
        self._lengths, self._frames = dict(lengths), None if frames is None else tuple(frames)
        self._batch, self._views, self._shuffle, self._seed = batch, views, shuffle, seed
        self._rank, self._world_size, self._drop_last = rank, world_size, drop_last
        self.epoch = 0
        _check_frames(self._lengths, self._frames, views, batch)
        self._batches = self._count()

    @property
    def most_frames(self) -> int:
        """Most frames of a clip in any batch."""
        if self._frames is not None:
            return len(self._frames)
        return self._views or max(self._lengths.values())

    @property
    def settings(self) -> dict[str, Any]:
        """All that the batches of an epoch depend on but the rank, as JSON; the clips as a digest."""
        return {
            "clips": xxhash.xxh3_128_hexdigest(repr(list(self._lengths.items())).encode()),
            "batch": self._batch,
            "frames": None if self._frames is None else list(self._frames),
            "views": self._views,
            "shuffle": self._shuffle,
            "seed": self._seed,
            "world_size": self._world_size,
            "drop_last": self._drop_last,
        }

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch. Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of an epoch, the same for all ranks."""
        return self._batches

    def __iter__(self) -> Iterator[list[Sample]]:
        return self.batches()

    def batches(self, start: int = 0) -> Iterator[list[Sample]]:
        """The batches of the present epoch from number `start` on."""
        epoch, order = self.epoch, self._order(self.epoch)
        return (
            [Sample(row, self._choose(epoch, row)) for row in self._rows(order, i)] for i in range(start, len(self))
        )

    def _count(self) -> int:
        clips, full = len(self._lengths), self._batch * self._world_size
        count = clips // full if self._drop_last else -(-clips // full)
        if count == 0:
            raise ValueError(
                f"drop_last: {clips} clips do not fill a batch of {self._batch} on {self._world_size} ranks"
            )
        if not self._drop_last and clips < count * self._world_size:
            raise ValueError(
                f"{clips} clips in batches of {self._batch} cannot be dealt to {self._world_size} ranks such that each "
                f"has {count} batches. Use drop_last=True, or a batch of at least 2 and no more ranks than clips."
            )
        return count

    def _rows(self, order: Sequence[int], index: int) -> Sequence[int]:
        number = index * self._world_size + self._rank
        if self._drop_last:
            return order[number * self._batch : (number + 1) * self._batch]
        total = self._batches * self._world_size
        return order[number * len(order) // total : (number + 1) * len(order) // total]

    def _order(self, epoch: int) -> list[int]:
        rows = list(self._lengths)
        return sorted(rows, key=lambda row: (self._hash("order", epoch, row), row)) if self._shuffle else rows

    def _choose(self, epoch: int, row: int) -> tuple[int, ...]:
        if self._frames is not None:
            return self._frames
        frames = range(self._lengths[row])
        if self._views is None:
            return tuple(frames)
        drawn = sorted(frames, key=lambda frame: (self._hash("view", epoch, row, frame), frame))
        return tuple(sorted(drawn[: self._views]))

    def _hash(self, *key: int | str) -> int:
        return xxhash.xxh3_64_intdigest(repr((self._seed, *key)).encode())


def _check_frames(lengths: Mapping[int, int], frames: tuple[int, ...] | None, views: int | None, batch: int) -> None:
    if not lengths:
        raise ValueError("there is no clip to read")
    shortest, longest = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
    fewest = lengths[shortest]
    if frames is not None and views is not None:
        raise ValueError("frames, views: give one of them")
    if frames is not None and not (frames and all(0 <= frame < fewest for frame in frames)):
        raise ValueError(f"frames: must be from 0 to {fewest - 1} (row {shortest} has {fewest}), got {list(frames)}")
    if views is not None and not 1 <= views <= fewest:
        raise ValueError(f"views: must be from 1 to {fewest} (row {shortest} has {fewest} frames), got {views}")
    if frames is None and views is None and batch > 1 and fewest != lengths[longest]:
        raise ValueError(
            f"row {shortest} has {fewest} frames and row {longest} has {lengths[longest]}, which cannot be in one "
            "batch. Choose frames or views, or batch=1."
        )
