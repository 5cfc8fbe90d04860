"""frame_annotations.jgz and sequence_annotations.jgz: gzipped JSON lists, hundreds of megabytes once they are unpacked.

They are read as a stream, one element after the other: what is not kept costs no memory.
"""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from extract.errors import DataError

MAX_TEXT = 4 << 30
"""An unpacked list that is larger is refused. The largest category of the release has about 0.4 GB."""
MAX_ELEMENT = 1 << 20
"""An element that is larger is refused; one frame has about 1 kB."""
_BLOCK = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODE = json.JSONDecoder().raw_decode
REMEDY = "Remedy: unpack the first archive of this category anew."

_Focal = Annotated[float, Field(gt=0, lt=1e6)]
_Place = Annotated[float, Field(gt=-1e6, lt=1e6)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Row = tuple[float, float, float]
_Side = Annotated[int, Field(gt=0, le=1 << 14)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Picture(_Model):
    """An image: its path below the release, and (height, width)."""

    path: str
    size: tuple[_Side, _Side]


class DepthMap(_Model):
    """16 bits that are a float16, times `scale_adjustment`; valid where the picture `mask_path` is not zero."""

    path: str
    scale_adjustment: _Positive
    mask_path: str | None = None


class Mask(_Model):
    """255 times the probability that a pixel shows the object."""

    path: str


class Viewpoint(_Model):
    """A camera in PyTorch3D's conventions; `extract.datasets.co3d.camera` tells them."""

    R: tuple[_Row, _Row, _Row]
    T: _Row
    focal_length: tuple[_Focal, _Focal]
    principal_point: tuple[_Place, _Place]
    intrinsics_format: Literal["ndc_norm_image_bounds", "ndc_isotropic"] = "ndc_norm_image_bounds"


class Frame(_Model):
    """One element of frame_annotations.jgz."""

    frame_number: int
    image: Picture
    depth: DepthMap | None = None
    mask: Mask | None = None
    viewpoint: Viewpoint | None = None


def elements(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects of a gzipped JSON list, each with its text.

    Raises:
        DataError: the file is missing, truncated, no such list, or unpacks to more than `MAX_TEXT`.
    """
    try:
        with gzip.open(path, "rb") as file:
            yield from _objects(_Text(_blocks(file)))
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing. {REMEDY}") from error
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({type(error).__name__}: {error}). {REMEDY}") from error


def _blocks(file: gzip.GzipFile) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    unpacked = 0
    while block := file.read(_BLOCK):
        unpacked += len(block)
        if unpacked > MAX_TEXT:
            raise ValueError(f"it unpacks to more than {MAX_TEXT} bytes")
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


def _objects(text: _Text) -> Iterator[tuple[dict[str, Any], str]]:
    text.take("[")
    if text.sign() == "]":
        text.take("]")
    else:
        yield text.element()
        while text.take(",]") == ",":
            yield text.element()
    if rest := text.sign():
        raise ValueError(f"the list is over, but {rest!r} follows")


class _Text:
    """Text that arrives in blocks, and how far it is read."""

    def __init__(self, blocks: Iterator[str]) -> None:
        self.blocks = blocks
        self.text, self.at = "", 0

    def sign(self) -> str:
        """The next character that is no white space, which stays unread; empty at the end."""
        while True:
            space = _SPACE.match(self.text, self.at)
            self.at = space.end() if space else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                return ""

    def take(self, signs: str) -> str:
        """The next character, which has to be one of `signs`."""
        found = self.sign()
        if not found or found not in signs:
            raise ValueError(f"a JSON list has {' or '.join(signs)} here, found {found or 'the end'}")
        self.at += 1
        return found

    def element(self) -> tuple[dict[str, Any], str]:
        """The next object and its text."""
        if self.sign() != "{":
            raise ValueError(f"an element of the list is no object: it begins with {self.sign() or 'the end'}")
        while True:
            try:
                found, end = _DECODE(self.text, self.at)
            except json.JSONDecodeError:
                # Cut off by the end of the block, or malformed: more text tells.
                if len(self.text) - self.at > MAX_ELEMENT or not self._more():
                    raise
                continue
            text = self.text[self.at : end]
            self.at = end
            return found, text

    def _more(self) -> bool:
        block = next((block for block in self.blocks if block), "")
        self.text, self.at = self.text[self.at :] + block, 0
        return bool(block)
