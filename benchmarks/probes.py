"""How much do many probes cost, what do they wait for, and what is the store's loader worth to them?

    python -m benchmarks.probes                              about 20 minutes on two cores
    python -m benchmarks.probes --rounds 3 --epochs 8

Prints JSON: every number with its goal and whether it is reached. All of them time `probes.training.fit`,
as `python -m probes.train` calls it: optimizer, validation, tables and the state that a killed run goes on from.
Everything is read from the page cache, and was read and checked before: one round that does not count comes first.
Linear probes, batches of 4 clips in 4 views.

On a machine that is busy with other things set OMP_NUM_THREADS=1: threads that wait for each other at every step of a
sum are slowed by far more than the share of the machine that others take.

`bank`: seconds of a bank of 32 probes of one task and one tap (4 learning rates, 2 weight decays, 4 seeds) against
those of one of them alone, in the same steps.
`waiting`: share of its time for which a run waits for data, in training and in validation: of all four tasks at the
usual learning rates, and of a single probe, which has the least to do between two batches. Of runs of four times the
epochs, since each has ten validations, whose first batches nothing is read ahead of.
`loader`: steps per second of one depth probe fed by the store's loader, against the same training fed by a torch
`DataLoader` with two workers over one safetensors file per clip, of which the views are kept and the rest is dropped.
The goal is about files that are read whole, as `safetensors.numpy.load_file` does, where features are so large that
reading is what takes the time: a loader that reads views alone must be worth that. Beside it, without a goal, the same
with files mapped, as `safetensors.torch.load_file` does: nothing is read but the pages of the views, so that both sides
read the same bytes, and what is left to gain is copies. `limit` is what a loader could reach that takes no time at all:
the same training on features that lie in memory.
The targets of all come from the same thread. The weights of all but the last must be equal at the end, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as map_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import Goals, cost, judged, milliseconds, speed, times
from benchmarks.probed import CASES, TAP, TASKS, VIEWS, Case, Probed, build
from probes.bank import ProbeBank
from probes.config import ProbeSpec, TrainConfig, probes_of
from probes.data import Batch, Batches, Sample, Stream, prefetch
from probes.features import standardiser_of
from probes.tasks import tasks_of
from probes.training.fit import fit
from probes.training.machine import Machine
from probes.training.status import Meter, bars

BANK: dict[str, Any] = {
    "learning_rates": (0.001, 0.003, 0.01, 0.03),
    "weight_decays": (0.01, 0.1),
    "seeds": (0, 1, 2, 3),
}
ALONE: dict[str, Any] = {"learning_rates": (0.01,), "weight_decays": (0.01,)}
WORKERS = 2
LOADER = f"loader_vs_dataloader_{WORKERS}_workers_safetensors"
READ_BOUND = "30 x 52 x 1536"
GOALS: Goals = {
    **{f"bank_of_32_{task}_vs_one": ("<=", 3) for task in TASKS},
    "waiting": ("<=", 0.15),
    "waiting_one_probe": ("<=", 0.15),
    f"{LOADER}_read": (">=", 3),
}


class ViewsOfClips(Dataset[Tensor]):
    """One safetensors file per clip, and some frames of it: what most people would write.

    Args:
        probed: the files.
        mapped: whether files are mapped, else read whole.
    """

    def __init__(self, probed: Probed, *, mapped: bool) -> None:
        self.probed, self.mapped = probed, mapped

    def __getitem__(self, item: tuple[int, list[int]]) -> Tensor:
        row, frames = item
        path = self.probed.safetensors(row)
        return map_file(path)[TAP][frames] if self.mapped else torch.from_numpy(load_file(path)[TAP][frames])


class PeerBatches(Batches):
    """The batches of a stream with features from a `DataLoader`."""

    def __init__(self, clips: ViewsOfClips, stream: Stream, samples: Sequence[Sequence[Sample]]) -> None:
        super().__init__(stream, [TAP], samples, slots=1)
        self._of_clips = clips

    def __iter__(self) -> Iterator[Batch]:
        requests = [self._stream.request(samples) for samples in self._samples]
        loader = DataLoader(self._of_clips, batch_sampler=requests, num_workers=WORKERS)
        with closing(prefetch(map(self._stream.targets, self._samples))) as said:
            for features, targets in zip(loader, said, strict=True):
                self.read += features.nbytes
                self.clips += len(features)
                yield Batch({TAP: features}, {}, targets)


class Watched(Stream):
    """A stream that keeps the batches it gave, which know how long they were waited for."""

    given: list[Batches]

    def train(self, taps: Sequence[str], first: int = 0) -> Batches:
        """The batches of the run."""
        self.given = [super().train(taps, first)]
        return self.given[0]

    def val(self, taps: Sequence[str]) -> Batches:
        """The batches of val."""
        self.given.append(super().val(taps))
        return self.given[-1]


class PeerStream(Watched):
    """Features of training from a `DataLoader`, those of validation from the store."""

    probed: Probed
    mapped = False

    def train(self, taps: Sequence[str], first: int = 0) -> Batches:
        """The batches of the run."""
        self.given = [PeerBatches(ViewsOfClips(self.probed, mapped=self.mapped), self, self._schedule[first:])]
        return self.given[0]


class MappedStream(PeerStream):
    """The same from files that are mapped."""

    mapped = True


class StillBatches(Batches):
    """The batches of a stream, all with the features of the first."""

    def __iter__(self) -> Iterator[Batch]:
        first, *_ = (batch.features[TAP].clone() for batch in Batches(self._stream, [TAP], self._samples[:1], slots=1))
        with closing(prefetch(map(self._stream.targets, self._samples))) as said:
            for targets in said:
                self.read += first.nbytes
                self.clips += len(first)
                yield Batch({TAP: first}, {}, targets)


class StillStream(Watched):
    """Features of training that lie in memory, those of validation from the store."""

    def train(self, taps: Sequence[str], first: int = 0) -> Batches:
        """The batches of the run."""
        self.given = [StillBatches(self, taps, self._schedule[first:], slots=1)]
        return self.given[0]


class Bench:
    """Trains probes on one store.

    Args:
        probed: the store.
        epochs: of every training.
        folder: for what trainings write.
    """

    def __init__(self, probed: Probed, epochs: int, folder: Path) -> None:
        self.probed, self.epochs, self._folder = probed, epochs, folder
        self._standardiser = standardiser_of(probed.inputs, TAP, VIEWS)
        self._streams: dict[tuple[type, tuple[str, ...], int], Watched] = {}
        self._runs = count()
        self.waited: list[float] = []

    def config(self, *tasks: str, **settings: Any) -> TrainConfig:
        """The usual settings, but for those that are given."""
        return TrainConfig(tasks=tasks, taps=(TAP,), views=VIEWS, **{"epochs": self.epochs, **settings})

    def train(self, config: TrainConfig, probes: Sequence[ProbeSpec], kind: type[Watched] = Watched) -> list[Tensor]:
        """Train some probes of a configuration, note the share of time waited, and return their parameters."""
        key = kind, config.tasks, config.epochs
        tasks = tasks_of(probes, self.probed.inputs.space)
        if key not in self._streams:
            stream = self._streams[key] = kind(self.probed.inputs, tasks.values(), config)
            stream.pools.load(lambda: None)
        stream = self._streams[key]
        if isinstance(stream, PeerStream):
            stream.probed = self.probed
        bank = ProbeBank(probes, {TAP: self.probed.tap}, tasks, {TAP: self._standardiser}, stream.steps)
        bank.start_at(stream.priors())
        folder = self._folder / f"pass-{next(self._runs)}"
        folder.mkdir()
        started = time.perf_counter()
        with bars(quiet=True) as progress:
            fit(bank, stream, config, folder, Machine(torch.device("cpu")), Meter(None, progress))
        self.waited.append(sum(batches.waited for batches in stream.given) / (time.perf_counter() - started))
        shutil.rmtree(folder)
        return [parameter.detach() for parameter in bank.heads.parameters()]

    def bank(self, task: str, rounds: int) -> dict[str, float]:
        """A bank against one of its probes."""
        config = self.config(task, **BANK)
        probes = probes_of(config)
        works = {
            "bank": lambda: self.train(config, probes),
            "one": lambda: self.train(config, probes[:1]),
        }
        taken = times(works, rounds)
        steps = self._streams[Watched, config.tasks, config.epochs].steps
        return {
            f"bank_of_{len(probes)}_{task}_vs_one": cost(taken, "bank", "one"),
            f"bank_of_{len(probes)}_{task}_step_ms": round(milliseconds(taken, "bank") / steps, 2),
            f"one_{task}_step_ms": round(milliseconds(taken, "one") / steps, 2),
        }

    def waiting(self, rounds: int) -> dict[str, float]:
        """Shares of time for which data was waited for."""
        longer = 4 * self.epochs
        usual, alone = self.config(*TASKS, epochs=longer), self.config("depth", epochs=longer, **ALONE)
        found = {}
        for name, config in (("waiting", usual), ("waiting_one_probe", alone)):
            self.train(config, probes_of(config))
            self.waited.clear()
            for _ in range(rounds):
                self.train(config, probes_of(config))
            found[name] = round(statistics.median(self.waited), 3)
        return found

    def loader(self, rounds: int) -> dict[str, float]:
        """The store's loader against a `DataLoader`."""
        config = self.config("depth", **ALONE)
        probes = probes_of(config)
        ours, *theirs = (self.train(config, probes, kind) for kind in (Watched, PeerStream, MappedStream))
        if not all(torch.equal(one, other) for peer in theirs for one, other in zip(ours, peer, strict=True)):
            raise ValueError("all loaders must train the same probe")
        works = {
            "store": lambda: self.train(config, probes),
            "read": lambda: self.train(config, probes, PeerStream),
            "mapped": lambda: self.train(config, probes, MappedStream),
            "still": lambda: self.train(config, probes, StillStream),
        }
        taken = times(works, rounds)
        peers = ("read", "mapped")
        reached = {f"{LOADER}_{peer}": speed(taken, "store", peer) for peer in peers}
        return reached | {f"{LOADER}_{peer}_limit": speed(taken, "still", peer) for peer in peers}


def measure(folder: Path, case: Case, epochs: int, rounds: int, sections: Sequence[str]) -> dict[str, float]:
    """All numbers of one case."""
    bench = Bench(build(folder / "stores", case), epochs, folder)
    numbers: dict[str, float] = {}
    if "bank" in sections:
        for task in TASKS:
            numbers |= bench.bank(task, rounds)
    if "waiting" in sections:
        numbers |= bench.waiting(rounds)
    if "loader" in sections and case == CASES[READ_BOUND]:
        numbers |= bench.loader(rounds)
    return numbers


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), help="y x x x channel")
    parser.add_argument("--sections", nargs="+", default=["bank", "waiting", "loader"], help="what is measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=16, help="of 3 steps each")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    options = parser.parse_args()
    result: dict[str, Any] = {"machine": platform.platform(), "threads": torch.get_num_threads()}
    result["rounds"] = options.rounds
    for name in options.cases:
        folder = Path(tempfile.mkdtemp(dir=options.folder))
        try:
            numbers = measure(folder, CASES[name], options.epochs, options.rounds, options.sections)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        result[name] = judged(numbers, GOALS)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
