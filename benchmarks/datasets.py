"""How much of the time that reading frames takes is the decoding of their pictures?

    python -m benchmarks.datasets                           about four minutes on two cores
    python -m benchmarks.datasets --rooms 2 --rounds 3
    python -m benchmarks.datasets --only scannet dl3dv

Prints JSON: every number with its goal and whether it is reached. `frames_vs_plain` is for every reader the same: its
peer decodes the same pictures with Pillow, from files that are in memory, or with PyAV, from the video, checks nothing,
and puts them into one array. The goal is that of `scannet`, which is a `.sens` file; beside the others it is printed
for comparison. Ratios are speeds: at 1, all but decoding costs nothing. Where a data set has one size and its pictures
another, the peer leaves them as they are, and `frames_vs_plain_resized` has one that resizes them too.

Each is the median over rounds of a ratio taken within the round. Files are warm. The data set is opened anew before
each work, which is timed apart (`open_ms`), so that what a reader does when a recording is first used counts. That a
reader's frames are the peer's, to the last bit, is looked at first.

`rooms` are shipped rooms, 256 x 256 pixels. `scannet` is one recording of the release's sizes (colour 1296 x 968,
depth 640 x 480) and 1000 frames, of which 81 are read; its pictures are those of a room, enlarged. `scannet_exported`
is the same as ScanNet's reader exports it, and `targets_ms` the time of all labels of one clip. The others are one
recording each (`benchmarks/recordings.py`), of which 81 frames are read.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Goals, judged, milliseconds, speed, times
from benchmarks.plain import Files, dropped, kept
from benchmarks.recordings import WRITERS, Recorded
from benchmarks.scans import as_exported, clip_of, release_sized
from extract.datasets import rooms_render
from extract.datasets.base import Dataset
from extract.datasets.roomgen import as_scannet, stored
from extract.datasets.rooms import Rooms
from extract.datasets.scannet import ScanNet

GOALS: Goals = {"frames_vs_plain": (">=", 0.8), "frames_vs_plain_resized": (">=", 0.8)}
LABELLED = ("rooms", "scannet", "scannet_exported")
"""What is written with labels."""
NAMES = (*LABELLED, *WRITERS)


def measure(recorded: Recorded, rounds: int, *, labelled: bool) -> dict[str, float]:
    """All numbers of one reader.

    Args:
        recorded: the data set, and its peer.
        rounds: how often.
        labelled: whether it has targets, which are timed too.
    """
    dataset = recorded.open()
    check(dataset, recorded)
    size = dataset.image_size
    stored_as = {plain.size() for plain in recorded.clips}

    def again() -> None:
        nonlocal dataset
        dataset = recorded.open()
        dataset.clips()

    def frames() -> None:
        for clip in dataset.clips():
            clip.frames(range(clip.n_frames))

    def keep() -> None:
        for plain in recorded.clips:
            kept(plain, size)

    def drop() -> None:
        for plain in recorded.clips:
            dropped(plain)

    resizes = stored_as != {size}
    works = {"frames": frames, "plain": drop if resizes else keep} | ({"resized": keep} if resizes else {})
    taken = times(works, rounds, again)
    beside: dict[str, Callable[[], object]] = {"open": lambda: recorded.open().clips()}
    if labelled:
        beside["targets"] = lambda: dataset.clips()[0].targets()
    other = times(beside, rounds, again)
    count = sum(map(len, recorded.clips))
    return {
        "frames_vs_plain": speed(taken, "frames", "plain"),
        **({"frames_vs_plain_resized": speed(taken, "frames", "resized")} if resizes else {}),
        "frames_per_s": round(1000 * count / milliseconds(taken, "frames"), 1),
        "plain_per_s": round(1000 * count / milliseconds(taken, "plain"), 1),
        **{f"{name}_ms": milliseconds(other, name) for name in other},
    }


def check(dataset: Dataset, recorded: Recorded) -> None:
    """Raise `ValueError` unless the frames of the data set are those of the peer."""
    for clip, plain in zip(dataset.clips(), recorded.clips, strict=True):
        found, expected = clip.frames(range(clip.n_frames)), kept(plain, dataset.image_size)
        if not np.array_equal(found, expected):
            raise ValueError(f"{dataset.name}, {clip.id}: {found.shape} frames that are not those of plain decoding")


def rooms(source: Path, count: int) -> Recorded:
    """The first rooms of a copy of the shipped ones, of which it leaves no other."""
    index = stored.read_index(source)
    index["rooms"] = index["rooms"][:count]
    (source / "rooms.json").write_text(json.dumps(index), encoding="utf-8")
    jpegs = [sorted((source / entry["id"] / "rgb").iterdir()) for entry in index["rooms"]]
    return Recorded(lambda: Rooms(source), [Files([path.read_bytes() for path in each]) for each in jpegs])


def recordings(folder: Path, count: int, only: Collection[str]) -> Iterator[tuple[str, Recorded]]:
    """Name and recording of each reader, which is removed when the next is asked for."""
    source = folder / "rooms"
    shutil.copytree(rooms_render.HERE, source)
    room = next(stored.read_rooms(source))
    if {"scannet", "scannet_exported"} & set(only):
        as_scannet.export(source, folder / "scannet", [0])
        frames = release_sized(folder / "scannet", room)
        as_exported(folder / "scannet", folder / "scannet_exported", room, frames)
        for name in ("scannet", "scannet_exported"):
            if name in only:
                yield name, Recorded(partial(ScanNet, folder / name), [clip_of(frames)])
            shutil.rmtree(folder / name)
    for name, write in WRITERS.items():
        if name in only:
            yield name, write(folder / name, room)
            shutil.rmtree(folder / name)
    if "rooms" in only:
        yield "rooms", rooms(source, count)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=8, help="how many of the shipped rooms")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="these readers", metavar="NAME")
    parser.add_argument("--folder", type=Path, help="where to write (1 GB); a temporary folder by default")
    options = parser.parse_args()
    logging.getLogger("extract").setLevel(logging.ERROR)  # each opening warns of the scans that are not there
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    numbers = {}
    try:
        for name, recorded in recordings(folder, options.rooms, options.only):
            numbers[name] = judged(measure(recorded, options.rounds, labelled=name in LABELLED), GOALS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    head: dict[str, Any] = {"machine": platform.platform(), "rounds": options.rounds}
    print(json.dumps(head | numbers, indent=1))


if __name__ == "__main__":
    main()
