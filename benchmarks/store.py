"""How fast is the feature store, against its peers in the same run?

    python -m benchmarks.store                                   all of it, about 10 minutes
    python -m benchmarks.store --sizes "27 MB" --clips 8 --rounds 3

Prints JSON: every number with its goal and whether it is reached. Ratios are speeds, so above 1 means faster than the
peer; each is the median over rounds of a ratio taken within the round, which is what holds on a machine that is busy
with other things. `raw` opens the file and reads the same bytes by `os.preadv` into one reused buffer: nothing that
copies once can beat it, but for the opening, which our reader saves for shards that it has read before.
`zarr_python` and `tensorstore` read the files of the store with these libraries, which compare checksums at every
read; `checked` says that we do too.
Cold reads follow `posix_fadvise(DONTNEED)`; they need files on a disk (`--folder`), not on a tmpfs.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.material import SHAPES, build
from benchmarks.measure import Goals, judged
from benchmarks.opening import opening
from benchmarks.reading import sections
from benchmarks.writing import int8, writing

GOALS: Goals = {
    "warm_clip_vs_raw": (">=", 0.90),
    "warm_frame_vs_raw": (">=", 0.85),
    "epoch_vs_raw": (">=", 0.60),
    "epoch_vs_dataloader_pt_2_workers": (">=", 8),
    "warm_clip_checked_vs_zarr_python": (">=", 3),
    "warm_clip_checked_vs_tensorstore": (">=", 2),
    "warm_frame_checked_vs_zarr_python": (">=", 3),
    "warm_frame_checked_vs_tensorstore": (">=", 3),
    "epoch_checked_vs_zarr_python": (">=", 5),
    "epoch_checked_vs_tensorstore": (">=", 2),
    "cold_epoch_vs_best_raw": (">=", 0.90),
    "frames_8_of_20_vs_safetensors": (">=", 1.5),
    "write_vs_raw_fsync": (">=", 0.8),
    "int8_bytes_vs_float16": ("<=", 0.51),
    "int8_relative_error": ("<=", 0.01),
    "open_ms": ("<=", 50),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(SHAPES), choices=list(SHAPES), help="sizes of a clip")
    parser.add_argument("--clips", type=int, help="clips of a store; default: 24 of 27 MB, 8 of 92 MB")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    options = parser.parse_args()
    result: dict[str, Any] = {"machine": platform.platform(), "rounds": options.rounds}
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        for size in options.sizes:
            clips = options.clips or (24 if size == "27 MB" else 8)
            material = build(folder / size.replace(" ", ""), SHAPES[size], clips)
            numbers: dict[str, float] = {}
            for section in sections():
                numbers |= section(material, options.rounds)
            shutil.rmtree(material.folder)
            numbers |= writing(folder, SHAPES[size], clips, options.rounds)
            numbers |= int8(folder, SHAPES[size])
            result[f"clips of {size}"] = {"clips": clips} | judged(numbers, GOALS)
        result["140 arrays x 5000 clips"] = judged(opening(folder, options.rounds), GOALS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
