"""Features for people who bring a `DataLoader`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch.utils.data import Dataset, default_collate

from store.readable import Readable
from store.reading.batch import FeatureBatch
from store.reading.handle import StoreHandle
from store.reading.samples import clip_lengths
from store.reading.slot import Slot


class ReadTogether(list[FeatureBatch]):
    """Clips that were read into one batch: each a view of it, and the `batch` itself."""

    def __init__(self, batch: FeatureBatch) -> None:
        self.batch = batch
        super().__init__(
            FeatureBatch(
                row,
                batch.frames[i],
                {tap: values[i] for tap, values in batch.features.items()},
                {tap: scale[i] for tap, scale in batch.scales.items()},
            )
            for i, row in enumerate(batch.rows)
        )


class FeatureDataset(Dataset[FeatureBatch]):
    """One item per clip: its features in their storage type, without the axis `clip`.

    Works with any `DataLoader`, sampler, and start method of workers; pass `collate_fn=FeatureDataset.collate`, which
    hands on the batch that the clips were read into, where the default collation copies it once more.

    .. note::
        **For training, `FeatureLoader` is the better choice.** A `DataLoader` needs fresh memory for every batch, and
        worker processes need it in shared memory too; clearing those pages can take ten times as long as reading
        the features, so a loader with workers is often slower than one without. Use this where clips are mixed with
        other data, or where a transform in Python takes longer than reading.

    Args:
        features: the store.
        taps: names of feature arrays.
        rows, split: which clips; all of the store without both.
        frames: positions in the bank of every clip; all if `None`.
        verify: compare with the stored crc32c; `None` does so when this process first reads a frame.

    Attributes:
        rows: item -> row of the clip table.

    Raises:
        store.UnknownArrayError: the store has no such tap.
        store.MissingClipError: a row, or all of the split, is not committed for all taps.
        ValueError: both rows and split are given, or a row twice.
    """

    def __init__(
        self,
        features: Readable,
        taps: Sequence[str],
        *,
        rows: Sequence[int] | None = None,
        split: str | None = None,
        frames: Sequence[int] | None = None,
        verify: bool | None = None,
    ) -> None:
        self._lengths = clip_lengths(features, taps, rows, split)
        self.rows = list(self._lengths)
        self._taps, self._frames, self._verify = list(taps), None if frames is None else list(frames), verify
        self._handle = StoreHandle(features)

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.rows)

    def __getitem__(self, index: int) -> FeatureBatch:
        """One clip. Raises what `FeatureStore.read` raises; `RecipeMismatchError` if another store is there by now."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> ReadTogether:
        """Several clips with equally many frames, read into one batch. `DataLoader` calls this."""
        rows = [self.rows[index] for index in indices]
        request = [(row, range(self._lengths[row]) if self._frames is None else self._frames) for row in rows]
        features = self._handle.store
        arrays = [features.info(tap) for tap in self._taps]
        slot = Slot(arrays, len(request), max((len(frames) for _, frames in request), default=0))
        batch, reads = slot.lay_out(request)
        for unit in features.units(reads):
            features.fill(unit, self._verify)
        return ReadTogether(batch)

    @staticmethod
    def collate(clips: list[FeatureBatch]) -> FeatureBatch:
        """Clips as one batch, without a copy if they were read together."""
        return clips.batch if isinstance(clips, ReadTogether) else cast(FeatureBatch, default_collate(clips))
