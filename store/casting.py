"""From values to storage types, with the checks that keep NaN and overflow out of a store. By torch: its casts and
reductions of half precision are ten times as fast as NumPy's, and writing must not be what a GPU waits for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from store.dtypes import FEATURE_DTYPES, INT8_CHANNEL, physical_dtype, to_logical
from store.errors import ArrayValueError

_TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, INT8_CHANNEL: torch.float32}
_LEVELS = 127


def to_physical(values: NDArray[Any], logical: str, where: str) -> NDArray[Any]:
    """Contiguous little-endian array in the storage type; for `int8-channel`, float32 that is yet to be quantised.

    uint16 for `bfloat16` is taken for its bits. What needs no cast is not copied.

    Floating-point values must be finite before and after the cast, which rounds to nearest, ties to even.
    Raises `ArrayValueError` naming `where`, with the number of bad values and the remedy.
    """
    physical = physical_dtype(logical)
    if logical not in FEATURE_DTYPES:
        if values.dtype != physical:
            raise ArrayValueError(f"{where}: got dtype {values.dtype}, the store keeps {physical}. Convert it first.")
        _check_finite(values, where)
        return np.ascontiguousarray(values)
    if logical == "bfloat16" and values.dtype == np.uint16:
        values = np.ascontiguousarray(values)
        if not np.isfinite(_largest(torch.from_numpy(values.view(np.int16)).view(torch.bfloat16))):
            _check_finite(to_logical(values, logical), where)
        return values
    if values.dtype.kind != "f":
        raise ArrayValueError(f"{where}: got dtype {values.dtype}, expected floating-point features.")
    if values.dtype not in (np.float16, np.float32, np.float64):
        values = values.astype(np.float64)  # torch knows no other byte order, and nothing longer
    given = torch.from_numpy(np.ascontiguousarray(values))
    largest = _largest(given)
    if not np.isfinite(largest):
        _check_finite(values, where)
    cast = given.to(_TORCH[logical])
    if cast.dtype != given.dtype and not np.isfinite(_largest(cast)):
        raise ArrayValueError(
            f"{where}: the largest magnitude, {largest:.4g}, does not fit {logical}. "
            "Nothing was written for this clip. Store it as --store-dtype bfloat16 or float32."
        )
    stored: NDArray[Any] = cast.view(torch.uint16).numpy() if logical == "bfloat16" else cast.numpy()
    return stored


def absmax_scale(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale of each channel of a clip for symmetric int8: absmax / 127 over all but the last axis.

    Per channel, because a few channels are far larger than all others; per token they would eat the range of the rest.

    Args:
        values: finite (…, channel).

    Returns:
        (channel,); a channel of zeros has scale 0.
    """
    rows = torch.from_numpy(values).reshape(-1, values.shape[-1])
    scale: NDArray[np.float32] = (torch.maximum(rows.amax(0), -rows.amin(0)) / _LEVELS).numpy()
    # A subnormal scale has too few digits to divide by; such a channel is zero for every purpose.
    scale[scale < np.finfo(np.float32).tiny] = 0
    return scale


def quantise(values: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.int8]:
    """int8 = round(value / scale), to nearest, ties to even, within -127 … 127.

    The error of a value is at most half its channel's scale.

    Args:
        values: finite (…, channel).
        scale: (channel,), from `absmax_scale`.
    """
    steps = torch.from_numpy(scale)
    inverse = torch.where(steps > 0, 1 / steps, 0)
    levels: NDArray[np.int8] = (
        (torch.from_numpy(values) * inverse).round_().clamp_(-_LEVELS, _LEVELS).to(torch.int8).numpy()
    )
    return levels


def _largest(values: torch.Tensor) -> float:
    """Largest magnitude; NaN if there is one."""
    if not values.numel():
        return 0.0
    low, high = torch.aminmax(values)
    return float(torch.maximum(high.double(), -low.double()))


def _check_finite(values: NDArray[Any], where: str) -> None:
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise ArrayValueError(
            f"{where}: {bad} of {values.size} values are NaN or infinite. Nothing was written for this clip. "
            "Run the backbone in a wider type (--dtype float32 or bfloat16) and look at the input frames."
        )
