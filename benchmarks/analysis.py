"""What does the analysis of a whole store cost, against NumPy with all of it in memory, and against dask arrays?

    python -m benchmarks.analysis                        about 5 minutes
    python -m benchmarks.analysis --channels 1536 --clips 8 --rounds 1

Prints JSON: ratios of seconds (median over rounds of ratios taken within a round; below 1 means faster than the peer),
seconds, and the peak memory of a process that does nothing else. All compute the mean and the covariance of one tap in
float64; `statistics` also moments up to the fourth, norms and ranks. `dask` does so with the arrays that
`store.open_tap` gives, one chunk a clip, and as we do with one thread of BLAS for each of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.material import TAP, Shape, empty_store, features, tap
from benchmarks.measure import cost, milliseconds, times
from store import FeatureStore, StoreWriter, open_tap
from store.analysis import cka, statistics
from store.analysis.covariance import scatter
from store.analysis.moments import fold_moments, merge_moments
from store.analysis.passes import over_clips


def build(path: Path, clips: int, channels: int) -> Path:
    """A store of one tap."""
    shape = Shape(channels)
    empty_store(path, clips, [tap(shape.clip)])
    with StoreWriter(path) as writer:
        for row in range(clips):
            writer.put(row, {TAP: features(shape, row)})
    return path


def covariance(path: Path) -> Any:
    """Ours: two passes."""
    store = FeatureStore.open(path)
    rows = store.rows()
    known, _ = over_clips([store], rows, partial(fold_moments, TAP, None), merge_moments)
    return scatter(store, TAP, rows, known.mean)


def in_memory(path: Path) -> Any:
    """NumPy: all tokens as one matrix."""
    store = FeatureStore.open(path)
    channels = store.info(TAP).shape[-1]
    z = np.concatenate([store.read(TAP, row).reshape(-1, channels) for row in store.rows()]).astype(np.float64)
    z -= z.mean(0)
    return z.T @ z


def dask_arrays(path: Path) -> Any:
    """dask: the same over the chunks of a view. All banks are full here, so nothing is masked."""
    import dask.array as da

    values = open_tap(path, TAP, chunks={}).features.data
    z = values.reshape(-1, values.shape[-1]).astype(np.float64)
    with threadpool_limits(1, "blas"):
        mean = da.from_array(z.mean(0).compute())  # type: ignore[no-untyped-call]
        return ((z - mean).T @ (z - mean)).compute()


def similarity(path: Path) -> Any:
    """CKA of the tap with itself, all tokens at once."""
    return cka(path, method="features")


WORKS: dict[str, Callable[[Path], Any]] = {
    "covariance": covariance,
    "statistics": statistics,
    "cka": similarity,
    "numpy": in_memory,
    "dask": dask_arrays,
}


def _peak(name: str, path: Path) -> float:
    WORKS[name](path)
    # Not `ru_maxrss`, which a process inherits from the one that starts it.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def peak(name: str, path: Path) -> float:
    """MB of memory of a process that does this alone, with all that it imports."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return round(pool.apply(_peak, (name, path)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=384)
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        path = build(folder / "whole" / "noise", options.clips, options.channels)
        half = build(folder / "half" / "noise", options.clips // 2, options.channels)
        works: dict[str, Callable[[], Any]] = {name: partial(work, path) for name, work in WORKS.items()}
        taken = times(works | {"half": partial(statistics, half)}, options.rounds)
        result = {
            "machine": platform.platform(),
            "clips": options.clips,
            "channels": options.channels,
            "covariance_vs_numpy": cost(taken, "covariance", "numpy"),
            "covariance_vs_dask": cost(taken, "covariance", "dask"),
            "statistics_vs_numpy": cost(taken, "statistics", "numpy"),
            "twice_the_clips": cost(taken, "statistics", "half"),
            "ms": {name: milliseconds(taken, name) for name in taken},
            "peak_mb": {name: peak(name, path) for name in WORKS},
            "peak_mb_half_the_clips": {name: peak(name, half) for name in WORKS},
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
