"""Epochs of features for training: shuffled, sharded over ranks, resumable, at the speed of memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import torch

from store.readable import Readable
from store.reading.batch import FeatureBatch
from store.reading.ring import SLOTS, THREADS, Ring
from store.reading.samples import Sampler, clip_lengths


class FeatureLoader:
    """Iterate over batches of a store, one epoch per `for`.

    .. warning::
        **On the CPU a batch is a view of the loader's memory and valid only until the next one is asked for.** What is
        to be kept must be `batch.clone()`. With `device="cuda"`, batches are copies there and stay valid. See `Ring`.

    It stands where a `DataLoader` would, also in Lightning, but needs no worker processes. Rank and epoch, which
    Lightning gives to real DataLoaders only, it finds by itself: the rank in `torch.distributed`, and the epoch by
    counting. Which clips and frames a batch holds depends on the arguments and the epoch alone; see `Sampler`.

    Args:
        features: the store.
        taps: names of feature arrays.
        rows: clips to read, each once; or else
        split: all clips of a split that are committed for all taps. Without both, all clips of the store.
        frames: positions in the bank of every clip; all if `None`.
        views: this many random frames of each clip in each epoch instead, in the order of time.
        batch: most clips of a batch.
        shuffle, seed, drop_last: see `Sampler`.
        rank, world_size: of this process; `None` means those of `torch.distributed` if it is initialised, else 0 of 1.
        slots, threads, pin, device, verify: see `Ring`.

    Attributes:
        sampler: which clips and frames each batch holds; has `epoch` and `set_epoch`.
        rows: rows of all ranks.

    Raises:
        store.UnknownArrayError: the store has no such tap.
        store.MissingClipError: a row, or all of the split, is not committed for all taps.
        ValueError: an argument makes no sense.
    """

    def __init__(
        self,
        features: Readable,
        taps: Sequence[str],
        *,
        rows: Sequence[int] | None = None,
        split: str | None = None,
        frames: Sequence[int] | None = None,
        views: int | None = None,
        batch: int = 4,
        shuffle: bool = True,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
        slots: int = SLOTS,
        threads: int = THREADS,
        pin: bool | None = None,
        device: torch.device | str | None = None,
        verify: bool | None = None,
    ) -> None:
        lengths = clip_lengths(features, taps, rows, split)
        here, ranks = _place_in_world()
        self.rows = list(lengths)
        self.sampler = Sampler(
            lengths,
            batch=batch,
            frames=frames,
            views=views,
            shuffle=shuffle,
            seed=seed,
            rank=here if rank is None else rank,
            world_size=ranks if world_size is None else world_size,
            drop_last=drop_last,
        )
        self._ring = Ring(
            features,
            taps,
            clips=min(batch, len(lengths)),
            frames=self.sampler.most_frames,
            slots=slots,
            threads=threads,
            pin=pin,
            device=device,
            verify=verify,
        )
        self._settings = {"fingerprint": features.fingerprint, **self.sampler.settings}
        self._at = (0, 0)
        self._resuming = False

    @property
    def nbytes(self) -> int:
        """Bytes of memory that batches are read into."""
        return self._ring.nbytes

    def __len__(self) -> int:
        """Batches of an epoch, the same on all ranks. An epoch that is resumed has fewer left."""
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration shows. Otherwise each full iteration moves to the next one."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[FeatureBatch]:
        """The batches of the present epoch: from the first one on, or once from where `load_state_dict` says."""
        epoch = self.sampler.epoch
        start = self._at[1] if self._resuming and self._at[0] == epoch else 0
        self._resuming, self._at = False, (epoch, start)
        with closing(self._ring.read(self.sampler.batches(start))) as batches:
            for number, batch in enumerate(batches, start + 1):
                self._at = (epoch, number)
                yield batch
        if self.sampler.epoch == epoch:
            self.sampler.set_epoch(epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration is, as JSON.

        `epoch`, `batch` = how many of its batches were handed out, and the `settings` that the loader must have for
        them to mean anything. It is the same on all ranks, so one rank's state serves all.
        """
        epoch, batch = self._at if self._at[0] == self.sampler.epoch else (self.sampler.epoch, 0)
        if batch == len(self):
            epoch, batch = epoch + 1, 0
        return {"epoch": epoch, "batch": batch, "settings": dict(self._settings)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration show exactly the batches that were left.

        Raises:
            ValueError: the state is of a loader of other features, clips, frames, seed, batch or number of ranks.
        """
        there, here = state["settings"], self._settings
        changed = [name for name, value in here.items() if there.get(name) != value]
        if changed:
            listing = ", ".join(f"{name}: {there.get(name)!r} there, {here[name]!r} here" for name in changed)
            raise ValueError(f"the state is of another loader ({listing}). Make the loader as it was, or start anew.")
        self._at = (int(state["epoch"]), int(state["batch"]))
        self._resuming = True
        self.sampler.set_epoch(self._at[0])


def _place_in_world() -> tuple[int, int]:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
