"""The formats that features are exported to: what is in a file, and how it is written."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from store.clips import ClipRow
from store.errors import StoreError
from store.feature_store import FeatureStore

_SAFETENSORS = {
    "bool": "BOOL",
    "uint8": "U8",
    "uint16": "U16",
    "int32": "I32",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
}


@dataclass(frozen=True)
class Part:
    """One file of an export.

    Attributes:
        file: its name.
        rows: the clips in it.
        dtypes: array -> type of its values in the file.
    """

    file: str
    rows: Sequence[int]
    dtypes: Mapping[str, str]


@runtime_checkable
class Format(Protocol):
    """How features are laid out for a tool."""

    dtypes: Mapping[str, str]
    """Storage type -> type in the files, where they differ."""

    def about(self, clips_per_shard: int) -> dict[str, Any]:
        """Further facts that make two exports different."""

    def parts(
        self, store: FeatureStore, rows: Sequence[int], dtypes: Mapping[str, str], clips_per_shard: int
    ) -> list[Part]:
        """The files. Raises `StoreError` for names that the format cannot hold."""

    def write(self, file: BinaryIO, store: FeatureStore, part: Part) -> None:
        """Write one file, the same bytes for the same values."""


class Safetensors:
    """`<clip id>.safetensors`: a tensor for each array, in the type that it is stored in.

    Written by hand (https://github.com/huggingface/safetensors#format), since NumPy has no bfloat16 and a clip need not
    be in memory as a whole.
    """

    dtypes: Mapping[str, str] = {}

    def about(self, clips_per_shard: int) -> dict[str, Any]:
        """See `Format.about`."""
        return {}

    def parts(
        self, store: FeatureStore, rows: Sequence[int], dtypes: Mapping[str, str], clips_per_shard: int
    ) -> list[Part]:
        """See `Format.parts`."""
        if "__metadata__" in dtypes:
            raise StoreError("__metadata__: no tensor of safetensors can have this name. Leave the array out.")
        return [Part(f"{store.clips[row].id}.safetensors", [row], dtypes) for row in rows]

    def write(self, file: BinaryIO, store: FeatureStore, part: Part) -> None:
        """See `Format.write`."""
        row = part.rows[0]
        clip = store.clips[row]
        attributes = {name: dict(store.info(name).attrs) for name in part.dtypes}
        about = {
            "store": store.name,
            "fingerprint": store.fingerprint,
            "clip": clip.model_dump_json(),
            "attributes": json.dumps(attributes, sort_keys=True),
        }
        # The widest types first, so that every tensor lies at a multiple of its item size.
        names = sorted(part.dtypes, key=lambda name: (-_item_size(part.dtypes[name]), name))
        header: dict[str, Any] = {"__metadata__": about}
        start = 0
        for name in names:
            shape, dtype = _shape(store, name, clip), part.dtypes[name]
            stop = start + prod(shape) * _item_size(dtype)
            header[name] = {"dtype": _SAFETENSORS[dtype], "shape": shape, "data_offsets": [start, stop]}
            start = stop
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            file.write(np.ascontiguousarray(_values(store, name, row, part.dtypes[name])).reshape(-1).data)


class Npy:
    """`<array>/<clip id>.npy`: NumPy reads it, also memory-mapped."""

    dtypes: Mapping[str, str] = {"bfloat16": "float32"}

    def about(self, clips_per_shard: int) -> dict[str, Any]:
        """See `Format.about`."""
        return {}

    def parts(
        self, store: FeatureStore, rows: Sequence[int], dtypes: Mapping[str, str], clips_per_shard: int
    ) -> list[Part]:
        """See `Format.parts`."""
        return [
            Part(f"{name}/{store.clips[row].id}.npy", [row], {name: dtype})
            for row in rows
            for name, dtype in dtypes.items()
        ]

    def write(self, file: BinaryIO, store: FeatureStore, part: Part) -> None:
        """See `Format.write`."""
        for name, dtype in part.dtypes.items():
            np.save(file, _values(store, name, part.rows[0], dtype), allow_pickle=False)


class WebDataset:
    """`000000.tar`, …: a sample for each clip, of `<key>.json` and `<key>.<array>.npy`.

    The tools take what stands before the first dot as the key of a sample, so dots in clip ids are written as `%2E`
    (and `%` as `%25`); the id itself is in the JSON. They give the names of arrays in lower case.
    """

    dtypes: Mapping[str, str] = {"bfloat16": "float32"}

    def about(self, clips_per_shard: int) -> dict[str, Any]:
        """See `Format.about`."""
        return {"clips_per_shard": clips_per_shard}

    def parts(
        self, store: FeatureStore, rows: Sequence[int], dtypes: Mapping[str, str], clips_per_shard: int
    ) -> list[Part]:
        """See `Format.parts`."""
        if clips_per_shard < 1:
            raise StoreError(f"--clips-per-shard {clips_per_shard}: at least one clip must be in a tar file.")
        if len({name.lower() for name in dtypes}) < len(dtypes):
            raise StoreError(
                "The names of some arrays differ only in case, which webdataset drops. Select one of them."
            )
        starts = range(0, len(rows), clips_per_shard)
        return [
            Part(f"{number:06d}.tar", rows[start : start + clips_per_shard], dtypes)
            for number, start in enumerate(starts)
        ]

    def write(self, file: BinaryIO, store: FeatureStore, part: Part) -> None:
        """See `Format.write`."""
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for row in part.rows:
                clip = store.clips[row]
                key = sample_key(clip.id)
                about = {"fingerprint": store.fingerprint, **clip.model_dump(mode="json")}
                _add(tar, f"{key}.json", json.dumps(about, ensure_ascii=False).encode())
                for name, dtype in part.dtypes.items():
                    content = io.BytesIO()
                    np.save(content, _values(store, name, row, dtype), allow_pickle=False)
                    _add(tar, f"{key}.{name}.npy", content.getbuffer())


FORMATS: dict[str, Format] = {"safetensors": Safetensors(), "npy": Npy(), "webdataset": WebDataset()}


def sample_key(clip: str) -> str:
    """The key of a webdataset sample for a clip id: `urllib.parse.unquote` of it is the id."""
    return clip.replace("%", "%25").replace(".", "%2E")


def _add(tar: tarfile.TarFile, name: str, content: bytes | memoryview) -> None:
    """Add a file of the year 1970 that belongs to nobody, so that the same values give the same bytes."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _shape(store: FeatureStore, name: str, clip: ClipRow) -> tuple[int, ...]:
    info = store.info(name)
    return (len(clip.bank), *info.shape[2:]) if info.framed else info.shape[1:]


def _values(store: FeatureStore, name: str, row: int, dtype: str) -> NDArray[Any]:
    """Values of a clip in the type of the file; bfloat16 as its bits."""
    if dtype == "bfloat16":
        bits = np.empty(_shape(store, name, store.clips[row]), np.uint16)
        return store.read(name, row, out=bits)
    return store.read(name, row).astype(dtype, copy=False)


def _item_size(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
