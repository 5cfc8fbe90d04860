"""What an extraction takes on the disk and in memory, known without weights; and what to ask for if it does not fit."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from extract.plan import Outline, Tap
from store import ArraySpec
from store.arrays import with_scales
from store.dtypes import INT8_CHANNEL
from store.shard import shard_size

WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2}
SMALLEST = 4
"""Cells along the shorter side of the smallest grid that is suggested: below, little of an image's layout is left."""
SPARE = 0.95
"""Share of the free bytes that may be filled; file systems slow down, and others write too."""


@dataclass(frozen=True)
class TapSize:
    """What one tap takes.

    Attributes:
        grid: (rows, columns) that are kept.
        clip_bytes: of the longest clip, on disk.
        bytes: of all clips asked for.
        missing: clips asked for that are not committed yet.
        missing_bytes: of these.
    """

    tap: Tap
    grid: tuple[int, int]
    clip_bytes: int
    bytes: int
    missing: int
    missing_bytes: int


@dataclass(frozen=True)
class Estimate:
    """What an extraction takes.

    Attributes:
        taps: of each tap.
        clips: asked for.
        pending: clips that lack a tap.
        free: bytes that the disk of the store has left.
        weight_bytes: of the weights in the type of the computation; `None` if their number is not published.
        clip_memory: bytes of the frames and the features of one clip, as float32. What the network holds while it runs
            comes on top.
    """

    taps: list[TapSize]
    clips: int
    pending: int
    free: int
    weight_bytes: int | None
    clip_memory: int

    @property
    def bytes(self) -> int:
        """Of all clips asked for."""
        return sum(each.bytes for each in self.taps)

    @property
    def missing_bytes(self) -> int:
        """That would be written."""
        return sum(each.missing_bytes for each in self.taps)

    @property
    def fits(self) -> bool:
        """Whether the disk has room for what would be written."""
        return self.missing_bytes <= SPARE * self.free


def estimate(outline: Outline) -> Estimate:
    """Sizes of all that an outline asks for. Exact for features; commits and manifests come on top, a few kB a clip."""
    pending = outline.pending()
    lacking: dict[str, list[int]] = {tap.name: [] for tap in outline.taps}
    for row, taps in pending.items():
        for tap in taps:
            lacking[tap.name].append(row)
    lengths = {row: len(outline.table[row].bank) for row in outline.rows}
    sizes: list[TapSize] = []
    for tap, spec in zip(outline.taps, outline.specs(), strict=True):
        of_length = {length: tap_size(spec, length) for length in sorted({*lengths.values(), spec.shape[0]})}
        missing = lacking[tap.name]
        sizes.append(
            TapSize(
                tap=tap,
                grid=(spec.shape[1], spec.shape[2]),
                clip_bytes=of_length[spec.shape[0]],
                bytes=sum(of_length[length] for length in lengths.values()),
                missing=len(missing),
                missing_bytes=sum(of_length[lengths[row]] for row in missing),
            )
        )
    parameters = outline.family.published.parameters
    return Estimate(
        taps=sizes,
        clips=len(outline.rows),
        pending=len(pending),
        free=shutil.disk_usage(_existing(outline.path)).free,
        weight_bytes=None if parameters is None else parameters * WIDTHS[outline.request.dtype],
        clip_memory=_clip_memory(outline),
    )


def tap_size(spec: ArraySpec, frames: int) -> int:
    """Bytes on disk of a clip with so many bank frames, its scales included."""
    return sum(shard_size(each, frames) for each in with_scales([spec]))


def suggestions(outline: Outline, free: int) -> Iterator[str]:
    """Flags that make it fit, the least loss first: int8, then coarser grids, then both. None if nothing does."""
    asked = outline.request
    types = dict.fromkeys([asked.store_dtype, INT8_CHANNEL])
    largest = max((outline.grid(tap.site) for tap in outline.taps), key=math.prod)
    finest_first = [largest, *_coarser(largest)]
    found: set[str] = set()
    for grid in finest_first:
        for dtype in types:
            smaller = replace(outline, request=replace(asked, store_dtype=dtype, grid=grid))
            if dtype in found or _all_bytes(smaller) > SPARE * free:
                continue
            found.add(dtype)
            flags = [f"--store-dtype {dtype}"] * (dtype != asked.store_dtype)
            flags += [f"--grid {grid[0]}x{grid[1]}"] * (grid != largest)
            yield f"{' '.join(flags)} --out NAME" if flags else "--out NAME"


def _all_bytes(outline: Outline) -> int:
    """Of all clips: another type or grid is another store, and nothing of it is there yet."""
    lengths = Counter(len(outline.table[row].bank) for row in outline.rows)
    return sum(times * tap_size(spec, length) for spec in outline.specs() for length, times in lengths.items())


def _coarser(grid: tuple[int, int]) -> Iterator[tuple[int, int]]:
    for divisor in range(2, min(grid) // SMALLEST + 1):
        yield grid[0] // divisor, grid[1] // divisor


def _clip_memory(outline: Outline) -> int:
    rows = outline.rows or range(len(outline.table))  # the share of one of many processes may be empty
    clip = max((outline.clips[row] for row in rows), key=lambda each: each.n_frames)
    height, width = outline.dataset.image_size
    frames = len(outline.family.window(clip.n_frames, clip.bank)[0]) * height * width * 3
    return frames + sum(4 * math.prod(spec.shape) for spec in outline.specs())


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())
