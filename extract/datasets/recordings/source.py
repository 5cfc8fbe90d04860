"""The frames of one recording, in the order of time: picture files, or one video."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from extract.datasets.recordings.pictures import PICTURES, picture_size, read_colours
from extract.datasets.recordings.video import FORMATS, Index, read_frames, read_index, video_size
from extract.errors import DataError


class Source(ABC):
    """Frames, numbered from 0. Making one reads nothing."""

    @property
    @abstractmethod
    def total(self) -> int:
        """Number of frames."""

    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(height, width) of the first frame as seen. Raises `DataError`."""

    @abstractmethod
    def decode(self, numbers: Sequence[int]) -> Iterator[tuple[int, UInt8[np.ndarray, "y x 3"], bool]]:
        """Number, picture, and whether it had to be turned to be upright, of each of these frames, once, ascending.

        Raises:
            DataError: a frame cannot be decoded.
        """

    @abstractmethod
    def files(self, numbers: Sequence[int]) -> list[Path]:
        """What these frames are decoded from."""


class Pictures(Source):
    """One file per frame."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    @property
    def total(self) -> int:
        """Number of files."""
        return len(self.paths)

    def size(self) -> tuple[int, int]:
        """From the header of the first file."""
        return picture_size(self.paths[0])

    def decode(self, numbers: Sequence[int]) -> Iterator[tuple[int, UInt8[np.ndarray, "y x 3"], bool]]:
        """File by file."""
        for number in sorted(set(numbers)):
            image, turned = read_colours(self.paths[number])
            yield number, image, turned

    def files(self, numbers: Sequence[int]) -> list[Path]:
        """Those of these frames."""
        return [self.paths[number] for number in sorted(set(numbers))]


class Video(Source):
    """One file for all frames. They are counted when they are first asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def index(self) -> Index:
        """Times of all frames."""
        return read_index(self.path)

    @property
    def total(self) -> int:
        """Number of frames that are shown. Raises `DataError`."""
        return len(self.index.frames)

    def size(self) -> tuple[int, int]:
        """From the first frame."""
        return video_size(self.path)

    def decode(self, numbers: Sequence[int]) -> Iterator[tuple[int, UInt8[np.ndarray, "y x 3"], bool]]:
        """From the keyframes before them."""
        return read_frames(self.path, self.index, numbers)

    def files(self, numbers: Sequence[int]) -> list[Path]:
        """The video."""
        return [self.path]


def is_picture(path: Path) -> bool:
    """By its ending; hidden files are none."""
    return path.suffix.lower() in PICTURES and not path.name.startswith(".")


def is_video(path: Path) -> bool:
    """By its ending; hidden files are none."""
    return path.suffix.lower() in FORMATS and not path.name.startswith(".")


def in_order(paths: Sequence[Path]) -> list[Path]:
    """By name, numbers in names by their value: frame_9 before frame_10."""
    return sorted(paths, key=lambda path: ([_part(text) for text in re.split(r"([0-9]+)", path.name)], path.name))


def _part(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() and text.isascii() else (-1, text)


def inside(folder: Path, name: str, where: str) -> Path:
    """`folder / name` for a name that a file gave. Raises `DataError` if it leads out of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if (
        path.is_absolute()
        or ".." in path.parts
        or ":" in name.split("/", maxsplit=1)[0]
        or "\0" in name
        or not path.parts
    ):
        raise DataError(
            f"{where}: names {name!r}, which is not inside {folder}. Remedy: write paths relative to that folder."
        )
    return folder / path
