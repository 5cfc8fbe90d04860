"""The manifest: all commits of a store in two files, so that it opens at once however many clips it has.

`manifest.json` is small and sealed; it names a table of fixed-size records, one per (array, clip), of which only the
arrays that are asked for are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from store.commits import NAME_PATTERN
from store.digest import digest_bytes
from store.documents import seal, unseal
from store.errors import CorruptShardError, FormatError
from store.folder import Folder, ShardFile
from store.recipe import Digest
from store.records import ArrayName, FileRecord, ShardRecord

MANIFEST = "manifest.json"
_MOST_BYTES = 1 << 28

RECORD = np.dtype(
    [("size", "<u8"), ("xxh3_128", "V16"), ("minimum", "<f8"), ("maximum", "<f8"), ("mean", "<f8"), ("std", "<f8")]
)
"""One entry of the table, 56 bytes; a size of 0 means that nothing is committed."""


class Table(FileRecord):
    """The file of records: C order (array, clip), arrays in the order of their names."""

    file: Annotated[str, Field(pattern=r"^manifest-[0-9a-f]{32}\.table$")]


class Manifest(BaseModel):
    """What `manifest.json` says.

    Attributes:
        fingerprint: of the store.
        clips: length of the clip table.
        arrays: array name -> xxh3_128 of its `zarr.json`, sorted by name.
        group: xxh3_128 of the group's `zarr.json` with the consolidated metadata of all arrays.
        commits: names of the commits that the table contains, sorted.
        table: the file of records.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = 2
    fingerprint: Digest
    clips: Annotated[int, Field(gt=0)]
    arrays: dict[ArrayName, Digest]
    group: Digest
    commits: tuple[Annotated[str, Field(pattern=NAME_PATTERN)], ...]
    table: Table


class Merged(NamedTuple):
    """A manifest, and its table, which stays open: it can be read even when a later `finalize` has replaced it."""

    manifest: Manifest
    table: ShardFile
    where: str

    def records(self, array: str) -> NDArray[Any]:
        """The records of one array, (clip,) of `RECORD`. Raises `FormatError` if they cannot be read."""
        length = RECORD.itemsize * self.manifest.clips
        content = bytearray(length)
        offset = list(self.manifest.arrays).index(array) * length
        try:
            got = self.table.read_into(offset, [memoryview(content)])
        except OSError as error:
            raise FormatError(f"{self.where}: its table cannot be read ({error.strerror}). {_REMEDY}") from error
        if got != length:
            raise FormatError(f"{self.where}: its table ends early. {_REMEDY}")
        return np.frombuffer(content, RECORD)


def load_manifest(folder: Folder, fingerprint: str, n_clips: int) -> Merged | None:
    """Read `manifest.json`; `None` if there is none. Raises `FormatError` if it is damaged or of another store."""
    where = f"{folder.url}/{MANIFEST}"
    for last in (False, True):
        try:
            content = folder.read(MANIFEST, _MOST_BYTES)
        except FileNotFoundError:
            return None
        manifest = _parse(content, where, fingerprint, n_clips)
        try:
            return Merged(manifest, folder.open(manifest.table.file, manifest.table), where)
        except CorruptShardError as error:
            if last:  # the first time, `finalize` may have put another pair in place between the two reads
                raise FormatError(f"{where}: its table is missing or damaged: {error} {_REMEDY}") from error
    raise AssertionError("the loop returns or raises")


def _parse(content: bytes, where: str, fingerprint: str, n_clips: int) -> Manifest:
    try:
        manifest = Manifest.model_validate(unseal(content, where))
    except ValidationError as error:
        raise FormatError(f"{where}: not a manifest ({error}). {_REMEDY}") from error
    if (manifest.fingerprint, manifest.clips) != (fingerprint, n_clips):
        raise FormatError(
            f"{where}: belongs to the store {manifest.fingerprint} of {manifest.clips} clips, "
            f"but this one is {fingerprint} of {n_clips}. {_REMEDY}"
        )
    if manifest.table.size != RECORD.itemsize * n_clips * len(manifest.arrays):
        raise FormatError(f"{where}: its table has {manifest.table.size} bytes, which is no whole table. {_REMEDY}")
    return manifest


def write_manifest(
    folder: Folder,
    fingerprint: str,
    n_clips: int,
    arrays: Mapping[str, str],
    group: str,
    commits: Sequence[str],
    records: Mapping[int, Mapping[str, ShardRecord]],
) -> Manifest:
    """Write the table, then the manifest that names it. A reader sees the old pair or the new one.

    Args:
        folder: of the store.
        fingerprint, n_clips, group: as in `Manifest`.
        arrays: array name -> xxh3_128 of its `zarr.json`.
        commits: names of the commits that `records` come from.
        records: row -> array -> record.
    """
    content = _pack(sorted(arrays), n_clips, records)
    digest = digest_bytes(content)
    table = Table(size=len(content), xxh3_128=digest, file=f"manifest-{digest}.table")
    manifest = Manifest(
        fingerprint=fingerprint,
        clips=n_clips,
        arrays=dict(sorted(arrays.items())),
        group=group,
        commits=tuple(sorted(commits)),
        table=table,
    )
    folder.write(table.file, [content])
    folder.write(MANIFEST, [seal(manifest.model_dump(mode="json"))])
    return manifest


def unpack(record: np.void, where: str) -> ShardRecord:
    """One entry of the table. Raises `FormatError` if it is impossible."""
    try:
        return ShardRecord(
            size=int(record["size"]),
            xxh3_128=bytes(record["xxh3_128"]).hex(),
            minimum=float(record["minimum"]),
            maximum=float(record["maximum"]),
            mean=float(record["mean"]),
            std=float(record["std"]),
        )
    except ValidationError as error:
        raise FormatError(f"{where}: an entry of the table is damaged ({error}). {_REMEDY}") from error


def _pack(names: Sequence[str], n_clips: int, records: Mapping[int, Mapping[str, ShardRecord]]) -> bytes:
    table = np.zeros((len(names), n_clips), RECORD)
    column = {name: position for position, name in enumerate(names)}
    for row, arrays in records.items():
        for name, record in arrays.items():
            if name not in column:
                raise FormatError(
                    f"array {name}: is committed, but its zarr.json is missing. Restore it from a copy of the store."
                )
            table[column[name], row] = (
                record.size,
                bytes.fromhex(record.xxh3_128),
                record.minimum,
                record.maximum,
                record.mean,
                record.std,
            )
    return table.tobytes()


_REMEDY = "Run `python -m store finalize STORE` to write it again, or restore it from a copy of the store."
