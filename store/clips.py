"""The clip table: which row of every array is which clip. Frozen before work starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import xxhash
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from store.errors import FormatError


class ClipRow(BaseModel):
    """One clip of a store.

    Attributes:
        row: index on the first axis of every array, for ever.
        id, scene, split: names given by the dataset.
        bank: clip frame numbers that features and targets are kept for.
        n_frames: number of frames of the clip.
        digest: xxh3_128 of the clip's source files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: int
    id: str
    scene: str
    split: str
    bank: tuple[int, ...]
    n_frames: int
    digest: str


_TABLE = TypeAdapter(list[ClipRow])


def clips_json(clips: Sequence[ClipRow]) -> str:
    """The text of `clips.json`: one clip a line, so that people can read and diff it."""
    lines = ",\n".join(json.dumps(clip.model_dump(mode="json"), ensure_ascii=False) for clip in clips)
    return f"[\n{lines}\n]\n"


def clips_digest(clips: Sequence[ClipRow]) -> str:
    """xxh3_128 of the clip table, part of the recipe."""
    return xxhash.xxh3_128_hexdigest(clips_json(clips).encode())


def load_clips(path: Path) -> list[ClipRow]:
    """Read `clips.json`. Raises `FormatError` if it is damaged."""
    try:
        clips = _TABLE.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise FormatError(
            f"{path}: cannot be read as a clip table ({error}). Restore it from a copy of the store."
        ) from error
    if [clip.row for clip in clips] != list(range(len(clips))):
        raise FormatError(f"{path}: rows are not 0, 1, 2 … in order. Restore it from a copy of the store.")
    return clips
