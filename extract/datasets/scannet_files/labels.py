"""From the objects of a scan to classes: `<scan>.aggregation.json` and `scannetv2-labels.combined.tsv`."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from extract.datasets.scannet_files.errors import damaged, unreadable
from extract.datasets.scannet_files.vocabularies import Vocabulary
from extract.errors import DataError

TABLE = "scannetv2-labels.combined.tsv"
MAX_INSTANCE = 255
"""Pictures of instances have 8 bits. Value v is object v - 1; 0 is nothing."""
_LARGEST = 1 << 26


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True)

    objectId: int = Field(ge=0)
    label: str


class _Aggregation(BaseModel):
    """The part of an aggregation.json that is read."""

    model_config = ConfigDict(frozen=True)

    segGroups: list[_Group]


def read_table(path: Path, vocabulary: Vocabulary) -> dict[str, int]:
    """Raw category -> class id, for those that have one.

    Raises:
        DataError: the table cannot be read, lacks a column, or puts a category into two classes.
    """
    try:
        rows = list(csv.DictReader(StringIO(_small(path).decode("utf-8-sig")), delimiter="\t"))
        found: dict[str, int] = {}
        for row in rows:
            category, value = row["raw_category"], vocabulary.class_of.get(int(row[vocabulary.column]), 0)
            if found.setdefault(category, value) != value:
                raise _bad_table(path, f"category {category!r} has two classes")
    except OSError as error:
        raise unreadable(path, error) from error
    except (csv.Error, ValueError, KeyError, TypeError) as error:
        raise _bad_table(path, f"raw_category and {vocabulary.column} cannot be read ({error!r})") from error
    if not any(found.values()):
        raise _bad_table(path, "none of its categories has a class")
    return {category: value for category, value in found.items() if value}


def read_objects(path: Path) -> dict[int, str]:
    """Instance id in the pictures -> raw category, of the objects of a scan. Raises `DataError`."""
    try:
        groups = _Aggregation.model_validate_json(_small(path)).segGroups
    except OSError as error:
        raise unreadable(path, error) from error
    except ValidationError as error:
        raise damaged(path, f"not as expected: {error}") from error
    found: dict[int, str] = {}
    for group in groups:
        if found.setdefault(group.objectId + 1, group.label) != group.label:
            raise damaged(path, f"object {group.objectId} has two labels")
    return found


def instance_classes(objects: Mapping[int, str], class_of: Mapping[str, int]) -> UInt8[np.ndarray, " slot"]:
    """Class id of every instance id up to `MAX_INSTANCE`; 0 for an object whose category is in no class."""
    classes = np.zeros(MAX_INSTANCE + 1, np.uint8)
    for instance, category in objects.items():
        if instance <= MAX_INSTANCE:
            classes[instance] = class_of.get(category, 0)
    return classes


def _small(path: Path) -> bytes:
    if path.stat().st_size > _LARGEST:
        raise damaged(path, f"is larger than {_LARGEST} bytes, and no such file of ScanNet is")
    return path.read_bytes()


def _bad_table(path: Path, what: str) -> DataError:
    return DataError(f"{path}: {what}. Remedy: download {TABLE} anew (--label_map of ScanNet's script).")
