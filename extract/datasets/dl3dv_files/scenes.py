"""Where the scenes of a release of DL3DV lie: pictures, poses, and labels beside them.

Sources: the README and issue 4 of github.com/DL3DV-10K/Dataset (all of it follows the conventions of nerfstudio); the
layouts that `download.py` there and the data set pages DL3DV-ALL-960P, DL3DV-ALL-ColmapCache and DL3DV-10K-Benchmark
unpack to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from extract.datasets._sources import content
from extract.datasets.dl3dv_files.errors import FAULTS, damaged
from extract.datasets.poses.camera import PosedImage
from extract.datasets.poses.colmap import find_model, parse_model
from extract.datasets.poses.nerfstudio import parse_transforms
from extract.datasets.recordings.beside import DEPTH
from extract.datasets.recordings.layout import NO_CLIP, TRANSFORMS, can_be_a_clip
from extract.datasets.recordings.pictures import PICTURES, read_colours
from extract.datasets.recordings.tracks import MODELS, Track
from extract.errors import DataError

RELEASES = ("DL3DV-ALL-960P", "DL3DV-ALL-480P", "DL3DV-ALL-2K", "DL3DV-ALL-4K", "DL3DV-10K-Benchmark")
"""Folders that the root may hold; the first that is there is read instead of the root itself."""
LABELS = "DL3DV-processed"
"""Folder of the root with labels that a network made, <subset>/<scene>.sft; named as arXiv 2605.28132's code does."""
PICTURE_FOLDERS = ("images_4", "images_8", "images_2", "images")
"""Of a scene that has several the first is read: 960x540 as the paper, then 480x270, 1920x1080, 3840x2160."""
_LARGEST = 1 << 30
"""Bytes of a file of poses; COLMAP keeps points beside them."""
BASES = ("", "nerfstudio", "colmap", "gaussian_splat")
"""Folders of a scene that may hold those: DL3DV-ALL, the benchmark, the COLMAP cache, the benchmark undistorted."""


@dataclass(frozen=True)
class Scene:
    """One recording.

    Attributes:
        id: its hash, the name of its folder.
        subset: `1K` … `11K`; empty where there are none, as in the benchmark.
        folder: all of it.
        pictures: the folder of its frames.
        names: of the frames, in their order. Names are zero-padded, so that the order is that of time.
        size: (height, width) of the first frame.
        track: files of its poses; `None` = there are none.
        labels: file of its labels; `None` = there is none.
        depth: folder of depth that a user supplied; `None` = there is none.
    """

    id: str
    subset: str
    folder: Path
    pictures: Path
    names: tuple[str, ...]
    size: tuple[int, int]
    track: Track | None
    labels: Path | None
    depth: Path | None = None

    @cached_property
    def total(self) -> int:
        """Number of frames."""
        return len(self.names)

    def path(self, number: int) -> Path:
        """File of a frame."""
        return self.pictures / self.names[number]

    def picture(self, number: int) -> UInt8[np.ndarray, "y x 3"]:
        """A frame as it is to be seen.

        Raises:
            DataError: its size is not that of the first, or it is stored turned and there is depth, which may be too.
        """
        image, turned = read_colours(self.path(number))
        if turned and self.depth is not None:
            raise damaged(self.path(number), "is stored turned (EXIF orientation): is its depth, too?")
        if image.shape[:2] != self.size:
            got, expected = f"{image.shape[1]}x{image.shape[0]}", f"{self.size[1]}x{self.size[0]}"
            raise damaged(self.path(number), f"{got} pixels, the first frame of the scene has {expected}")
        return image

    def posed(self) -> dict[int, PosedImage]:
        """Number of a frame -> its pose and camera.

        Raises:
            DataError: a file of poses is damaged, or names a picture that is missing, or one twice.
        """
        if self.track is None:
            return {}
        contents = [(content(path, _LARGEST, FAULTS), str(path)) for path in self.track.files]
        if self.track.format == "nerfstudio":
            images = parse_transforms(*contents[0])
        else:
            images = parse_model(contents[0], contents[1], binary=self.track.files[0].suffix == ".bin")
        numbers = {name.rpartition(".")[0]: number for number, name in enumerate(self.names)}
        posed: dict[int, PosedImage] = {}
        for image in images:
            number = numbers.get(PurePosixPath(image.name).stem)
            if number is None or number in posed:
                what = "twice" if number is not None else f"which is not among the {self.total} in {self.pictures}"
                raise damaged(self.track.files[-1], f"names the picture {image.name}, {what}")
            posed[number] = image
        return posed


