"""How much of the time that reading frames takes is the decoding of their pictures?

    python -m benchmarks.datasets                           about a minute on two cores
    python -m benchmarks.datasets --rooms 2 --rounds 3

Prints JSON: every number with its goal and whether it is reached. The peer decodes the JPEG bytes of the same frames,
which are in memory, with Pillow, and puts them into one array. Ratios are speeds: at 1, all but decoding costs nothing.
Each is the median over rounds of a ratio taken within the round. Files are warm. The data set is opened anew before
each work, which is timed apart (`open_ms`), so that what a reader does when a recording is first used counts.

`rooms` are shipped rooms, 256 x 256 pixels. `scannet` is one recording of the release's sizes (colour 1296 x 968,
depth 640 x 480) and 1000 frames, of which 81 are read; its pictures are those of a room, enlarged. `targets_ms` is the
time of all labels of one clip.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.measure import Goals, judged, milliseconds, speed, times
from extract.datasets import rooms_render
from extract.datasets.base import Dataset
from extract.datasets.roomgen import as_scannet, stored
from extract.datasets.roomgen.sens import SensFrame, write_sens
from extract.datasets.rooms import Rooms
from extract.datasets.sampling import Sampling
from extract.datasets.scannet import ScanNet

COLOUR, DEPTH = (1296, 968), (640, 480)
"""(width, height) of the release's pictures."""
RECORDED = 1000
GOALS: Goals = {"frames_vs_plain_jpeg": (">=", 0.8)}
Jpegs = list[bytes]


def decode(jpegs: Sequence[bytes], size: tuple[int, int]) -> None:
    """The frames of a clip, by Pillow alone."""
    images = np.empty((len(jpegs), *size, 3), np.uint8)
    for row, jpeg in enumerate(jpegs):
        with Image.open(BytesIO(jpeg)) as image:
            images[row] = np.asarray(image)


def measure(opened: Callable[[], Dataset], clips: Sequence[Jpegs], rounds: int) -> dict[str, float]:
    """All numbers of one reader.

    Args:
        opened: opens the data set.
        clips: the JPEG files of each clip of it, in the order of its clips.
        rounds: how often.
    """
    dataset = opened()
    with Image.open(BytesIO(clips[0][0])) as image:
        size = (image.height, image.width)

    def again() -> None:
        nonlocal dataset
        dataset = opened()

    def frames() -> None:
        for clip in dataset.clips():
            clip.frames(range(clip.n_frames))

    def plain() -> None:
        for jpegs in clips:
            decode(jpegs, size)

    for clip, jpegs in zip(dataset.clips(), clips, strict=True):
        if clip.n_frames != len(jpegs):
            raise ValueError(f"{clip.id}: {clip.n_frames} frames, but {len(jpegs)} JPEG files to compare with")
    taken = times({"frames": frames, "plain": plain}, rounds, again)
    beside = times({"targets": lambda: dataset.clips()[0].targets(), "open": lambda: opened().clips()}, rounds, again)
    count = sum(map(len, clips))
    return {
        "frames_vs_plain_jpeg": speed(taken, "frames", "plain"),
        "frames_per_s": round(1000 * count / milliseconds(taken, "frames"), 1),
        "plain_jpeg_per_s": round(1000 * count / milliseconds(taken, "plain"), 1),
        "targets_ms": milliseconds(beside, "targets"),
        "open_ms": milliseconds(beside, "open"),
    }


def release_sized(exported: Path, room: stored.StoredRoom) -> list[Jpegs]:
    """Make the only scene of an export one of the release's sizes. Returns the JPEG files of its clip."""
    scene = next((exported / "scans").iterdir())
    (scene / f"{scene.name}.txt").unlink()  # of the sizes before
    instances, frames = [], []
    for n in range(room.info["n_frames"]):
        with Image.open(room.folder / f"instance/{n:04d}.png") as image:
            instances.append(_encoded(image.resize(COLOUR, Image.Resampling.NEAREST), "PNG"))
        with Image.open(room.folder / f"depth/{n:04d}.png") as image:
            depth = np.asarray(image.resize(DEPTH, Image.Resampling.NEAREST))
        with Image.open(room.folder / f"rgb/{n:04d}.jpg") as image:
            jpeg = _encoded(image.resize(COLOUR, Image.Resampling.BICUBIC), "JPEG")
        frames.append(SensFrame(jpeg, depth, room.poses[n]))
    recorded = [frames[n % len(frames)] for n in range(RECORDED)]
    width, height = room.info["image_size"]
    intrinsics = np.diag([COLOUR[0] / width, COLOUR[1] / height, 1]) @ room.intrinsics
    write_sens(scene / f"{scene.name}.sens", recorded, intrinsics, (COLOUR[1], COLOUR[0]), "rooms")
    with zipfile.ZipFile(scene / f"{scene.name}_2d-instance-filt.zip", "w") as archive:
        for n in range(RECORDED):
            archive.writestr(f"instance-filt/{n}.png", instances[n % len(instances)])
    return [[recorded[n].jpeg for n in Sampling().choose(RECORDED)]]


def _encoded(image: Image.Image, form: str) -> bytes:
    content = BytesIO()
    image.save(content, form, quality=90)
    return content.getvalue()


def sections(folder: Path, rooms: int, rounds: int) -> dict[str, Any]:
    """All numbers of all readers, judged."""
    source = folder / "rooms"
    shutil.copytree(rooms_render.HERE, source)
    as_scannet.export(source, folder / "scannet", [0])
    index = stored.read_index(source)
    index["rooms"] = index["rooms"][:rooms]
    (source / "rooms.json").write_text(json.dumps(index), encoding="utf-8")
    jpegs = [
        [path.read_bytes() for path in sorted((source / entry["id"] / "rgb").iterdir())] for entry in index["rooms"]
    ]
    released = release_sized(folder / "scannet", next(stored.read_rooms(source)))
    return {
        "rooms": judged(measure(lambda: Rooms(source), jpegs, rounds), {}),
        "scannet": judged(measure(lambda: ScanNet(folder / "scannet"), released, rounds), GOALS),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=8, help="how many of the shipped rooms")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    options = parser.parse_args()
    logging.getLogger("extract").setLevel(logging.ERROR)  # each opening warns of the scans that are not there
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        numbers = sections(folder, options.rooms, options.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({"machine": platform.platform(), "rounds": options.rounds} | numbers, indent=1))


if __name__ == "__main__":
    main()
