"""Arrays of a store: what is asked for (`ArraySpec`), what lies on disk (`ArrayInfo`), and the metadata between them.

The metadata is plain Zarr v3 written by zarr-python: shard = clip, inner chunk = frame, inner codecs `[bytes, crc32c]`
(labels: `[bytes, zstd, crc32c]`), key separator `.`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from store.dtypes import INT8_CHANNEL, physical_dtype
from store.recipe import canonical_json

GROUP = "features.zarr"
ZSTD_LEVEL = 3
SCALE = "~scale"
"""Ending of the array that holds the scales of an `int8-channel` array."""


@dataclass(frozen=True)
class ArraySpec:
    """An array to create.

    Attributes:
        name: array name; a tap for features.
        shape: shape of one clip. The first axis is `frame` if `dims` starts with it.
        dtype: logical storage type.
        dims: dimension names of one clip, as many as `shape`.
        attrs: JSON attributes kept beside the array.
        compressed: zstd, for labels. Features do not compress (docs/decisions/001-store-format.md).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    compressed: bool = False

    @property
    def clip_bytes(self) -> int:
        """Bytes of one clip before compression."""
        return math.prod(self.shape) * physical_dtype(self.dtype).itemsize

    @property
    def stored_attrs(self) -> dict[str, Any]:
        """The attributes on disk: those asked for, and the logical type where Zarr has no name for it."""
        marks: dict[str, Any] = {} if self.dtype == physical_dtype(self.dtype).name else {"logical_dtype": self.dtype}
        return {**self.attrs, **marks} | ({"scale": self.name + SCALE} if self.dtype == INT8_CHANNEL else {})


@dataclass(frozen=True)
class ArrayInfo:
    """An array on disk, as its `zarr.json` says.

    Attributes:
        name, dtype, dims, attrs: as in `ArraySpec`, `dims` starting with `clip`.
        shape: (clip, …).
        chunk: shape of an inner chunk, without the clip axis.
        codecs: names of the inner codecs.
        metadata: the parsed `zarr.json`.
        digest: xxh3_128 of the `zarr.json`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]
    attrs: Mapping[str, Any]
    chunk: tuple[int, ...]
    codecs: tuple[str, ...]
    metadata: Mapping[str, Any] = field(repr=False)
    digest: str

    @cached_property
    def framed(self) -> bool:
        """Whether the first axis of a clip is its bank frames."""
        return len(self.dims) > 1 and self.dims[1] == "frame"

    @cached_property
    def direct(self) -> bool:
        """Whether our reader can read it; otherwise zarr-python does."""
        whole = (1, *self.shape[2:]) if self.framed else self.shape[1:]
        return self.codecs == ("bytes", "crc32c") and self.chunk == whole

    @cached_property
    def chunks_per_clip(self) -> int:
        """Number of inner chunks in a shard."""
        return math.prod(size // chunk for size, chunk in zip(self.shape[1:], self.chunk, strict=True))

    @cached_property
    def clip_bytes(self) -> int:
        """Bytes of a clip of full length before compression."""
        return math.prod(self.shape[1:]) * self.physical.itemsize

    @cached_property
    def chunk_bytes(self) -> int:
        """Bytes of one inner chunk before compression."""
        return math.prod(self.chunk) * self.physical.itemsize

    @cached_property
    def physical(self) -> np.dtype[Any]:
        """NumPy dtype of the stored values."""
        return physical_dtype(self.dtype)

    @cached_property
    def is_tap(self) -> bool:
        """Whether the array holds features."""
        return "site" in self.attrs

    @cached_property
    def scale(self) -> str | None:
        """The array that holds the scales, for `int8-channel`."""
        return self.name + SCALE if self.dtype == INT8_CHANNEL else None

    def shard(self, row: int) -> str:
        """Name of the file of one clip."""
        return shard_name(self.name, row, len(self.shape))

    def spec(self, dtype: str | None = None) -> ArraySpec:
        """The specification that makes this array again, in another storage type if given."""
        attrs = {name: value for name, value in self.attrs.items() if name not in ("logical_dtype", "scale")}
        return ArraySpec(self.name, self.shape[1:], dtype or self.dtype, self.dims[1:], attrs, "zstd" in self.codecs)


def shard_name(array: str, row: int, axes: int) -> str:
    """Name of the file of one clip in an array of so many axes, the clip's included: Zarr chunk key, separator `.`."""
    return f"{GROUP}/{array}/c.{row}{'.0' * (axes - 1)}"


def identity(array: ArraySpec | ArrayInfo) -> dict[str, Any]:
    """What two arrays of one name must share for their values to mean the same: shape, type, dimensions, attributes.

    Of an array on disk also how a shard is laid out, so that shards can be exchanged. A specification leaves that open:
    who joins a store writes as the array there says.
    """
    spec = array.spec() if isinstance(array, ArrayInfo) else array
    facts: dict[str, Any] = {
        "shape": [int(size) for size in spec.shape],
        "dtype": spec.dtype,
        "dims": list(spec.dims),
        "attributes": dict(spec.attrs),
    }
    return facts | ({"chunk": list(array.chunk), "codecs": list(array.codecs)} if isinstance(array, ArrayInfo) else {})


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Names under which two identities differ. Numbers as in `tap_fingerprint`: 1 and 1.0 are not the same."""
    return [name for name in a if canonical_json(a[name]) != canonical_json(b[name])]


def create_arrays(group_path: Path, specs: Sequence[ArraySpec], n_clips: int) -> None:
    """Write the metadata of new arrays into an existing Zarr group. No data is written."""
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    group = zarr.open_group(str(group_path), mode="r+", zarr_format=3)
    for spec in specs:
        inner = (1, 1, *spec.shape[1:]) if spec.dims[:1] == ("frame",) else (1, *spec.shape)
        group.create_array(
            spec.name,
            shape=(n_clips, *spec.shape),
            shards=(1, *spec.shape),
            chunks=inner,
            dtype=physical_dtype(spec.dtype),
            compressors=[ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()] if spec.compressed else [Crc32cCodec()],
            fill_value=0,
            dimension_names=("clip", *spec.dims),
            chunk_key_encoding={"name": "default", "separator": "."},
            attributes=spec.stored_attrs,
            config={"write_empty_chunks": True},
        )


def with_scales(specs: Sequence[ArraySpec]) -> list[ArraySpec]:
    """The arrays asked for, and one of scales after each that is `int8-channel`."""
    arrays = []
    for spec in specs:
        arrays.append(spec)
        if spec.dtype == INT8_CHANNEL:
            attrs = {"description": f"value = int8 * scale, per channel and clip, of {spec.name}"}
            arrays.append(ArraySpec(spec.name + SCALE, spec.shape[-1:], "float32", spec.dims[-1:], attrs))
    return arrays
