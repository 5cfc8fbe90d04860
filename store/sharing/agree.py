"""What two copies of one clip to one place agree on: a shard that is there and whole stays, whoever put it there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from store.arrays import ArrayInfo
from store.clips import ClipRow
from store.digest import digest_bytes
from store.errors import CorruptShardError, FormatError, MissingClipError
from store.fallback import read_whole
from store.folder import Folder
from store.records import ShardRecord
from store.shard import OpenShard
from store.sharing.fetch import most_bytes


def agree(
    folder: Folder, clip: ClipRow, unit: Sequence[ArrayInfo], ours: Mapping[str, ShardRecord]
) -> tuple[dict[str, ShardRecord], dict[str, bool]]:
    """What to commit of a clip of which another writer put something else in a place of ours.

    What is whole stays. Scales and values that are multiples of them are of one writer.

    Args:
        folder: of the destination.
        clip: the clip.
        unit: an array, behind its scales if it has some.
        ours: array -> record of our shard.

    Returns:
        The records to commit, and array -> whether a damaged shard is in the way, of the shards that we have to put.

    Raises:
        FormatError: the scales of another writer are there, and not its values.
    """
    records: dict[str, ShardRecord] = {}
    missing: dict[str, bool] = {}
    scale: NDArray[Any] | None = None
    for info in unit:
        there = True
        try:
            found = _find(folder, info, clip, scale)
        except FileNotFoundError:
            there, found = False, None
        name = info.name
        theirs = differ(records, ours)
        if found is not None and found[0].xxh3_128 == ours[name].xxh3_128 and not theirs:
            records[name], scale = ours[name], found[1]
        elif found is not None and not missing:
            records[name], scale = found
        elif theirs:
            raise FormatError(
                f"{folder.url}/{unit[0].shard(clip.row)}: are scales of another copy with other values, and its values "
                f"of {name} are {'damaged' if there else 'not there yet'}. Run the same command again once that copy "
                "is complete; if nobody completes it, delete this file first."
            )
        else:  # values that lie behind lost scales can be multiples of anything
            records[name], missing[name] = ours[name], there
    return records, missing


def _find(
    folder: Folder, info: ArrayInfo, clip: ClipRow, scale: NDArray[Any] | None
) -> tuple[ShardRecord, NDArray[Any]] | None:
    """The shard that is there, every checksum compared, and its values; `None` if it is damaged."""
    from store.statistics import statistics

    name = info.shard(clip.row)
    try:
        content = folder.read(name, most_bytes(info))
    except FormatError:  # longer than any shard of the array
        return None
    try:
        values = _values(content, info, clip, f"{folder.url}/{name}")
        found = statistics(values, info.dtype, scale)
        return ShardRecord(size=len(content), xxh3_128=digest_bytes(content), **found._asdict()), values
    except (CorruptShardError, MissingClipError, ValidationError):  # the last: NaN or infinity
        return None


def _values(content: bytes, info: ArrayInfo, clip: ClipRow, where: str) -> NDArray[Any]:
    shard, held = OpenShard(_Content(content), info, where), len(clip.bank)
    if not info.direct:
        return read_whole(shard, info, clip.row, held)
    positions = range(held) if info.framed else range(1)
    shard.check(positions, info.chunk_bytes)
    values = np.empty((held, *info.shape[2:]) if info.framed else info.shape[1:], info.physical)
    shard.read(positions, values if info.framed else values[None], verify=True)
    return values


class _Content:
    """The bytes of a shard. See `store.folder.ShardFile`."""

    def __init__(self, content: bytes) -> None:
        self._content, self.size = memoryview(content), len(content)

    def read_into(self, offset: int, buffers: Sequence[memoryview | bytearray]) -> int:
        """See `ShardFile.read_into`."""
        start = offset
        for buffer in buffers:
            part = self._content[start : start + len(buffer)]
            memoryview(buffer)[: len(part)] = part
            start += len(part)
        return start - offset


def differ(records: Mapping[str, ShardRecord], ours: Mapping[str, ShardRecord]) -> bool:
    """Whether a record is not the one that we would have committed."""
    return any(record.xxh3_128 != ours[name].xxh3_128 for name, record in records.items() if name in ours)
