"""Records of files: what was written, so that anyone can tell whether it still is."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from store.digest import DIGEST_PATTERN

ArrayName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@=+~-]{0,199}$")]
"""A name that stays in its folder when it becomes part of a path."""


class FileRecord(BaseModel):
    """A file as it was written: `size` in bytes and the xxh3_128 of its content, 32 hexadecimal digits."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: Annotated[int, Field(gt=0, lt=2**63)]
    xxh3_128: Annotated[str, Field(pattern=DIGEST_PATTERN)]


class ShardRecord(FileRecord):
    """What was written for one array of one clip.

    Attributes:
        minimum, maximum, mean, std: of the values as they are stored (bfloat16 and int8 decoded).
    """

    minimum: float
    maximum: float
    mean: float
    std: float
