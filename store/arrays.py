"""Arrays of a store: what is asked for (`ArraySpec`), what lies on disk (`ArrayInfo`), and the metadata between them.

The metadata is plain Zarr v3 written by zarr-python: shard = clip, inner chunk = frame, inner codecs `[bytes, crc32c]`
(labels: `[bytes, zstd, crc32c]`), key separator `.`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from store.dtypes import physical_dtype
from store.errors import FormatError

ZSTD_LEVEL = 3


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
        return int(np.prod(self.shape)) * physical_dtype(self.dtype).itemsize


@dataclass(frozen=True)
class ArrayInfo:
    """An array on disk, as its `zarr.json` says.

    Attributes:
        name, dtype, dims, attrs: as in `ArraySpec`, `dims` starting with `clip`.
        shape: (clip, …).
        chunk: shape of an inner chunk, without the clip axis.
        compressed: whether inner chunks are zstd-compressed.
        direct: whether our reader can read it; otherwise zarr-python does.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]
    attrs: Mapping[str, Any]
    chunk: tuple[int, ...]
    compressed: bool
    direct: bool

    @property
    def framed(self) -> bool:
        """Whether the array has one inner chunk per frame."""
        return len(self.dims) > 1 and self.dims[1] == "frame"

    @property
    def chunks_per_clip(self) -> int:
        """Number of inner chunks in a shard."""
        return int(np.prod([size // chunk for size, chunk in zip(self.shape[1:], self.chunk, strict=True)]))

    @property
    def physical(self) -> np.dtype[Any]:
        """NumPy dtype of the stored bytes."""
        return physical_dtype(self.dtype)

    @property
    def is_tap(self) -> bool:
        """Whether the array holds features."""
        return "site" in self.attrs


def shard_path(group: Path, array: str, row: int, ndim: int) -> Path:
    """File of one clip of one array: Zarr chunk key with separator `.`."""
    return group / array / ".".join(["c", str(row), *["0"] * (ndim - 1)])


def create_arrays(group_path: Path, specs: Sequence[ArraySpec], n_clips: int) -> None:
    """Write the metadata of new arrays into an existing Zarr group. No data is written."""
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    group = zarr.open_group(str(group_path), mode="r+", zarr_format=3)
    for spec in specs:
        inner = (1, 1, *spec.shape[1:]) if spec.dims[:1] == ("frame",) else (1, *spec.shape)
        attrs = dict(spec.attrs)
        if spec.dtype == "bfloat16":
            attrs["logical_dtype"] = "bfloat16"
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
            attributes=attrs,
            config={"write_empty_chunks": True},
        )


def load_arrays(group_path: Path) -> dict[str, ArrayInfo]:
    """All clip arrays of a group, from their own `zarr.json` (never from consolidated metadata, which may be older)."""
    arrays = {}
    for metadata in sorted(group_path.glob("*/zarr.json")):
        info = _array_info(metadata)
        if info is not None:
            arrays[info.name] = info
    return arrays


def _array_info(path: Path) -> ArrayInfo | None:
    """Parse one array's metadata; `None` for arrays that are not sharded by clip (coordinates)."""
    try:
        meta = json.loads(path.read_bytes())
        if meta["node_type"] != "array" or meta["codecs"][0]["name"] != "sharding_indexed":
            return None
        shape = tuple(meta["shape"])
        shard = tuple(meta["chunk_grid"]["configuration"]["chunk_shape"])
        sharding = meta["codecs"][0]["configuration"]
        chunk = tuple(sharding["chunk_shape"])
        attrs = meta.get("attributes", {})
        codecs = [codec["name"] for codec in sharding["codecs"]]
        dtype, dims = attrs.get("logical_dtype", meta["data_type"]), tuple(meta["dimension_names"])
        little = sharding["codecs"][0].get("configuration", {}).get("endian", "little") == "little"
        regular = (
            shard == (1, *shape[1:])
            and meta["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "."}}
            and sharding.get("index_location", "end") == "end"
            and [codec["name"] for codec in sharding["index_codecs"]] == ["bytes", "crc32c"]
            and len(meta["codecs"]) == 1
            and little
        )
        physical_dtype(dtype)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise FormatError(f"{path}: not Zarr v3 array metadata of a feature store ({error!r}).") from error
    direct = regular and codecs == ["bytes", "crc32c"]
    return ArrayInfo(path.parent.name, shape, dtype, dims, attrs, chunk[1:], "zstd" in codecs, direct)
