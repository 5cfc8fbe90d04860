"""Storage types: how logical values become bytes, with the checks that keep NaN and overflow out of a store."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.errors import ArrayValueError, StoreError

FEATURE_DTYPES = ("float16", "bfloat16", "float32")
_LABEL_DTYPES = ("bool", "uint8", "uint16", "int32", "int64", "float64")


def physical_dtype(logical: str) -> np.dtype[Any]:
    """NumPy dtype of the stored bytes. bfloat16 is kept as its bits in uint16, which every Zarr library reads."""
    if logical not in FEATURE_DTYPES + _LABEL_DTYPES:
        known = ", ".join(FEATURE_DTYPES + _LABEL_DTYPES)
        raise StoreError(f"storage type {logical!r} is unknown. Choose one of {known}.")
    return np.dtype("uint16" if logical == "bfloat16" else logical)


def to_physical(values: NDArray[Any], logical: str, where: str) -> NDArray[Any]:
    """Contiguous little-endian array in the storage type.

    Floating-point values must be finite before and after the cast. bfloat16 rounds to nearest, ties to even.
    Raises `ArrayValueError` naming `where`, with the number of bad values and the remedy.
    """
    physical = physical_dtype(logical)
    if logical not in FEATURE_DTYPES and values.dtype != physical:
        raise ArrayValueError(f"{where}: got dtype {values.dtype}, the store keeps {physical}. Convert it first.")
    if logical in FEATURE_DTYPES and values.dtype.kind != "f":
        raise ArrayValueError(f"{where}: got dtype {values.dtype}, expected floating-point features.")
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise ArrayValueError(
            f"{where}: {bad} of {values.size} values are NaN or infinite. Nothing was written for this clip. "
            "Run the backbone in a wider type (--dtype float32 or bfloat16) and look at the input frames."
        )
    if logical not in FEATURE_DTYPES:
        return np.ascontiguousarray(values)
    with np.errstate(over="ignore"):
        if logical == "bfloat16":
            cast = _bfloat16_bits(values.astype(np.float32, copy=False))
        else:
            cast = np.ascontiguousarray(values.astype(physical, copy=False))
    if not np.isfinite(to_logical(cast, logical)).all():
        raise ArrayValueError(
            f"{where}: the largest magnitude, {np.abs(values).max():.4g}, does not fit {logical}. "
            "Nothing was written for this clip. Store it as --store-dtype bfloat16 or float32."
        )
    return cast


def to_logical(stored: NDArray[Any], logical: str) -> NDArray[Any]:
    """Values as NumPy knows them: bfloat16 bits become float32, everything else is returned as it is."""
    if logical != "bfloat16":
        return stored
    return (stored.astype(np.uint32) << 16).view(np.float32)


def _bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = np.ascontiguousarray(values).view(np.uint32)
    # Round to nearest even: add half of the dropped part, plus one if the kept part is odd.
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
