"""The clip table: which row of every array is which clip. Frozen before work starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from store.digest import digest_bytes, digest_text
from store.documents import seal_text
from store.errors import FormatError
from store.folder import Folder
from store.recipe import FileName, canonical_json

CLIPS = "clips.json"
_MOST_BYTES = 1 << 30


class ClipRow(BaseModel):
    """One clip of a store.

    Attributes:
        row: index on the first axis of every array, for ever.
        id, scene, split: names given by the dataset, each safe as a file name.
        bank: clip frame numbers that features and targets are kept for.
        n_frames: number of frames of the clip.
        digest: xxh3_128 of the clip's source files.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: int
    id: FileName
    scene: FileName
    split: FileName
    bank: Annotated[tuple[int, ...], Field(min_length=1)]
    n_frames: int
    digest: str


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    clips: list[ClipRow]
    xxh3_128: str


def seal_clips(clips: Sequence[ClipRow]) -> bytes:
    """The content of `clips.json`: one clip a line, so that people can read and diff it."""
    lines = ",\n".join(f"  {json.dumps(clip.model_dump(mode='json'), ensure_ascii=False)}" for clip in clips)
    return seal_text(f'{{\n "clips": [\n{lines}\n ]\n}}')


def clips_digest(clips: Sequence[ClipRow]) -> str:
    """xxh3_128 of all clips without their banks, part of the recipe."""
    return digest_text(canonical_json([clip.model_dump(mode="json", exclude={"bank"}) for clip in clips]))


def common_bank(clips: Sequence[ClipRow]) -> tuple[int, ...] | str:
    """The bank of all clips if it is one, else the xxh3_128 of all banks. Part of the recipe."""
    banks = [list(clip.bank) for clip in clips]
    return clips[0].bank if all(bank == banks[0] for bank in banks) else digest_text(canonical_json(banks))


def load_clips(folder: Folder, digest: str | None) -> list[ClipRow]:
    """Read `clips.json`, of which the head of the store says the digest. Raises `FormatError` if it is damaged."""
    where = f"{folder.url}/{CLIPS}"
    try:
        content = folder.read(CLIPS, _MOST_BYTES)
        if digest_bytes(content) != digest:
            raise FormatError(f"{where}: is not the one that recipe.json names. Restore it from a copy of the store.")
        clips = _Table.model_validate_json(content).clips
    except (OSError, ValidationError) as error:
        raise FormatError(
            f"{where}: cannot be read as a clip table ({error}). Restore it from a copy of the store."
        ) from error
    if len({clip.id for clip in clips}) < len(clips):
        raise FormatError(f"{where}: two clips have the same id. Restore it from a copy of the store.")
    if [clip.row for clip in clips] != list(range(len(clips))) or not clips:
        raise FormatError(f"{where}: rows are not 0, 1, 2 … in order. Restore it from a copy of the store.")
    return clips
