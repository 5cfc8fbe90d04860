"""Pooling and normalising the features of a branch, by torch: a tenth of the time that NumPy takes.

One row of the pooled grid at a time, so that what is computed in between stays in the cache. Memory for a whole clip
would be new at every call, and clearing it takes longer than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_SLAB = 1 << 22
"""Bytes of float32 values in work at once, if one row of one frame is not more."""


def project(
    stored: NDArray[Any],
    dtype: str,
    scale: NDArray[np.float32] | None,
    places: Sequence[NDArray[np.float32]],
    eps: float | None,
) -> None:
    """Write features of a branch where they belong in fused ones.

    Pooling is `torch.nn.functional.adaptive_avg_pool2d`: cell j of y is the mean of cells floor(j Y / y) to
    ceil((j + 1) Y / y) - 1 of Y, along both axes. Then comes `torch.nn.functional.layer_norm` over channels, without
    weight and bias: (x - mean) / sqrt(variance + eps), the variance biased (Ba, Kiros & Hinton 2016, arXiv:1607.06450).

    Args:
        stored: C-contiguous (frame, Y, X, channel) in the physical type.
        dtype: logical type.
        scale: of an `int8-channel` array, (channel,).
        places: (frame, y, x, channel) each, y <= Y and x <= X, of any strides.
        eps: of the LayerNorm; `None` leaves it out.
    """
    values = torch.from_numpy(stored.view(np.int16)).view(torch.bfloat16) if dtype == "bfloat16" else _tensor(stored)
    steps = None if scale is None else _tensor(scale)
    by_grid: dict[tuple[int, ...], list[Tensor]] = {}
    for place in places:
        by_grid.setdefault(place.shape[1:3], []).append(_tensor(place))
    for (rows, columns), outs in by_grid.items():
        for frames, row, slab in _slabs(values, rows):
            cells = slab.float() if steps is None else slab * steps
            if slab.shape[1:3] != (1, columns):  # channels last for torch, as they lie in memory
                cells = F.adaptive_avg_pool2d(cells.permute(0, 3, 1, 2), (1, columns)).permute(0, 2, 3, 1)
            if eps is not None:
                cells = F.layer_norm(cells, cells.shape[-1:], eps=eps)
            for out in outs:
                out[frames, row : row + 1].copy_(cells)


def _slabs(values: Tensor, rows: int) -> Iterator[tuple[slice, int, Tensor]]:
    """Some frames, a row of the pooled grid, and what it is made of: (frame, a few rows, X, channel)."""
    count, height, width, channels = values.shape
    tallest = -(-height // rows) + 1
    step = max(1, _SLAB // (4 * tallest * width * channels))
    for start in range(0, count, step):
        frames = slice(start, min(start + step, count))
        for row in range(rows):
            yield frames, row, values[frames, row * height // rows : -(-(row + 1) * height // rows)]


def _tensor(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(values)
