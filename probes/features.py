"""Stored features of clips, and the check that keeps NaN and infinity out of training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from probes.errors import NonFiniteError
from probes.inputs import TRAIN, Inputs
from probes.standardise import Standardiser, fit_standardiser
from store.reading.slot import ClipRead

_EXPONENTS = {"float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000}
"""Bits of the exponent; a number whose exponent is all ones is NaN or infinite (IEEE 754)."""


def read_features(
    inputs: Inputs, tap: str, row: int, frames: Sequence[int] | None = None
) -> Float[Tensor, "frame y x channel"]:
    """Features of one clip, float16 or float32. Raises `NonFiniteError` with the clip's name."""
    values = inputs.features.read(tap, row, frames)
    _require_finite(inputs, tap, row, frames, values, values.dtype.name)
    return torch.from_numpy(values)


def standardiser_of(inputs: Inputs, tap: str, stride: int) -> Standardiser:
    """Channel moments of a tap over training clips: every `stride`-th bank frame, starting elsewhere in each clip."""
    return fit_standardiser(
        read_features(inputs, tap, row, list(range(row % stride, len(inputs.clip(row).bank), stride)))
        for row in inputs.rows[TRAIN]
    )


def finite_check(inputs: Inputs) -> Callable[[ClipRead], None]:
    """A check for `Ring`. It raises `NonFiniteError` with the clip's name.

    A frame is looked at when it is first read; what a store holds of a clip never changes.
    """
    finite: set[tuple[str, int, int]] = set()

    def check(read: ClipRead) -> None:
        dtype = inputs.features.info(read.tap).dtype
        if read.scale is None:
            for position, frame in enumerate(read.frames):
                if (read.tap, read.row, frame) not in finite:
                    values = read.values[position : position + 1]
                    _require_finite(inputs, read.tap, read.row, [frame], values, dtype)
                    finite.add((read.tap, read.row, frame))
        else:  # int8 is finite, its scale need not be
            scale = np.broadcast_to(read.scale, (1, 1, 1, len(read.scale)))
            _require_finite(inputs, read.tap, read.row, read.frames, scale, "float32")

    return check


def _require_finite(
    inputs: Inputs, tap: str, row: int, frames: Sequence[int] | None, values: NDArray[Any], dtype: str
) -> None:
    """`values` are those of `frames`, in `dtype` or its bits."""
    bits = values.view(f"u{values.itemsize}")
    exponent = bits.dtype.type(_EXPONENTS[dtype])
    for position, frame in enumerate(bits):  # a frame fits into the cache
        if (frame & exponent).max() == exponent:
            where = np.argwhere((frame & exponent) == exponent)[0].tolist()
            at = [position if frames is None else frames[position], *where]
            clip = inputs.clip(row)
            checks = " and ".join(f"`python -m store verify {url} --deep`" for url in inputs.features.urls)
            raise NonFiniteError(
                f"{inputs.features.name}: tap {tap}, clip {clip.id} (row {row}): NaN or infinity at (frame, y, x, "
                f"channel) = {at}. Check with {checks}, and extract "
                "the tap again, with --store-dtype bfloat16 if its values are too large for float16."
            )
