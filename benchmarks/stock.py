"""The files of a store through stock Zarr libraries, zarr-python and tensorstore, as most people would read them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from benchmarks.material import FRAMES, TAP, Material
from benchmarks.measure import speed, times
from store.reading.loader import FeatureLoader

BATCH, WORKERS = 4, 2
PEERS = ("zarr_python", "tensorstore")
Picks = list[tuple[int, int]]
"""(row, position)."""


class ZarrClips(Dataset[NDArray[Any]]):
    """Whole clips with zarr-python, opened by the process that reads them first."""

    def __init__(self, path: Path, clips: int) -> None:
        self.path, self.clips = path, clips
        self._array: Any = None

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, row: int) -> NDArray[Any]:
        if self._array is None:
            self._array = zarr.open_array(self.path, mode="r")
        clip: NDArray[Any] = self._array[row]
        return clip


class TensorStore:
    """tensorstore, which reads in threads of its own."""

    def __init__(self, path: Path) -> None:
        import tensorstore

        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}
        self._array = tensorstore.open(spec, read=True).result()
        self._wrap = tensorstore.array

    def read(self, row: int) -> NDArray[Any]:
        """One clip, in new memory."""
        clip: NDArray[Any] = self._array[row].read().result()
        return clip

    def frame(self, row: int, position: int) -> NDArray[Any]:
        """One frame, in new memory."""
        frame: NDArray[Any] = self._array[row, position].read().result()
        return frame

    def read_into(self, row: int, out: NDArray[Any]) -> Any:
        """One clip into memory that is there; returns what to wait for."""
        return self._wrap(out).write(self._array[row])

    def epoch(self, rows: list[int], batches: NDArray[Any]) -> None:
        """Batches into two slots of memory in turn, one of which fills while the other is used."""
        waiting: list[Any] = []
        for first in range(0, len(rows), BATCH):
            slot = batches[first // BATCH % 2]
            begun = [self.read_into(row, slot[k]) for k, row in enumerate(rows[first : first + BATCH])]
            for each in waiting:
                each.result()
            waiting = begun
        for each in waiting:
            each.result()


def stock(material: Material, rounds: int) -> dict[str, float]:
    """Our reader against both, in a process of its own: after tensorstore has run, others must not be forked."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_stock, material, rounds).result()


def _stock(material: Material, rounds: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    rows = rng.permutation(material.clips).tolist()
    picks = [(row, int(rng.integers(FRAMES))) for row in rows for _ in range(4)]
    return _clips(material, rows, rounds) | _frames(material, picks, rounds) | _epochs(material, rows, rounds)


def _clips(material: Material, rows: list[int], rounds: int) -> dict[str, float]:
    """Whole clips. tensorstore can read into memory that is used again; the faster of both ways is the peer."""
    ours, theirs, clips = material.open(), TensorStore(_array(material)), ZarrClips(_array(material), material.clips)
    out = np.empty(material.shape.clip, np.float16)
    _agree(ours.read(TAP, rows[0]), clips[rows[0]], theirs.read(rows[0]))
    works: dict[str, Callable[[], object]] = {
        "ours, checked": lambda: [ours.read(TAP, row, out=out, verify=True) for row in rows],
        "ours": lambda: [ours.read(TAP, row, out=out, verify=False) for row in rows],
        "zarr_python": lambda: [clips[row] for row in rows],
        "tensorstore": lambda: [theirs.read(row) for row in rows],
        "tensorstore, into memory": lambda: [theirs.read_into(row, out).result() for row in rows],
    }
    ways = {"zarr_python": ("zarr_python",), "tensorstore": ("tensorstore", "tensorstore, into memory")}
    return _numbers("warm_clip", times(works, rounds), ways)


def _frames(material: Material, picks: Picks, rounds: int) -> dict[str, float]:
    """Random single frames."""
    ours, theirs, array = material.open(), TensorStore(_array(material)), zarr.open_array(_array(material), mode="r")
    out = np.empty((1, *material.shape.clip[1:]), np.float16)
    row, position = picks[0]
    _agree(ours.read(TAP, row, [position])[0], np.asarray(array[row, position]), theirs.frame(row, position))
    works: dict[str, Callable[[], object]] = {
        "ours, checked": lambda: [ours.read(TAP, row, [position], out=out, verify=True) for row, position in picks],
        "ours": lambda: [ours.read(TAP, row, [position], out=out, verify=False) for row, position in picks],
        "zarr_python": lambda: [array[pick] for pick in picks],
        "tensorstore": lambda: [theirs.frame(*pick) for pick in picks],
    }
    return _numbers("warm_frame", times(works, rounds), {peer: (peer,) for peer in PEERS})


def _epochs(material: Material, rows: list[int], rounds: int) -> dict[str, float]:
    """Shuffled epochs of whole clips in batches of 4. zarr-python: in a `DataLoader` or without, what is faster."""
    clips, theirs = ZarrClips(_array(material), material.clips), TensorStore(_array(material))
    # Not forked: zarr-python has threads.
    peer = DataLoader(
        clips,
        batch_size=BATCH,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
        multiprocessing_context="forkserver",
    )
    checked = FeatureLoader(material.open(), [TAP], batch=BATCH, verify=True)
    unchecked = FeatureLoader(material.open(), [TAP], batch=BATCH, verify=False)
    batches = np.empty((2, BATCH, *material.shape.clip), np.float16)
    theirs.epoch(rows, batches)
    works: dict[str, Callable[[], object]] = {
        "ours, checked": lambda: sum(1 for _ in checked),
        "ours": lambda: sum(1 for _ in unchecked),
        "zarr_python": lambda: [clips[row] for row in rows],
        "zarr_python, DataLoader": lambda: sum(1 for _ in peer),
        "tensorstore": lambda: theirs.epoch(rows, batches),
    }
    ways = {"zarr_python": ("zarr_python", "zarr_python, DataLoader"), "tensorstore": ("tensorstore",)}
    return _numbers("epoch", times(works, rounds), ways)


def _numbers(what: str, taken: dict[str, list[float]], ways: dict[str, tuple[str, ...]]) -> dict[str, float]:
    """Both peers compare checksums whenever they read; so what counts is how fast we are when we do."""
    return {
        f"{what}{suffix}_vs_{peer}": min(speed(taken, ours, way) for way in ways[peer])
        for ours, suffix in (("ours, checked", "_checked"), ("ours", ""))
        for peer in PEERS
    }


def _array(material: Material) -> Path:
    return material.store / "features.zarr" / TAP


def _agree(ours: NDArray[Any], *others: NDArray[Any]) -> None:
    if not all(np.array_equal(ours, other) for other in others):
        raise ValueError("all readers must read the same values")
