"""Minimum, maximum, mean and standard deviation of a clip as it is stored, in one pass over blocks that fit a cache."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

_LINE = 1 << 12
"""So many values are added up in float32, by one thread. The number of threads changes no digit."""
_BLOCK = 1 << 19
_SQUARABLE = 1e15
"""The squares of larger values are too much for float32."""


class Statistics(NamedTuple):
    """Of all values of a clip."""

    minimum: float
    maximum: float
    mean: float
    std: float


def statistics(stored: NDArray[Any], dtype: str, scale: NDArray[np.float32] | None = None) -> Statistics:
    """Statistics of the logical values.

    Sums run around the first value, so that a large mean does not swallow the deviation.

    Args:
        stored: contiguous values in the physical type, at least one.
        dtype: logical type.
        scale: of an `int8-channel` array, (channel,).
    """
    values = _tensor(stored, dtype)
    low, high = _extremes(values, scale)
    exact = torch.float32 if _floating(dtype) and max(high, -low) < _SQUARABLE else torch.float64
    width = _LINE if scale is None else len(scale)
    steps = None if scale is None else torch.from_numpy(scale)
    flat = values.reshape(-1)
    origin = float(flat[0]) * (1.0 if scale is None else float(scale[0]))
    buffer = torch.empty(max(1, _BLOCK // width), width, dtype=exact)
    total = squares = 0.0
    start = 0
    while start < len(flat):
        lines = min(len(buffer), (len(flat) - start) // width)
        # What is left over is shorter than a line.
        block = buffer[:lines] if lines else buffer[:1, : len(flat) - start]
        block.copy_(flat[start : start + block.numel()].view(block.shape))
        start += block.numel()
        if steps is not None:
            block.mul_(steps)
        block.sub_(origin)
        total += float(block.sum(1).sum(dtype=torch.float64))
        squares += float(block.square_().sum(1).sum(dtype=torch.float64))
    mean = total / len(flat)
    return Statistics(low, high, mean + origin, math.sqrt(max(0.0, squares / len(flat) - mean * mean)))


def _tensor(stored: NDArray[Any], dtype: str) -> torch.Tensor:
    """The values as torch knows them."""
    if dtype == "bfloat16":
        return torch.from_numpy(stored.view(np.int16)).view(torch.bfloat16)
    if stored.dtype.kind == "u" and stored.dtype.itemsize > 1:
        return torch.from_numpy(stored.astype(np.int64))  # torch cannot compare wide unsigned integers
    return torch.from_numpy(stored)


def _extremes(values: torch.Tensor, scale: NDArray[np.float32] | None) -> tuple[float, float]:
    if scale is None:
        low, high = torch.aminmax(values)
        return float(low), float(high)
    rows = values.reshape(-1, len(scale))  # scales are not negative, so the order within a channel stays
    return float((rows.amin(0).numpy() * scale).min()), float((rows.amax(0).numpy() * scale).max())


def _floating(dtype: str) -> bool:
    return dtype in ("float16", "bfloat16", "float32", "int8-channel")
