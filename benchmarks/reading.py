"""Warm clips and frames, frame subsets, shuffled epochs and cold epochs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file
from torch.utils.data import DataLoader, Dataset

from benchmarks.material import CRC_BYTES, FRAMES, TAP, Material
from benchmarks.measure import speed, times
from benchmarks.stock import stock
from store.reading.loader import FeatureLoader

BATCH = 4
SUBSET = 8


def read_raw(material: Material, row: int, frame: int, buffer: NDArray[Any]) -> int:
    """The limit: one `preadv` of the same bytes into memory that is there already."""
    descriptor = os.open(material.shard(row), os.O_RDONLY)
    frame_bytes = material.shape.nbytes // FRAMES + CRC_BYTES
    got = os.preadv(descriptor, [buffer.reshape(-1).data.cast("B")], frame * frame_bytes)
    os.close(descriptor)
    return got


def clips_and_frames(material: Material, rounds: int) -> dict[str, float]:
    """Random clips and random single frames from the page cache, each into one buffer that is used again."""
    store = material.open()
    clip = np.empty(material.shape.clip, np.float16)
    frame = np.empty((1, *material.shape.clip[1:]), np.float16)
    rng = np.random.default_rng(0)
    rows = rng.permutation(material.clips).tolist()
    picks = [(row, int(rng.integers(FRAMES))) for row in rows for _ in range(4)]
    works: dict[str, Callable[[], object]] = {
        "clip, raw": lambda: [read_raw(material, row, 0, clip) for row in rows],
        "clip": lambda: [store.read(TAP, row, out=clip, verify=False) for row in rows],
        "clip, checked": lambda: [store.read(TAP, row, out=clip, verify=True) for row in rows],
        "clip, torch.load": lambda: [torch.load(material.pt(row), weights_only=True) for row in rows],
        "clip, safetensors": lambda: [load_file(material.safetensors(row)) for row in rows],
        "frame, raw": lambda: [read_raw(material, row, position, frame) for row, position in picks],
        "frame": lambda: [store.read(TAP, row, [position], out=frame, verify=False) for row, position in picks],
    }
    taken = times(works, rounds)
    return {
        "warm_clip_vs_raw": speed(taken, "clip", "clip, raw"),
        "warm_clip_checked_vs_raw": speed(taken, "clip, checked", "clip, raw"),
        "warm_clip_vs_torch_load": speed(taken, "clip", "clip, torch.load"),
        "warm_clip_vs_safetensors": speed(taken, "clip", "clip, safetensors"),
        "warm_frame_vs_raw": speed(taken, "frame", "frame, raw"),
    }


def subsets(material: Material, rounds: int) -> dict[str, float]:
    """8 random frames of 20, as a probe asks for them, against one safetensors file per clip.

    safetensors reads whole tensors or slices of them; both ways are timed, and the faster one is the peer.
    """
    store = material.open()
    rng = np.random.default_rng(1)
    picks = [
        (int(row), sorted(rng.choice(FRAMES, SUBSET, replace=False).tolist()))
        for row in rng.permutation(material.clips)
    ]
    out = np.empty((SUBSET, *material.shape.clip[1:]), np.float16)

    def whole(row: int, frames: list[int]) -> torch.Tensor:
        with safe_open(material.safetensors(row), "pt") as file:
            tensor: torch.Tensor = file.get_tensor(TAP)
            return tensor[frames]

    def sliced(row: int, frames: list[int]) -> torch.Tensor:
        with safe_open(material.safetensors(row), "pt") as file:
            part = file.get_slice(TAP)
            return torch.cat([part[frame : frame + 1] for frame in frames])

    works: dict[str, Callable[[], object]] = {
        "ours": lambda: [store.read(TAP, row, frames, out=out, verify=False) for row, frames in picks],
        "ours, fresh memory": lambda: [store.read(TAP, row, frames, verify=False) for row, frames in picks],
        "whole": lambda: [whole(row, frames) for row, frames in picks],
        "sliced": lambda: [sliced(row, frames) for row, frames in picks],
    }
    taken = times(works, rounds)
    return {
        "frames_8_of_20_vs_safetensors": min(speed(taken, "ours", peer) for peer in ("whole", "sliced")),
        "frames_8_of_20_fresh_memory_vs_safetensors": min(
            speed(taken, "ours, fresh memory", peer) for peer in ("whole", "sliced")
        ),
    }


class PtClips(Dataset[torch.Tensor]):
    """One `.pt` file per clip: what most people would write."""

    def __init__(self, material: Material) -> None:
        self.material = material

    def __len__(self) -> int:
        return self.material.clips

    def __getitem__(self, row: int) -> torch.Tensor:
        clip: torch.Tensor = torch.load(self.material.pt(row), weights_only=True)
        return clip


def warm_epochs(material: Material, rounds: int) -> dict[str, float]:
    """Shuffled epochs of whole clips in batches of 4 from the page cache. What is read is not looked at."""
    loader = FeatureLoader(material.open(), [TAP], batch=BATCH, verify=False)
    peer = DataLoader(PtClips(material), batch_size=BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    clip = np.empty(material.shape.clip, np.float16)

    def raw() -> None:
        for row in np.random.default_rng(2).permutation(material.clips).tolist():
            read_raw(material, row, 0, clip)

    works: dict[str, Callable[[], object]] = {
        "raw": raw,
        "ours": lambda: sum(1 for _ in loader),
        "DataLoader": lambda: sum(1 for _ in peer),
    }
    taken = times(works, rounds)
    return {
        "epoch_vs_raw": speed(taken, "ours", "raw"),
        "epoch_vs_dataloader_pt_2_workers": speed(taken, "ours", "DataLoader"),
    }


def cold_epochs(material: Material, rounds: int) -> dict[str, float]:
    """The same from the disk, with 8 threads, against the best of raw reads with 1, 2, 4 and 8 threads."""
    buffers = [np.empty(material.shape.clip, np.float16) for _ in range(8)]

    def raw(threads: int) -> None:
        free = list(buffers[:threads])

        def read(row: int) -> None:
            buffer = free.pop()
            read_raw(material, row, 0, buffer)
            free.append(buffer)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(read, np.random.default_rng(3).permutation(material.clips).tolist()))

    store = material.open()
    loader = FeatureLoader(store, [TAP], batch=BATCH, threads=8, slots=3, verify=False)
    works: dict[str, Callable[[], object]] = {f"raw {n}": partial(raw, n) for n in (1, 2, 4, 8)}
    works["ours"] = lambda: sum(1 for _ in loader)
    taken = times(works, rounds, before=material.forget)
    return {"cold_epoch_vs_best_raw": min(speed(taken, "ours", f"raw {n}") for n in (1, 2, 4, 8))}


def sections() -> Iterator[Callable[[Material, int], dict[str, float]]]:
    """All that is measured of reading."""
    yield from (clips_and_frames, subsets, warm_epochs, stock, cold_epochs)
