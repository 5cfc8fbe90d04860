"""Storage types: the names of how values are kept, the NumPy type on disk, and the way back to values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.errors import StoreError

INT8_CHANNEL = "int8-channel"
FEATURE_DTYPES = ("float16", "bfloat16", "float32", INT8_CHANNEL)
_LABEL_DTYPES = ("bool", "uint8", "uint16", "int32", "int64", "float64")


def physical_dtype(logical: str) -> np.dtype[Any]:
    """NumPy dtype of the stored values.

    bfloat16 is kept as its bits in uint16, `int8-channel` as int8 beside an array of scales, so that every Zarr library
    reads both.
    """
    if logical not in FEATURE_DTYPES + _LABEL_DTYPES:
        known = ", ".join(FEATURE_DTYPES + _LABEL_DTYPES)
        raise StoreError(f"storage type {logical!r} is unknown. Choose one of {known}.")
    return np.dtype({"bfloat16": "uint16", INT8_CHANNEL: "int8"}.get(logical, logical))


def dequantise(stored: NDArray[np.int8], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 values of `int8-channel`: int8 (…, channel) times scale (channel,)."""
    values: NDArray[np.float32] = stored * scale
    return values


def to_logical(stored: NDArray[Any], logical: str) -> NDArray[Any]:
    """Values as NumPy knows them: bfloat16 bits become float32, everything else is returned as it is."""
    if logical != "bfloat16":
        return stored
    return np.asarray(stored.astype(np.uint32) << 16).view(np.float32)
