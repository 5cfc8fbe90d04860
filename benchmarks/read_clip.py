"""How fast is a clip read, against its peers in the same run?

    python benchmarks/read_clip.py [--megabytes 27] [--clips 24] [--rounds 5]

Every round reads random clips, and random single frames, with every reader in turn (page cache warm). Printed as JSON:
median over rounds of (time of the peer) / (time of our reader); above 1 means that ours is faster. `raw` is `os.preadv`
of the same bytes into one reused buffer: nothing that copies once can beat it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import zarr

from store import ArraySpec, ClipRow, DatasetRecipe, FeatureStore, Recipe, StoreWriter, clips_digest, create

FRAMES, GRID = 20, (16, 28)


def build(path: Path, clips: int, channels: int) -> None:
    """A store of random float16 features, and the same clips as `.pt` files beside it."""
    table = [
        ClipRow(
            row=row, id=f"c{row}", scene=f"s{row}", split="train", bank=tuple(range(FRAMES)), n_frames=FRAMES, digest=""
        )
        for row in range(clips)
    ]
    recipe = Recipe(kind="features", dataset=DatasetRecipe(name="noise", version="1", digest=clips_digest(table)))
    shape = (FRAMES, *GRID, channels)
    spec = ArraySpec(
        "tap", shape, "float16", ("frame", "y", "x", "channel"), {"site": "tap", "depth": 0, "noise": None}
    )
    create(path, recipe, table, [spec], attrs={}, coordinates={}, provenance={})
    rng = np.random.default_rng(0)
    with StoreWriter(path) as writer:
        for row in range(clips):
            values = rng.standard_normal(shape, dtype=np.float32).astype(np.float16)
            writer.put(row, {"tap": values})
            torch.save(torch.from_numpy(values), path / f"{row}.pt")


def readers(path: Path, channels: int) -> dict[str, dict[str, Callable[[int, int], object]]]:
    """kind of access -> name of the reader -> function of (row, frame)."""
    store = FeatureStore.open(path)
    array = zarr.open_array(str(path / "features.zarr" / "tap"), mode="r")
    clip, frame = np.empty((FRAMES, *GRID, channels), np.float16), np.empty((1, *GRID, channels), np.float16)

    def raw(buffer: np.ndarray, row: int, position: int) -> None:
        descriptor = os.open(path / "features.zarr" / "tap" / f"c.{row}.0.0.0.0", os.O_RDONLY)
        os.preadv(descriptor, [buffer.reshape(-1).data.cast("B")], position * (frame.nbytes + 4))
        os.close(descriptor)

    def pt(row: int) -> torch.Tensor:
        loaded: torch.Tensor = torch.load(path / f"{row}.pt", weights_only=True)
        return loaded

    return {
        "clip": {
            "ours": lambda row, _: store.read("tap", row, out=clip, verify=False),
            "ours, every crc32c checked": lambda row, _: store.read("tap", row, out=clip, verify=True),
            "raw": lambda row, _: raw(clip, row, 0),
            "torch.load": lambda row, _: pt(row),
            "zarr-python": lambda row, _: array[row],
        },
        "frame": {
            "ours": lambda row, position: store.read("tap", row, [position], out=frame, verify=False),
            "ours, every crc32c checked": lambda row, position: store.read(
                "tap", row, [position], out=frame, verify=True
            ),
            "raw": lambda row, position: raw(frame, row, position),
            "torch.load": lambda row, position: pt(row)[position],
            "zarr-python": lambda row, position: array[row, position],
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=27, help="size of a clip")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    channels = max(1, round(options.megabytes * 1e6 / (2 * FRAMES * GRID[0] * GRID[1])))
    result: dict[str, object] = {
        "clip_megabytes": round(2e-6 * FRAMES * GRID[0] * GRID[1] * channels, 1),
        "rounds": options.rounds,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench" / "noise"
        path.parent.mkdir()
        build(path, options.clips, channels)
        rng = np.random.default_rng(1)
        for kind, named in readers(path, channels).items():
            work = [(int(row), int(rng.integers(FRAMES))) for row in rng.permutation(options.clips)]
            times: dict[str, list[float]] = {name: [] for name in named}
            for counted in [False] + [True] * options.rounds:
                for name, read in named.items():
                    start = time.perf_counter()
                    for row, position in work:
                        read(row, position)
                    if counted:
                        times[name].append(time.perf_counter() - start)
            ratios = {
                name: [peer / ours for peer, ours in zip(each, times["ours"], strict=True)]
                for name, each in times.items()
            }
            result[kind] = {
                name: round(statistics.median(ratio), 2) for name, ratio in ratios.items() if name != "ours"
            }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
