"""What is made larger and larger: each gives, for a size, the work that is to be timed, ready to be done once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.material import empty_store, table, tap
from benchmarks.measure import Work
from benchmarks.opening import RECORD, finalized
from benchmarks.probed import Case
from benchmarks.probed import build as build_probed
from benchmarks.probes import Bench
from benchmarks.recorded import write_runs
from benchmarks.scale import MadeUp
from extract.plan import Outline, Request, make_taps
from extract.registry import make_family
from probes.config import probes_of
from store import FeatureStore, StoreWriter
from store.commits import Commit
from store.documents import seal

Growing = Callable[[int], Work]


class Grown:
    """All that is looked at, below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = count()
        self.open_store = cache(self._open_store)
        self._unmerged = cache(self._write_unmerged)
        self._runs = cache(self._write_runs)

    def write_clips(self, clips: int) -> Work:
        """Write clips of 41 kB, one tap."""
        return self._writing(clips, 1, (20, 4, 4, 64))

    def write_taps(self, taps: int) -> Work:
        """Write 8 clips with so many taps of 41 kB."""
        return self._writing(8, taps, (20, 4, 4, 64))

    def write_channels(self, channels: int) -> Work:
        """Write 4 clips with one tap of 16 x 16 cells and so many channels."""
        return self._writing(4, 1, (20, 16, 16, channels))

    def open(self, clips: int) -> Work:
        """Open a finalized store."""
        path = self.open_store(clips)
        return lambda: FeatureStore.open(path)

    def resume(self, clips: int) -> Work:
        """See what is missing of a finalized store that misses nothing."""
        return _pending(_outline(self.open_store(clips), clips))

    def resume_from_commits(self, clips: int) -> Work:
        """See what is missing of a store that was killed before it was finalized: every commit is read."""
        return _pending(_outline(self._unmerged(clips), clips))

    def train(self, probes: int) -> Work:
        """Train linear depth probes of one tap: 12 steps and their validations."""
        bench, config = self._bench()
        chosen = probes_of(config)[:probes]
        return lambda: bench.train(config, chosen)

    def report(self, probes: int) -> Work:
        """`python -m evaluate` for depth probes over 20 test scenes."""
        runs, out = self._runs(probes), self._folder / f"report-{next(self._number)}"
        command = [sys.executable, "-m", "evaluate", "--runs", f"{runs}/*", "--out", str(out)]
        return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def extract(self, workers: int, clips: int) -> Work:
        """`python -m extract --cluster local:N` of MobileNetV2 on shipped rooms."""
        place = self._folder / f"extracted-{next(self._number)}"
        asked = ["--model", "mobilenetv2", "--dataset", "rooms", "--limit", str(clips)]
        command = [sys.executable, "-m", "extract", *asked, "--cluster", f"local:{workers}", "--json"]
        environment = os.environ | {"FEATURE_STORE": str(place)}
        return lambda: subprocess.run(
            command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def _writing(self, clips: int, taps: int, shape: tuple[int, ...]) -> Work:
        shutil.rmtree(self._folder / "written", ignore_errors=True)
        path = self._folder / "written" / "noise"
        names = [f"blocks.{k}" for k in range(taps)]
        empty_store(path, clips, [tap(shape, name) for name in names])
        values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(np.float16)

        def work() -> None:
            with StoreWriter(path) as writer:
                for row in range(clips):
                    writer.put(row, dict.fromkeys(names, values))

        return work

    def _open_store(self, clips: int) -> Path:
        path = self._folder / f"finalized-{clips}" / "noise"
        finalized(path, clips, _outline(path, clips).specs())
        return path

    def _write_unmerged(self, clips: int) -> Path:
        path = self._folder / f"killed-{clips}" / "noise"
        (spec,) = _outline(path, clips).specs()
        empty_store(path, clips, [spec])
        metadata = FeatureStore.open(path).arrays[spec.name].digest
        (path / "commits").mkdir(exist_ok=True)
        for clip in table(clips):
            commit = Commit(
                row=clip.row,
                clip=clip.id,
                n_frames=clip.n_frames,
                arrays={spec.name: RECORD},
                metadata={spec.name: metadata},
                writer="host-1",
                time=float(clip.row),
            )
            name = f"{clip.row:06d}-{'0' * 12}.json"
            (path / "commits" / name).write_bytes(seal(commit.model_dump(mode="json")))
        return path

    @cache  # noqa: B019
    def _bench(self) -> tuple[Bench, Any]:
        place = self._folder / "probed"
        place.mkdir()
        bench = Bench(build_probed(place / "stores", Case((16, 16), 256, 8)), 4, place)
        grid = {"learning_rates": (0.001, 0.003, 0.01, 0.03), "weight_decays": (0.01, 0.1), "seeds": tuple(range(32))}
        return bench, bench.config("depth", **grid)

    def _write_runs(self, probes: int) -> Path:
        root = self._folder / f"runs-{probes}"
        write_runs(root, probes, 20, tasks=("depth",), val=4)
        return root


def _outline(path: Path, clips: int) -> Outline:
    """Raw pixels of so many clips, all of them asked for."""
    family = make_family("pixels")
    return Outline(family, MadeUp(), Request(), make_taps(family, (), ()), [], table(clips), path, {})


def _pending(outline: Outline) -> Work:
    def work() -> None:
        if outline.pending():
            raise ValueError(f"{outline.path}: everything is committed")

    return work
