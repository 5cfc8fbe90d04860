"""Commits: the records that make clips exist. One file, one writer, never changed."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from store.errors import FormatError
from store.files import write_text_atomic


class ShardRecord(BaseModel):
    """What was written for one array of one clip: the file's size and xxh3_128, and statistics of the values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    xxh3_128: str
    minimum: float
    maximum: float
    mean: float
    std: float


class Commit(BaseModel):
    """One clip, complete on disk for the arrays it names.

    Attributes:
        row, clip: which clip.
        n_frames: number of bank frames written.
        arrays: one record per array.
        writer: host, process and run that wrote it.
        time: seconds since the epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: int
    clip: str
    n_frames: int
    arrays: dict[str, ShardRecord]
    writer: str
    time: float


Committed = dict[int, dict[str, ShardRecord]]


def writer_name() -> str:
    """Who writes: host and process."""
    return f"{socket.gethostname()}-{os.getpid()}"


def write_commit(directory: Path, row: int, clip: str, n_frames: int, arrays: Mapping[str, ShardRecord]) -> Commit:
    """Publish a clip. Its shards must be on disk before. The file name never meets that of another writer."""
    commit = Commit(row=row, clip=clip, n_frames=n_frames, arrays=dict(arrays), writer=writer_name(), time=time.time())
    name = f"{row:06d}-{uuid.uuid4().hex[:12]}.json"
    write_text_atomic(directory / name, commit.model_dump_json(indent=1))
    return commit


def load_commits(directory: Path) -> list[Commit]:
    """All commits, oldest first, so that a later one for the same shard wins."""
    commits = []
    for path in sorted(directory.glob("*.json")):
        try:
            commits.append(Commit.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            raise FormatError(
                f"{path}: cannot be read as a commit ({error}). Delete it; its clip is then extracted again."
            ) from error
    return sorted(commits, key=lambda commit: (commit.time, commit.writer))


def merge(commits: list[Commit]) -> Committed:
    """row -> array -> record, the latest commit winning."""
    merged: Committed = {}
    for commit in commits:
        merged.setdefault(commit.row, {}).update(commit.arrays)
    return merged
