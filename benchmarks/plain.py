"""Plain decoding, which readers are compared with: Pillow for picture files, PyAV for videos, and nothing checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Size = tuple[int, int]
"""(height, width) in pixels."""
Picture = NDArray[np.uint8]
RATE = 30
"""Frames a second of the videos."""


class Plain(Protocol):
    """The pictures of one clip, in its order."""

    def __len__(self) -> int:
        """How many."""

    def size(self) -> Size:
        """Of the pictures as they are stored."""

    def pictures(self, size: Size | None = None) -> Iterator[Picture]:
        """Decode them, and stretch them to `size` (bilinear, anti-aliased) if it is given."""


@dataclass(frozen=True)
class Files:
    """Picture files that are in memory."""

    contents: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.contents)

    def size(self) -> Size:
        """From the header of the first."""
        with Image.open(BytesIO(self.contents[0])) as image:
            return image.height, image.width

    def pictures(self, size: Size | None = None) -> Iterator[Picture]:
        """File by file."""
        for content in self.contents:
            with Image.open(BytesIO(content)) as image:
                yield np.asarray(_stretched(image, size))


@dataclass(frozen=True)
class Film:
    """Frames of a video with a constant rate, from the keyframe before the first of them on."""

    path: Path
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def size(self) -> Size:
        """From the header."""
        with av.open(str(self.path)) as container:
            return container.streams.video[0].height, container.streams.video[0].width

    def pictures(self, size: Size | None = None) -> Iterator[Picture]:
        """Every frame up to the last is decoded, and only these are made RGB."""
        wanted, last = frozenset(self.numbers), self.numbers[-1]
        with av.open(str(self.path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            container.seek(self.numbers[0] * av.time_base // RATE)
            for frame in container.decode(stream):
                number = round((frame.time or 0) * RATE)
                if number in wanted:
                    picture = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                    yield picture if size is None else np.asarray(_stretched(Image.fromarray(picture), size))
                if number >= last:
                    break


def kept(plain: Plain, size: Size) -> Picture:
    """All pictures in one array, as a clip's frames are: (frame, y, x, 3) of `size`."""
    images = np.empty((len(plain), *size, 3), np.uint8)
    for row, picture in enumerate(plain.pictures(None if size == plain.size() else size)):
        images[row] = picture
    return images


def dropped(plain: Plain) -> None:
    """All pictures as they are stored, one after the other."""
    for _ in plain.pictures():
        pass


def _stretched(image: Image.Image, size: Size | None) -> Image.Image:
    return image if size is None else image.resize(size[::-1], Image.Resampling.BILINEAR)
