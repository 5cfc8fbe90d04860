"""The small arrays beside the taps (`bank_frame`, `span`), which come whole, in one chunk each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.arrays import GROUP
from store.creation import Coordinate
from store.digest import digest_bytes
from store.documents import parse_json
from store.errors import FormatError
from store.feature_store import FeatureStore
from store.metadata import ZARR_JSON

_MOST_BYTES = 1 << 28
_MOST_SIZE = 1 << 40
_CODECS = (["bytes"], ["bytes", "zstd"])
_KINDS = "biuf"


def read_coordinates(store: FeatureStore) -> dict[str, Coordinate]:
    """All coordinates of a store by name, each compared with the digest in `recipe.json`.

    Raises:
        FormatError: a file is missing or damaged, or it is stored in a way that docs/format.md does not know.
    """
    names = sorted(name.split("/")[1] for name in store.head.files if _is_metadata(name))
    return {name: _read(store, name) for name in names}


def _is_metadata(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 3 and parts[0] == GROUP and parts[2] == ZARR_JSON


def _read(store: FeatureStore, name: str) -> Coordinate:
    file = f"{GROUP}/{name}/{ZARR_JSON}"
    where = f"{store.folder.url}/{file}"
    metadata = parse_json(_checked(store, file), where)
    try:
        key, values = _prepare(metadata)
        chunk = f"{GROUP}/{name}/{key}"
        if chunk in store.head.files:  # Zarr does not write a chunk that holds nothing but the fill value
            _decode(_checked(store, chunk), [codec["name"] for codec in metadata["codecs"]], values)
        dims = tuple(metadata["dimension_names"])
        if len(dims) != values.ndim or not all(isinstance(dim, str) for dim in dims):
            raise ValueError(f"dimension_names are {dims!r:.80}")
        return Coordinate(values, dims, str(metadata.get("attributes", {}).get("description", "")))
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, RuntimeError) as error:
        raise FormatError(
            f"{where}: cannot be read as a coordinate ({type(error).__name__}: {error}). "
            "Restore it from a copy of the store, or see docs/format.md."
        ) from error


def _prepare(metadata: Mapping[str, Any]) -> tuple[str, NDArray[Any]]:
    """Key of the only chunk, and an array of its shape full of the fill value."""
    shape, dtype = metadata["shape"], np.dtype(metadata["data_type"])
    if dtype.kind not in _KINDS or not all(type(size) is int and 0 <= size < _MOST_SIZE for size in shape):
        raise ValueError(f"shape {shape!r:.80} of {dtype}")
    if math.prod(shape) * dtype.itemsize > _MOST_BYTES:
        raise ValueError(f"larger than {_MOST_BYTES} bytes")
    if metadata["chunk_grid"]["configuration"]["chunk_shape"] != [max(1, size) for size in shape]:
        raise ValueError("not one chunk")
    if [codec["name"] for codec in metadata["codecs"]] not in _CODECS:
        raise ValueError(f"codecs are {metadata['codecs']!r:.200}")
    if metadata["codecs"][0].get("configuration", {}).get("endian", "little") != "little":
        raise ValueError("not little-endian")
    if metadata["chunk_key_encoding"]["name"] != "default":
        raise ValueError("chunk_key_encoding")
    separator = metadata["chunk_key_encoding"].get("configuration", {}).get("separator", "/")
    return str(separator).join(["c", *("0" for _ in shape)]), np.full(shape, metadata["fill_value"], dtype)


def _decode(content: bytes, codecs: list[str], values: NDArray[Any]) -> None:
    if "zstd" in codecs:
        from numcodecs.zstd import Zstd

        raw = np.empty(values.nbytes, np.uint8)  # bounds what a hostile chunk can decompress to
        Zstd().decode(content, out=raw)
        content = raw.tobytes()
    values[...] = np.frombuffer(content, values.dtype).reshape(values.shape)


def _checked(store: FeatureStore, file: str) -> bytes:
    where = f"{store.folder.url}/{file}"
    try:
        content = store.folder.read(file, _MOST_BYTES)
    except FileNotFoundError as error:
        raise FormatError(f"{where}: missing. Restore it from a copy of the store.") from error
    if digest_bytes(content) != store.head.files[file]:
        raise FormatError(f"{where}: is not the one that recipe.json names. Restore it from a copy of the store.")
    return content
