"""How large the records of a store are, by making some; and how many clips the readers' limits allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from store import ClipRow, clips, manifest
from store.commits import Commit
from store.documents import seal
from store.manifest import RECORD, Manifest, Table
from store.reading import coordinates
from store.records import ShardRecord

DIGEST = "0" * 32


class Limit(NamedTuple):
    """How many clips one store can have, and what says so."""

    clips: int
    what: str


def commit_bytes(arrays: Sequence[str], number: int) -> int:
    """Of the commits of so many clips, each of all arrays."""
    record = ShardRecord(size=27_525_124, xxh3_128=DIGEST, minimum=-1 / 3, maximum=1 / 3, mean=1 / 3, std=1 / 3)
    commit = Commit(
        row=number - 1,
        clip=f"clip-{number - 1:07d}",
        n_frames=20,
        arrays=dict.fromkeys(arrays, record),
        metadata=dict.fromkeys(arrays, DIGEST),
        writer="host-12345",
        time=1.7e9 + 1 / 3,
    )
    return number * len(seal(commit.model_dump(mode="json")))


def table_bytes(arrays: int, number: int) -> int:
    """Of the table of records."""
    return RECORD.itemsize * arrays * number


def manifest_bytes(arrays: Sequence[str], number: int) -> int:
    """Of the manifest, which names every commit."""
    one, two = (_manifest(arrays, number, names) for names in (1, 2))
    return one + (number - 1) * (two - one)


def clip_table_bytes(bank: Sequence[int], n_frames: int, number: int) -> int:
    """Of `clips.json`."""
    rows = [
        ClipRow(
            row=number - 1,
            id=f"clip-{number - 1:07d}",
            scene=f"clip-{number - 1:07d}",
            split="train",
            bank=tuple(bank),
            n_frames=n_frames,
            digest=DIGEST,
        )
    ] * 2
    one, two = (len(clips.seal_clips(rows[:names])) for names in (1, 2))
    return one + (number - 1) * (two - one)


def limits(bank: Sequence[int], n_frames: int) -> list[Limit]:
    """What the readers allow, the least first."""
    many = 1_000_000
    of_manifest, of_table = manifest_bytes(["blocks.20@t502"], many), clip_table_bytes(bank, n_frames, many)
    span = 2 * np.dtype(np.int32).itemsize * len(bank)
    found = [
        Limit(coordinates._MOST_BYTES // span, f"the coordinate `span`: {coordinates._MOST_BYTES:,} bytes"),
        Limit(many * clips._MOST_BYTES // of_table, f"{clips.CLIPS}: {clips._MOST_BYTES:,} bytes"),
        Limit(many * manifest._MOST_BYTES // of_manifest, f"{manifest.MANIFEST}: {manifest._MOST_BYTES:,} bytes"),
    ]
    return sorted(found)


def _manifest(arrays: Sequence[str], number: int, names: int) -> int:
    size = table_bytes(len(arrays), number)
    document = Manifest(
        fingerprint=DIGEST,
        clips=number,
        arrays=dict.fromkeys(arrays, DIGEST),
        group=DIGEST,
        commits=tuple(f"{number - 1:06d}-{k:012x}.json" for k in range(names)),
        table=Table(size=size, xxh3_128=DIGEST, file=f"manifest-{DIGEST}.table"),
    )
    return len(seal(document.model_dump(mode="json")))
