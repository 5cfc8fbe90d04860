"""Writing clips with checks, statistics, checksums, fsync and commits; and what `int8-channel` saves and costs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from benchmarks.material import TAP, Shape, empty_store, features, tap
from benchmarks.measure import speed, times
from store import FeatureStore, StoreWriter
from store.casting import absmax_scale, quantise
from store.dtypes import dequantise


def writing(folder: Path, shape: Shape, clips: int, rounds: int) -> dict[str, float]:
    """Clips that are there in memory, until every one is safe on the disk, against `write` and `fsync` of the bytes."""
    values = [features(shape, row) for row in range(min(clips, 4))]
    place = folder / "writing"

    def before() -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        empty_store(place / "ours" / "noise", clips, [tap(shape.clip)])
        os.sync()

    def raw() -> None:
        for row in range(clips):
            descriptor = os.open(place / str(row), os.O_WRONLY | os.O_CREAT)
            rest = values[row % len(values)].reshape(-1).data.cast("B")
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
            os.close(descriptor)

    def ours() -> None:
        with StoreWriter(place / "ours" / "noise") as writer:
            for row in range(clips):
                writer.put(row, {TAP: values[row % len(values)]})

    taken = times({"raw": raw, "ours": ours}, rounds, before=before)
    shutil.rmtree(place)
    return {"write_vs_raw_fsync": speed(taken, "ours", "raw")}


def int8(folder: Path, shape: Shape) -> dict[str, float]:
    """Bytes on disk against float16, and the relative L2 error, on features with a few very large channels."""
    sizes = {}
    for dtype in ("float16", "int8-channel"):
        path = folder / "int8" / dtype / "noise"
        empty_store(path, 2, [tap(shape.clip, dtype=dtype)], dtype)
        with StoreWriter(path) as writer:
            for row in range(2):
                writer.put(row, {TAP: features(shape, row)})
        store = FeatureStore.open(path)
        sizes[dtype] = sum(int(store.committed.sizes(name).sum()) for name in store.arrays)
    truth = features(shape, 0).astype(np.float32)
    scale = absmax_scale(truth)
    error = dequantise(quantise(truth, scale), scale) - truth
    shutil.rmtree(folder / "int8")
    return {
        "int8_bytes_vs_float16": round(sizes["int8-channel"] / sizes["float16"], 4),
        "int8_relative_error": round(float(np.linalg.norm(error) / np.linalg.norm(truth)), 5),
    }
