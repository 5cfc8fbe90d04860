"""Looking at the files of a store one by one: which shards lie in an array's folder, and what a file really holds."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

import xxhash

from store.folder import LocalShard

MOST_BYTES = 1 << 28
"""No document of a store is larger than 256 MiB."""
_SHARD = re.compile(r"c\.(0|[1-9][0-9]{0,11})((?:\.0)*)")
_BLOCK = 1 << 20


class ShardFolder:
    """The shards of one array, as they lie on disk; links are not followed. Empty if there is no folder.

    Args:
        folder: of the array.
        ndim: its axes, which the names of its shards spell out; `None` if nothing sound says it: as in the first name.

    Attributes:
        files: row -> state of the file.
    """

    def __init__(self, folder: Path, ndim: int | None) -> None:
        self.folder = folder
        self.files: dict[int, os.stat_result] = {}
        zeros = None if ndim is None else ".0" * (ndim - 1)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    match = _SHARD.fullmatch(entry.name)
                    if match and zeros in (None, match[2]):
                        zeros = match[2]
                        with suppress(FileNotFoundError):  # taken away since it was listed
                            self.files[int(match[1])] = entry.stat(follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            pass
        self._zeros = zeros or ""

    def path(self, row: int) -> Path:
        """Where the shard of a row is, or would be."""
        return self.folder / f"c.{row}{self._zeros}"


def digest_of(path: Path) -> str:
    """xxh3_128 of a file's bytes, in memory that does not grow with it. Raises `OSError`, also for a link."""
    file = LocalShard(path)
    state, block = xxhash.xxh3_128(), memoryview(bytearray(_BLOCK))
    offset = 0
    while got := file.read_into(offset, [block]):
        state.update(block[:got])
        offset += got
    return state.hexdigest()


def is_file(state: os.stat_result) -> bool:
    """Whether it is a plain file: no link, folder or device."""
    return stat.S_ISREG(state.st_mode)
