"""What would it take to keep the features of a million clips of every model of arXiv 2605.28132?

    python -m benchmarks.scale                                       2 seconds
    python -m benchmarks.scale --store-dtype int8-channel --grid 17x30
    python -m benchmarks.scale --operations                          counts what is computed: minutes
    python -m benchmarks.scale --seconds wan2.1-t2v-14b=4.2          a clip, measured by yourself
    python -m benchmarks.scale --json

Nothing is measured here. Sizes are those of `python -m extract plan`, with the sites and noise levels of
`--preset paper` and a clip of 81 frames with 20 in its bank; sizes of records are those of records made by the code
that writes stores. `--operations` runs each network at its published size without numbers and counts the
floating-point operations of one clip. Hours are what `--seconds` says, or operations / (peak x `--utilisation`), with a
peak for each type: an assumption, and as good as these are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.records import Limit, commit_bytes, limits, manifest_bytes, table_bytes
from extract.backbones.base import PAPER, Options
from extract.datasets.base import ClassInfo, Clip, Dataset, Targets
from extract.datasets.sampling import Sampling
from extract.estimate import estimate
from extract.plan import Outline, Request, make_outline
from extract.registry import families, make_family
from store.arrays import with_scales
from store.dtypes import FEATURE_DTYPES
from store.sizes import show_size

FRAMES = 81
KEYS_A_LIST = 1000
"""Names that one LIST request of S3 returns at most: its API reference, ListObjectsV2."""
PEAK, PEAK_FLOAT32, UTILISATION = 989.0, 67.0, 0.4
"""TFLOP/s of an H100 SXM by NVIDIA's data sheet, dense bfloat16 and float32; the share that is reached is assumed."""


class OneClip(Clip):
    """Of as many frames as the paper's; there are no pictures."""

    id = scene = "clip-0000000"
    split, n_frames = "train", FRAMES

    def __init__(self) -> None:
        self.bank = Sampling().bank_of(FRAMES)

    def frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Nothing can be read."""
        raise NotImplementedError

    def targets(self) -> Targets:
        """Nothing can be read."""
        raise NotImplementedError

    def digest(self) -> str:
        """No files, no digest."""
        return "0" * 32


class MadeUp(Dataset):
    """One clip, of which only the length counts."""

    name = "made-up"
    environment = "MADE_UP"
    how_to_get = "It is made up."
    version = "1"
    classes = (ClassInfo("nothing", "stuff"),)
    image_size = (540, 960)
    max_instances = 0

    def __init__(self) -> None:
        self.sampling, self.root = None, Path()

    def clips(self) -> Sequence[Clip]:
        """The one."""
        return [OneClip()]


@dataclass(frozen=True)
class Store:
    """What one model takes.

    Attributes:
        clip_bytes: shards of a clip, all taps.
        bytes: shards of all clips.
        shards, commits: files.
        commit_bytes, table_bytes, manifest_bytes: of all commits, of the table, of the manifest that names it.
        lists: LIST requests that an opening on S3 takes.
        gets: GET requests of an epoch over whole clips on S3, one per shard.
        operations: floating-point operations of a clip by type; `None` if they were not counted.
        gpu_hours: of all clips; `None` if nothing says how long a clip takes.
    """

    model: str
    taps: list[str]
    grids: list[str]
    clip_bytes: int
    bytes: int
    shards: int
    commits: int
    commit_bytes: int
    table_bytes: int
    manifest_bytes: int
    lists: int
    gets: int
    operations: dict[str, int] | None
    gpu_hours: float | None


def paper_models() -> list[str]:
    """Models with the preset of the paper."""
    return [name for name, family in families().items() if PAPER in family(name).presets]


def scale(outline: Outline, clips: int, operations: dict[str, int] | None = None, hours: float | None = None) -> Store:
    """What an outline would take if it had so many clips, all as long as its own."""
    sizes = estimate(outline)
    if sizes.clips * max(each.clip_bytes for each in sizes.taps) != max(each.bytes for each in sizes.taps):
        raise ValueError(f"{outline.dataset.name}: clips of different lengths; one alone says nothing of others")
    clip_bytes = sum(each.clip_bytes for each in sizes.taps)
    arrays = [spec.name for spec in with_scales(outline.specs())]
    return Store(
        model=outline.family.model,
        taps=[each.tap.name for each in sizes.taps],
        grids=[f"{each.grid[0]}x{each.grid[1]}x{each.tap.site.channels}" for each in sizes.taps],
        clip_bytes=clip_bytes,
        bytes=clip_bytes * clips,
        shards=len(arrays) * clips,
        commits=clips,
        commit_bytes=commit_bytes(arrays, clips),
        table_bytes=table_bytes(len(arrays), clips),
        manifest_bytes=manifest_bytes(arrays, clips),
        lists=-(-clips // KEYS_A_LIST),
        gets=len(arrays) * clips,
        operations=operations,
        gpu_hours=hours,
    )


def estimated(model: str, options: argparse.Namespace) -> Store:
    """One model of the table."""
    request = Request(store_dtype=options.store_dtype, grid=options.grid)
    outline = make_outline(make_family(model, Options(preset=PAPER)), MadeUp(), request)
    counted, seconds = None, options.seconds.get(model)
    if options.operations:
        from benchmarks.weightless import operations

        print(f"counting {model}", file=sys.stderr, flush=True)
        untrained = make_family(model, Options(preset=PAPER, untrained=0))
        counted = operations(untrained, outline.taps, FRAMES, OneClip().bank)
        peaks = {"bfloat16": options.peak, "float32": options.peak_float32}
        computing = sum(number / (1e12 * peaks[name] * options.utilisation) for name, number in counted.items())
        seconds = computing if seconds is None else seconds
    return scale(outline, options.clips, counted, None if seconds is None else seconds * options.clips / 3600)


def show(stores: Sequence[Store], found: Sequence[Limit], options: argparse.Namespace) -> None:
    """Tables for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 170, highlight=False)
    table = Table(
        "model", "taps", "grids", "a clip", f"{options.clips:,} clips", "shards", "table", "TFLOP bfloat16", "float32"
    )
    table.add_column("GPU hours", justify="right")
    for column in table.columns[3:]:
        column.justify = "right"
    for each in stores:
        table.add_row(
            each.model,
            " ".join(each.taps),
            " ".join(dict.fromkeys(each.grids)),
            show_size(each.clip_bytes),
            show_size(each.bytes),
            f"{each.shards:,}",
            show_size(each.table_bytes),
            *(_tera(each, name) for name in ("bfloat16", "float32")),
            "" if each.gpu_hours is None else f"{each.gpu_hours:,.0f}",
        )
    known = [each.gpu_hours for each in stores if each.gpu_hours is not None]
    table.add_section()
    table.add_row(
        f"all {len(stores)}",
        str(sum(len(each.taps) for each in stores)),
        "",
        show_size(sum(each.clip_bytes for each in stores)),
        show_size(sum(each.bytes for each in stores)),
        f"{sum(each.shards for each in stores):,}",
        show_size(sum(each.table_bytes for each in stores)),
        "",
        "",
        f"{sum(known):,.0f}" if len(known) == len(stores) else "",
    )
    console.print(table)
    files = sum(each.shards + each.commits for each in stores)
    console.print(f"{files:,} files; {show_size(sum(each.bytes for each in stores) / files)} each on average")
    console.print(
        f"on S3, of all models: {files:,} PUT; an epoch over whole clips {sum(each.gets for each in stores):,} GET; "
        f"each opening of a store {stores[0].lists:,} LIST"
    )
    if options.operations:
        console.print(
            f"hours of a GPU of {options.peak:g} TFLOP/s in bfloat16 and {options.peak_float32:g} in float32, of which "
            f"{options.utilisation:.0%} are assumed used"
        )
    console.print("at most so many clips in one store:")
    for limit in found:
        console.print(f"  {limit.clips:>12,}  {limit.what}", markup=False)