@dataclass(frozen=True)
class Unreadable:
    """A recording whose first picture cannot be read, or whose name no store takes. Attributes as of `Scene`; why."""

    id: str
    subset: str
    labels: Path | None
    why: str


def find_scenes(root: Path) -> tuple[list[Scene], list[Unreadable]]:
    """All scenes, sorted by subset and id, and those that cannot be read.

    Lists folders, and reads the header of one picture each.

    Raises:
        DataError: two scenes have one id.
    """
    found: dict[str, Scene] = {}
    wrong: dict[str, Unreadable] = {}
    release = next((root / name for name in RELEASES if (root / name).is_dir()), root)
    for subset, folder, (pictures, names) in _folders(release):
        if folder.name in found or folder.name in wrong:
            raise DataError(f"{folder}: a second scene of this name below {release}. Remedy: remove one.")
        labels = _labels(root / LABELS, subset, folder.name)
        try:
            if not can_be_a_clip(folder.name):
                raise DataError(f"{str(folder)!r}: {NO_CLIP}")
            size = _size(pictures / names[0])
        except DataError as error:
            wrong[folder.name] = Unreadable(ascii(folder.name)[1:-1], subset, labels, str(error))
            continue
        bases = tuple(dict.fromkeys((pictures.parent, folder)))
        depth = next((place / DEPTH for place in bases if (place / DEPTH).is_dir()), None)
        found[folder.name] = Scene(folder.name, subset, folder, pictures, names, size, _track(bases), labels, depth)
    return sorted(found.values(), key=lambda scene: (scene.subset, scene.id)), list(wrong.values())


Frames = tuple[Path, tuple[str, ...]]


def _folders(release: Path) -> Iterator[tuple[str, Path, Frames]]:
    """(subset, folder, frames) of every scene: in the release itself, or one folder further down."""
    for folder in _inside(release):
        if folder.name == LABELS:
            continue
        if frames := _frames(folder):
            yield "", folder, frames
            continue
        for scene in _inside(folder):
            if frames := _frames(scene):
                yield folder.name, scene, frames


def _inside(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith((".", "__")))


def _frames(folder: Path) -> Frames | None:
    """The folder of pictures that is read, and their names; `None` if there is none with pictures."""
    for name in PICTURE_FOLDERS:
        for base in (*BASES, folder.name):  # some unpack a scene's archive into a folder of its name, which it has too
            place = folder / base / name
            if place.is_dir() and (names := _pictures(place)):
                return place, names
    return None


def _size(path: Path) -> tuple[int, int]:
    """(height, width) from the header alone: EXIF of a PNG may lie behind its pixels. Raises `DataError`."""
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            return image.height, image.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        empty = path.is_file() and not path.stat().st_size
        raise damaged(path, "an empty file" if empty else f"cannot be read as a picture ({error})") from error


def _pictures(folder: Path) -> tuple[str, ...]:
    """Names of pictures; interned, since those of ten thousand scenes are the same."""
    names = (name for name in os.listdir(folder) if os.path.splitext(name)[1].lower() in PICTURES)
    return tuple(sys.intern(name) for name in sorted(names) if not name.startswith("."))


def _track(bases: Sequence[Path]) -> Track | None:
    """transforms.json goes before a COLMAP model, and what lies beside the pictures before what lies in the scene."""
    for place in bases:
        if (place / TRANSFORMS).is_file():
            return Track("nerfstudio", (place / TRANSFORMS,))
        if model := next(filter(None, (find_model(place / each) for each in MODELS)), None):
            return Track("colmap", model)
    return None


def _labels(folder: Path, subset: str, scene: str) -> Path | None:
    places = (folder / subset / f"{scene}.sft", folder / f"{scene}.sft")
    return next((path for path in places if path.is_file()), None)
