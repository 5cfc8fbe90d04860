"""Zarr metadata that may come from a stranger: parsed strictly and bounded before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from store.arrays import GROUP, ArrayInfo
from store.digest import digest_bytes
from store.documents import parse_json
from store.dtypes import INT8_CHANNEL, physical_dtype
from store.errors import FormatError, StoreError
from store.folder import Folder, check_name

ZARR_JSON = "zarr.json"
MOST_CLIP_BYTES = 1 << 36
"""No clip of an array is larger than 64 GiB."""
MOST_COMPRESSED_BYTES = 1 << 32
"""No clip of a compressed array is larger than 4 GiB, since a few kilobytes of a file can become as much."""
MOST_CHUNKS = 1 << 18
_MOST_DIMS = 8
_MOST_LETTERS = 200
_MOST_BYTES = 1 << 24
_MOST_GROUP_BYTES = 1 << 28
_ENCODING = {"name": "default", "configuration": {"separator": "."}}


def read_array(folder: Folder, name: str) -> ArrayInfo | None:
    """Metadata of one array from its own `zarr.json`; `None` for arrays that are not sharded by clip (coordinates)."""
    check_array_name(name)
    file = f"{GROUP}/{name}/{ZARR_JSON}"
    where = f"{folder.url}/{file}"
    content = folder.read(file, _MOST_BYTES)
    return parse_array(name, parse_json(content, where), digest_bytes(content), where)


def check_array_name(name: str) -> None:
    """Raise `FormatError` for a name that no array may have."""
    check_name(name)
    if "/" in name or len(name) > _MOST_LETTERS:
        raise FormatError(f"{name!r:.240}: arrays have names of at most {_MOST_LETTERS} characters, without slashes.")


def read_group(folder: Folder) -> tuple[dict[str, Any], str]:
    """The group's `zarr.json`, with the consolidated metadata if there is any, and its xxh3_128."""
    where = f"{folder.url}/{GROUP}/{ZARR_JSON}"
    try:
        content = folder.read(f"{GROUP}/{ZARR_JSON}", _MOST_GROUP_BYTES)
    except OSError as error:
        raise FormatError(
            f"{where}: cannot be read ({error.strerror}). Restore it from a copy of the store."
        ) from error
    return parse_json(content, where), digest_bytes(content)


def parse_array(name: str, metadata: Mapping[str, Any], digest: str, where: str) -> ArrayInfo | None:
    """Parse the metadata of one array; `None` if it is not sharded by clip.

    Raises:
        FormatError: it is not an array of a feature store, or of an impossible size.
    """
    check_array_name(name)
    try:
        if metadata["node_type"] != "array" or metadata["codecs"][0]["name"] != "sharding_indexed":
            return None
        _check(len(metadata["codecs"]) == 1, "codecs around the shards")
        sharding = metadata["codecs"][0]["configuration"]
        shape = _sizes(metadata["shape"])
        shard = _sizes(metadata["chunk_grid"]["configuration"]["chunk_shape"])
        chunk = _sizes(sharding["chunk_shape"])
        codecs = sharding["codecs"]
        attrs = metadata.get("attributes", {})
        dims = tuple(metadata["dimension_names"])
        dtype = attrs.get("logical_dtype", metadata["data_type"])
        _check(shard == (1, *shape[1:]), "a shard is not one clip")
        _check(len(chunk) == len(shape) and chunk[0] == 1, "an inner chunk is not part of one clip")
        _check(all(size % part == 0 for size, part in zip(shape, chunk, strict=True)), "chunks do not fill the shape")
        _check(len(dims) == len(shape) and all(isinstance(dim, str) for dim in dims), "dimension_names")
        _check(dims[0] == "clip", "the first dimension is not clip")
        _check(metadata["chunk_key_encoding"] == _ENCODING, "chunk_key_encoding")
        _check(sharding.get("index_location", "end") == "end", "index_location")
        _check([codec["name"] for codec in sharding["index_codecs"]] == ["bytes", "crc32c"], "index_codecs")
        _check(_little(sharding["index_codecs"][0]), "index_codecs are not little-endian")
        _check(all(_little(codec) for codec in codecs if codec["name"] == "bytes"), "codecs are not little-endian")
        physical = physical_dtype(dtype)
        _check(metadata["data_type"] == physical.name, f"data_type {metadata['data_type']!r} of a {dtype} array")
        _check(math.prod(shape[1:]) * physical.itemsize <= MOST_CLIP_BYTES, "a clip is larger than 64 GiB")
        names = tuple(codec["name"] for codec in codecs)
        _check(all(isinstance(codec, str) for codec in names), "codecs")
        _check(dtype != INT8_CHANNEL or dims[-1] not in ("clip", "frame"), "int8-channel without an axis of channels")
        _check("site" not in attrs or _ordered(attrs), "depth and noise of a tap")
        info = ArrayInfo(name, shape, dtype, dims, dict(attrs), chunk[1:], names, metadata, digest)
        plain = not {"zstd", "blosc"}.intersection(names)
        _check(plain or info.clip_bytes <= MOST_COMPRESSED_BYTES, "a compressed clip is larger than 4 GiB")
        _check(info.chunks_per_clip <= MOST_CHUNKS, "a clip has too many chunks")
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, StoreError) as error:
        raise FormatError(
            f"{where}: not the metadata of an array of a feature store ({type(error).__name__}: {error}). "
            "Restore it from a copy of the store, or see docs/format.md."
        ) from error
    return info


def _sizes(values: Any) -> tuple[int, ...]:
    """A shape: 1 to 8 positive integers that no file system could exceed."""
    _check(isinstance(values, list) and 1 <= len(values) <= _MOST_DIMS, f"a shape is {values!r:.80}")
    for value in values:
        _check(type(value) is int and 0 < value < 2**40, f"a size is {value!r:.80}")
    return tuple(values)


def _ordered(attrs: Mapping[str, Any]) -> bool:
    """Whether a tap says where it stands among the others."""
    noise = attrs.get("noise") or {"sigma": 0}
    return type(attrs["depth"]) is int and type(noise.get("sigma", 0)) in (int, float)


def _little(codec: Mapping[str, Any]) -> bool:
    return bool(codec.get("configuration", {}).get("endian", "little") == "little")


def _check(right: bool, problem: str) -> None:
    if not right:
        raise ValueError(problem)