def _tera(store: Store, dtype: str) -> str:
    return "" if store.operations is None else f"{store.operations.get(dtype, 0) / 1e12:,.0f}"


def _seconds(text: str) -> tuple[str, float]:
    model, _, seconds = text.partition("=")
    if model not in families():
        raise argparse.ArgumentTypeError(f"{text}: expected MODEL=SECONDS with a model of `python -m extract models`")
    return model, float(seconds)


def _grid(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    return int(rows), int(columns)


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--models", nargs="+", default=paper_models(), choices=paper_models(), metavar="MODEL")
    parser.add_argument("--store-dtype", default="float16", choices=FEATURE_DTYPES)
    parser.add_argument("--grid", type=_grid, help="ROWSxCOLUMNS, as of `python -m extract`")
    parser.add_argument("--operations", action="store_true", help="count what a clip takes to compute")
    parser.add_argument("--peak", type=float, default=PEAK, help="TFLOP/s of a GPU in bfloat16")
    parser.add_argument("--peak-float32", type=float, default=PEAK_FLOAT32, help="the same, in float32")
    parser.add_argument("--utilisation", type=float, default=UTILISATION, help="share of the peak that is reached")
    parser.add_argument("--seconds", nargs="+", type=_seconds, default=[], help="a clip", metavar="MODEL=SECONDS")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.seconds = dict(options.seconds)
    stores = [estimated(model, options) for model in options.models]
    found = limits(OneClip().bank, FRAMES)
    if options.json:
        asked: dict[str, Any] = {name: getattr(options, name) for name in ("clips", "store_dtype", "grid")}
        assumed = {name: getattr(options, name) for name in ("peak", "peak_float32", "utilisation", "seconds")}
        document = asked | {"assumed": assumed, "stores": [vars(each) for each in stores]}
        print(json.dumps(document | {"limits": [limit._asdict() for limit in found]}, indent=1))
    else:
        show(stores, found, options)


if __name__ == "__main__":
    main()
