"""Which scan is in which split. Scans of one room never lie in two."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import xxhash

from extract.errors import DataError

LISTS = ("scannetv2_train.txt", "scannetv2_val.txt")
PLACES = ("", "Tasks/Benchmark", "scans")
"""Folders below the root in which the official lists are looked for, in this order."""
RULE = "official train: rooms with xxh3_64(room) % 10 == 0 are val, the others train; official val is test"
_SCAN = re.compile(r"scene\d{4}_\d{2}")


def room_of(scan: str) -> str:
    """`scene0191` of `scene0191_02`, the third scan of that room."""
    return scan.partition("_")[0]


def find_lists(root: Path) -> list[Path] | None:
    """The official lists of train and val, or nothing if they lie in none of the `PLACES`."""
    for place in PLACES:
        paths = [root / place / name for name in LISTS]
        if all(path.is_file() for path in paths):
            return paths
    return None


def read_splits(paths: Sequence[Path]) -> dict[str, str]:
    """Scan -> `train`, `val` or `test`, by `RULE`, sorted by scan.

    The benchmark's own test scans have no public labels, so its val list is what results are reported on, and a tenth
    of the rooms of its train list is kept back to choose by.

    Raises:
        DataError: a list cannot be read, names no scan, a scan twice, or a room of the other list.
    """
    train, test = (_read(path) for path in paths)
    if both := sorted({room_of(scan) for scan in train} & {room_of(scan) for scan in test}):
        raise DataError(f"{paths[0]} and {paths[1]} share rooms: {', '.join(both[:5])}. Remedy: {_REMEDY}")
    chosen = {scan: "val" if xxhash.xxh3_64_intdigest(room_of(scan).encode()) % 10 == 0 else "train" for scan in train}
    return dict(sorted((chosen | dict.fromkeys(test, "test")).items()))


_REMEDY = "take the lists of github.com/ScanNet/ScanNet, Tasks/Benchmark."


def _read(path: Path) -> list[str]:
    try:
        scans = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Remedy: {_REMEDY}") from error
    strange = [scan for scan in scans if not _SCAN.fullmatch(scan)]
    if strange or not scans or len(set(scans)) < len(scans):
        fault = f"{strange[0]!r} is no scan" if strange else "is empty, or lists a scan twice"
        raise DataError(f"{path}: {fault}. Remedy: {_REMEDY}")
    return scans
