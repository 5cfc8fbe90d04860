"""Commits: the records that make clips exist. One file, one writer, never changed."""

from __future__ import annotations

import os
import re
import socket
import time
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from store.documents import seal, unseal
from store.errors import FormatError
from store.folder import Folder
from store.recipe import Digest
from store.records import ArrayName, ShardRecord

COMMITS = "commits"
NAME_PATTERN = r"^[0-9]{6,12}-[0-9a-f]{12,32}\.json$"
"""Row, and something that no other commit has."""
_MOST_BYTES = 1 << 26


class Commit(BaseModel):
    """One clip, complete on disk for the arrays it names.

    Attributes:
        row, clip: which clip.
        n_frames: number of bank frames written.
        arrays: one record per array.
        metadata: xxh3_128 of the `zarr.json` of each array, without which its bytes have no meaning.
        writer: host and process that wrote it.
        time: seconds since the epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: Annotated[int, Field(ge=0)]
    clip: str
    n_frames: int
    arrays: dict[ArrayName, ShardRecord]
    metadata: dict[ArrayName, Digest]
    writer: str
    time: Annotated[float, Field(allow_inf_nan=False)]


def writer_name() -> str:
    """Who writes: host and process."""
    return f"{socket.gethostname()}-{os.getpid()}"


def write_commit(
    folder: Folder, row: int, clip: str, n_frames: int, arrays: Mapping[str, ShardRecord], metadata: Mapping[str, str]
) -> str:
    """Publish a clip whose shards are on disk. Returns the name of the commit, which never meets that of another."""
    commit = Commit(
        row=row,
        clip=clip,
        n_frames=n_frames,
        arrays=dict(arrays),
        metadata=dict(metadata),
        writer=writer_name(),
        time=time.time(),
    )
    name = f"{row:06d}-{uuid.uuid4().hex[:12]}.json"
    folder.write(f"{COMMITS}/{name}", [seal(commit.model_dump(mode="json"))])
    return name


def commit_names(folder: Folder) -> list[str] | None:
    """Names of all commits, sorted; `None` where a folder cannot be listed."""
    names = folder.names(COMMITS)
    return None if names is None else [name for name in names if re.fullmatch(NAME_PATTERN, name)]


def taken_back(folder: Folder, merged: Iterable[str], listed: Iterable[str]) -> list[str]:
    """Commits that a manifest has merged and that are there no more, sorted.

    A listing alone does not tell: that of a network file system may be older than the manifest.
    """

    def gone(name: str) -> bool:
        try:
            folder.read(f"{COMMITS}/{name}", _MOST_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return True
        return False

    return [name for name in sorted(set(merged).difference(listed)) if gone(name)]


def row_of(name: str) -> int:
    """The row that a commit is of, from its name."""
    return int(name.partition("-")[0])


def read_commit(folder: Folder, name: str) -> Commit:
    """One commit. Raises `FormatError` if it is damaged, `FileNotFoundError` if it was taken back."""
    where = f"{folder.url}/{COMMITS}/{name}"
    content = unseal(folder.read(f"{COMMITS}/{name}", _MOST_BYTES), where)
    try:
        commit = Commit.model_validate(content)
    except ValidationError as error:
        raise FormatError(f"{where}: not a commit ({error}).") from error
    if commit.row != row_of(name):
        raise FormatError(f"{where}: is named as a commit of row {row_of(name)}, but is of row {commit.row}.")
    return commit


def read_commits(folder: Folder, names: Iterable[str], threads: int = 8) -> list[Commit]:
    """Commits by name, oldest first. One that was taken back since it was listed is left out."""

    def read(name: str) -> Commit | None:
        try:
            return read_commit(folder, name)
        except FileNotFoundError:
            return None
        except FormatError as error:
            raise FormatError(f"{error} {_REMEDY}") from error

    with ThreadPoolExecutor(threads, thread_name_prefix="commits") as pool:
        commits = [commit for commit in pool.map(read, names) if commit is not None]
    return sorted(commits, key=lambda commit: (commit.time, commit.writer))


_REMEDY = "Or run `python -m store verify STORE --drop`: the clip of a damaged commit is then extracted again."
