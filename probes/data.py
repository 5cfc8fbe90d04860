"""What a training step sees: a stream of samples that depends on the seed alone."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from queue import Queue
from threading import Event, Thread
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from probes.config import TrainConfig
from probes.features import finite_check
from probes.inputs import TRAIN, VAL, Inputs
from probes.pools import TargetPools
from probes.seeding import generator
from probes.tasks.base import Task, Wanted
from probes.views import training_views
from store.reading.ring import SLOTS, Ring

Item = TypeVar("Item")
PREFETCHED = 2


class Sample(NamedTuple):
    """One clip in one epoch."""

    row: int
    epoch: int


class Batch(NamedTuple):
    """Some clips in some views. Leading axes: clip (, view).

    Attributes:
        features: tap -> features as they are stored.
        scales: tap -> (clip, channel), for taps of type `int8-channel`; value = int8 * scale.
        targets: task, in the form that a head asks for it, and whether it is a control's -> targets.
    """

    features: dict[str, Tensor]
    scales: dict[str, Tensor]
    targets: dict[Wanted, dict[str, Tensor]]


def schedule(rows: Sequence[int], config: TrainConfig) -> list[list[Sample]]:
    """The batches of a whole run.

    Each epoch is a random order of all clips. Batches run on across epochs, so that all are full.
    """
    samples = []
    for epoch in range(config.epochs):
        order = generator(config.seed, "order", epoch).permutation(len(rows))
        samples += [Sample(rows[index], epoch) for index in order]
    steps = max(1, len(samples) // config.batch_clips)
    return [samples[step * config.batch_clips : (step + 1) * config.batch_clips] for step in range(steps)]


class Stream:
    """Features and targets of training and validation; both are read ahead, in background threads.

    Every random choice is seeded by what it is for, so a probe sees the same batches whatever is trained beside it.

    Args:
        inputs: the stores.
        tasks, config: what is trained; tasks that are not are left out.
        pin: page-locked memory for features, for training on a CUDA device.
        share: number of this process, and how many there are: each takes an equal part of every training batch.
    """

    def __init__(
        self,
        inputs: Inputs,
        tasks: Iterable[Task],
        config: TrainConfig,
        *,
        pin: bool = False,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._inputs, self._config, self._pin, self._share = inputs, config, pin, share
        kinds = (False, True) if config.control else (False,)
        trained = {task.wanted(): task for task in tasks if task.trained}
        self._tasks = {task.wanted(shuffled=kind): task for task in trained.values() for kind in kinds}
        self.pools = TargetPools(inputs, trained.values(), config.seed, control=config.control)
        self._check = finite_check(inputs)
        self._schedule = schedule(inputs.rows[TRAIN], config)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return len(self._schedule)

    def train(self, taps: Sequence[str], first: int = 0) -> Batches:
        """The batches of the run with features of some taps, from step `first` on."""
        rank, processes = self._share
        return Batches(self, taps, [samples[rank::processes] for samples in self._schedule[first:]], SLOTS)

    def val(self, taps: Sequence[str]) -> Batches:
        """Every val clip as often as its bank has windows, in views and at pixels that are the same every time."""
        samples = [
            Sample(row, -2 - time)
            for row in self._inputs.rows[VAL]
            for time in range(len(self._inputs.clip(row).bank) // self._config.views)
        ]
        size = self._config.batch_clips
        return Batches(self, taps, [samples[k : k + size] for k in range(0, len(samples), size)], SLOTS)

    def priors(self) -> dict[Wanted, Float[Tensor, " output"]]:
        """The prior of each task, from targets of one sample of every training clip; a control has its twin's."""
        samples = [Sample(row, -1) for row in self._inputs.rows[TRAIN]]
        frames = self._frames(samples)
        found: dict[Wanted, Tensor] = {}
        for wanted, task in self._tasks.items():  # twins come first
            twin = wanted._replace(shuffled=False)
            found[wanted] = found[twin] if twin in found else task.prior(self._collate(wanted, samples, frames))
        return found

    def ring(self, taps: Sequence[str], clips: int, slots: int) -> Ring:
        """Memory for batches of `clips` clips."""
        return Ring(
            self._inputs.features,
            taps,
            clips=clips,
            frames=self._config.views,
            slots=slots,
            pin=self._pin,
            check=self._check,
        )

    def request(self, samples: Sequence[Sample]) -> list[tuple[int, list[int]]]:
        """Rows and bank positions of some samples."""
        frames = self._frames(samples)
        return [(sample.row, views.tolist()) for sample, views in zip(samples, frames, strict=True)]

    def targets(self, samples: Sequence[Sample]) -> dict[Wanted, dict[str, Tensor]]:
        """Targets of some samples. On val those of controls are those of their twins."""
        frames = self._frames(samples)
        other = any(sample.row in self.pools.sources for sample in samples)
        found: dict[Wanted, dict[str, Tensor]] = {}
        for wanted, task in self._tasks.items():  # twins come first
            same = wanted.shuffled and not other
            twin = wanted._replace(shuffled=False)
            found[wanted] = found[twin] if same else task.share(self._collate(wanted, samples, frames))
        return found

    def targets_bytes(self) -> int:
        """Bytes of targets that are in memory at a time: those that wait, those in the making, and those in use."""
        rank, processes = self._share
        batch = self.targets(self._schedule[0][rank::processes]) if self._tasks else {}
        return (PREFETCHED + 2) * sum(values.nbytes for each in batch.values() for values in each.values())

    def _frames(self, samples: Sequence[Sample]) -> list[NDArray[Any]]:
        return [training_views(self._config, self._inputs.clip(sample.row), sample.epoch) for sample in samples]

    def _collate(self, wanted: Wanted, samples: Sequence[Sample], frames: Sequence[NDArray[Any]]) -> dict[str, Tensor]:
        config = self._config
        drawn = []
        for sample, views in zip(samples, frames, strict=True):
            pool = self.pools[self.pools.sources.get(sample.row, sample.row) if wanted.shuffled else sample.row]
            drawn.append(
                self._tasks[wanted].sample(
                    pool,
                    views % len(pool),  # the clip whose targets these are may be shorter
                    max(1, config.pixels // config.views),
                    generator(config.seed, "pixels", wanted.task, sample.epoch, sample.row),
                )
            )
        return {name: torch.from_numpy(np.stack([entry[name] for entry in drawn])) for name in drawn[0]}


class Batches:
    """Batches in order. **Features of one are valid until the next is asked for**, see `store.reading.ring.Ring`.

    Args:
        stream: reads them.
        taps: whose features are read.
        samples: of each batch.
        slots: batches in memory.

    Attributes:
        waited: seconds for which a batch that was asked for was not ready yet.
        read: bytes of features so far.
        clips: samples so far.
    """

    def __init__(self, stream: Stream, taps: Sequence[str], samples: Sequence[Sequence[Sample]], slots: int) -> None:
        self._stream, self._taps, self._samples, self._slots = stream, tuple(taps), samples, slots
        self._ring: Ring | None = None  # kept from one validation to the next: fresh memory is slow
        self.waited, self.read, self.clips = 0.0, 0, 0

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Batch]:
        if self._ring is None:
            self._ring = self._stream.ring(self._taps, max(map(len, self._samples), default=1), self._slots)
        requests = map(self._stream.request, self._samples)
        with (
            closing(self._ring.read(requests)) as stored,
            closing(prefetch(map(self._stream.targets, self._samples))) as said,
        ):
            asked = perf_counter()
            for clips, targets in zip(stored, said, strict=True):
                self.waited += perf_counter() - asked
                self.read += sum(features.nbytes for features in clips.features.values())
                self.clips += len(next(iter(clips.features.values())))
                yield Batch(clips.features, clips.scales, targets)
                asked = perf_counter()


def prefetch(items: Iterable[Item], ahead: int = PREFETCHED) -> Generator[Item, None, None]:
    """Yield the items in order while a thread prepares the next ones. Errors of the thread are raised here."""
    queue: Queue[tuple[Item | None, BaseException | None]] = Queue(ahead)
    stopped = Event()

    def work() -> None:
        try:
            for item in items:
                queue.put((item, None))
                if stopped.is_set():
                    return
            queue.put((None, None))
        except BaseException as error:  # whatever it is, the consumer must hear of it
            queue.put((None, error))

    thread = Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = queue.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stopped.set()
        while thread.is_alive():  # make room, so that the thread sees that nobody listens any more
            while not queue.empty():
                queue.get_nowait()
            thread.join(timeout=0.01)
