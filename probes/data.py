"""What a training step sees: a stream of samples that depends on the seed alone, and the windows of evaluation."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from queue import Queue
from threading import Event, Thread
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Integer
from numpy.typing import NDArray
from torch import Tensor

from probes.config import TrainConfig
from probes.errors import SplitError
from probes.features import finite_check
from probes.inputs import TRAIN, Inputs
from probes.labels import PixelPool
from probes.seeding import generator
from probes.tasks.base import Task
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
        targets: task -> targets.
    """

    features: dict[str, Tensor]
    scales: dict[str, Tensor]
    targets: dict[str, dict[str, Tensor]]


def windows(frames: int, views: int) -> Integer[np.ndarray, "window view"]:
    """Evaluation windows: every bank position in exactly one (up to a remainder), views as far apart as possible.

    20 frames and 4 views give [0, 5, 10, 15], [1, 6, 11, 16] … [4, 9, 14, 19].
    """
    count = frames // views
    if count == 0:
        raise SplitError(f"a clip of {frames} bank frames cannot be seen in {views} views; lower --views")
    return np.arange(count)[:, None] + count * np.arange(views)[None, :]


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


def choose_frames(config: TrainConfig, sample: Sample, bank: int) -> Integer[np.ndarray, " view"]:
    """Random bank positions of one sample, in the order of time: depends on seed, epoch and row alone."""
    chosen = generator(config.seed, "views", sample.epoch, sample.row).choice(bank, size=config.views, replace=False)
    return np.sort(chosen)


class TargetPools:
    """Training targets of every clip, read once.

    Args:
        inputs: the stores.
        tasks: what is trained; nothing else is read.
        seed: of the choice of pixels that are kept.
        shuffled: whether every clip is given the pool of another clip.
    """

    def __init__(self, inputs: Inputs, tasks: Mapping[str, Task], seed: int, *, shuffled: bool = False) -> None:
        self._inputs, self._seed = inputs, seed
        scenes = {row: inputs.clip(row).scene for row in inputs.rows[TRAIN]}
        self._sources = shuffled_sources(scenes, seed) if shuffled else {}
        self._fields = frozenset().union(*(task.fields for task in tasks.values()))
        self._pools: dict[int, PixelPool] = {}

    def load(self, advance: Callable[[], None]) -> None:
        """Read the targets of all training clips; `advance` is called after each."""
        with ThreadPoolExecutor(thread_name_prefix="targets") as pool:
            rows = self._inputs.rows[TRAIN]
            for row, pixels in zip(rows, pool.map(self._read, rows), strict=True):
                self._pools[row] = pixels
                advance()

    def __getitem__(self, row: int) -> PixelPool:
        """The pool of one clip, or of the clip whose targets it is given."""
        row = self._sources.get(row, row)
        if row not in self._pools:
            self._pools[row] = self._read(row)
        return self._pools[row]

    def _read(self, row: int) -> PixelPool:
        return PixelPool(self._inputs.labels(row), self._fields, self._seed, self._inputs.clip(row).id)


def shuffled_sources(scenes: Mapping[int, str], seed: int) -> dict[int, int]:
    """Row -> row of another scene whose targets it is given: scenes are put in one random cycle, and each gives to the
    one before.

    Args:
        scenes: row -> its scene. Clips of one scene show the same things, so that none may be given to another.
        seed: of the cycle.

    Raises:
        SplitError: all clips are of one scene.
    """
    rows: dict[str, list[int]] = {}
    for row, scene in scenes.items():
        rows.setdefault(scene, []).append(row)
    if len(rows) < 2:
        raise SplitError("--shuffle-labels: all training clips are of one scene, and no other has targets to give.")
    names = sorted(rows)
    order = [names[index] for index in generator(seed, "labels").permutation(len(names))]
    cycle = zip(order, [*order[1:], order[0]], strict=True)
    return {row: rows[to][k % len(rows[to])] for of, to in cycle for k, row in enumerate(rows[of])}


class TrainingStream:
    """The batches of a run, in order; features are read and targets are drawn ahead, in background threads.

    Every random choice is seeded by what it is for, so a probe sees the same batches whatever is trained beside it.
    **Features of a batch are valid until the next batch is asked for**, see `store.reading.ring.Ring`.

    Args:
        inputs: the stores.
        tasks, config: what is trained.
        pin: page-locked memory for features, for training on a CUDA device.
    """

    def __init__(self, inputs: Inputs, tasks: Mapping[str, Task], config: TrainConfig, *, pin: bool = False) -> None:
        self._inputs, self._tasks, self._config, self._pin = inputs, tasks, config, pin
        self.pools = TargetPools(inputs, tasks, config.seed, shuffled=config.shuffle_labels)
        self._batches = schedule(inputs.rows[TRAIN], config)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return self._read(self._batches, SLOTS)

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Features and targets of some samples, in memory of their own."""
        return next(self._read([samples], slots=1))

    def prior(self, task: str) -> dict[str, Tensor]:
        """Targets of one sample of every training clip, to compute a task's prior from."""
        samples = [Sample(row, -1) for row in self._inputs.rows[TRAIN]]
        return self._collate(task, samples, self._frames(samples))

    def _read(self, batches: Sequence[Sequence[Sample]], slots: int) -> Iterator[Batch]:
        ring = Ring(
            self._inputs.features,
            self._config.taps,
            clips=max(len(samples) for samples in batches),
            frames=self._config.views,
            slots=slots,
            pin=self._pin,
            check=finite_check(self._inputs),
        )
        requests = (
            [(sample.row, frames.tolist()) for sample, frames in zip(samples, self._frames(samples), strict=True)]
            for samples in batches
        )
        with closing(ring.read(requests)) as stored, closing(prefetch(map(self._targets, batches))) as targets:
            for clips, labels in zip(stored, targets, strict=True):
                yield Batch(clips.features, clips.scales, labels)

    def _targets(self, samples: Sequence[Sample]) -> dict[str, dict[str, Tensor]]:
        frames = self._frames(samples)
        return {name: task.share(self._collate(name, samples, frames)) for name, task in self._tasks.items()}

    def _frames(self, samples: Sequence[Sample]) -> list[NDArray[Any]]:
        return [choose_frames(self._config, sample, len(self._inputs.clip(sample.row).bank)) for sample in samples]

    def _collate(self, task: str, samples: Sequence[Sample], frames: Sequence[NDArray[Any]]) -> dict[str, Tensor]:
        config = self._config
        drawn = [
            self._tasks[task].sample(
                self.pools[sample.row],
                views % len(self.pools[sample.row]),  # the clip whose targets these are may be shorter
                max(1, config.pixels // config.views),
                generator(config.seed, "pixels", task, sample.epoch, sample.row),
            )
            for sample, views in zip(samples, frames, strict=True)
        ]
        return {name: torch.from_numpy(np.stack([entry[name] for entry in drawn])) for name in drawn[0]}


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
