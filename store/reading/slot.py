"""The memory of one batch, and how a clip gets into it without a copy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from store.arrays import ArrayInfo
from store.readable import Readable
from store.reading.batch import FeatureBatch

Request = Sequence[tuple[int, Sequence[int]]]
"""What one batch shall hold: a row of the clip table and positions in its bank, for each clip; equally many for all."""


class ClipRead(NamedTuple):
    """One clip of one tap that is to be read: the unit of work.

    Attributes:
        tap, row, frames: what to read.
        values: where to, (frame, y, x, channel) of the physical dtype.
        scale: where its scales go, (channel,) float32, if the tap is `int8-channel`.
    """

    tap: str
    row: int
    frames: Sequence[int]
    values: NDArray[Any]
    scale: NDArray[np.float32] | None

    def run(self, features: Readable, verify: bool | None) -> None:
        """Read. Raises what `FeatureStore.read` raises."""
        features.read(self.tap, self.row, self.frames, out=self.values, verify=verify)
        if self.scale is not None:
            self.scale[...] = features.scale(self.tap, self.row)


class Slot:
    """Memory for one batch of several taps.

    Args:
        arrays: the taps.
        clips, frames: room for so many clips of so many frames.
        pin: page-locked memory, which a CUDA device copies from at full speed and in the background.

    Raises:
        ValueError: there is no room for anything, or an array has no frames.
    """

    def __init__(self, arrays: Sequence[ArrayInfo], clips: int, frames: int, *, pin: bool = False) -> None:
        for name, size in (("clips", clips), ("frames", frames), ("number of taps", len(arrays))):
            if size < 1:
                raise ValueError(f"{name}: must be at least 1, got {size}")
        for array in arrays:
            if not array.framed:
                raise ValueError(
                    f"{array.name}: has no axis `frame`, only {array.dims}. Read it with FeatureStore.read."
                )
        self._arrays, self._clips, self._frames = list(arrays), clips, frames
        sizes = [clips * frames * math.prod(array.shape[2:]) * array.physical.itemsize for array in arrays]
        self._memory = [torch.empty(size, dtype=torch.uint8, pin_memory=pin) for size in sizes]
        # A request may have more clips of fewer frames, so there is room for one scale per frame.
        self._scales = {a.name: torch.empty(clips * frames, a.shape[-1], pin_memory=pin) for a in arrays if a.scale}

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return sum(memory.nbytes for memory in (*self._memory, *self._scales.values()))

    def lay_out(self, request: Request) -> tuple[FeatureBatch, list[ClipRead]]:
        """The batch as views of this memory, and what must be read for it to hold what was asked for.

        Raises:
            ValueError: the request is empty, has unequal numbers of frames, or is larger than the slot.
        """
        frames = [list(positions) for _, positions in request]
        counts = sorted({len(positions) for positions in frames})
        if len(counts) != 1 or counts[0] == 0:
            raise ValueError(f"request: all clips must have equally many frames, at least 1; got {counts} in {request}")
        clips, count = len(frames), counts[0]
        if clips * count > self._clips * self._frames:
            raise ValueError(
                f"request: {clips} clips of {count} frames do not fit into {self._clips} of {self._frames}. "
                "Make the ring with larger `clips` or `frames`."
            )
        batch = FeatureBatch(torch.tensor([row for row, _ in request]), torch.tensor(frames), {}, {})
        reads: list[ClipRead] = []
        for array, memory in zip(self._arrays, self._memory, strict=True):
            shape = (clips, count, *array.shape[2:])
            used = memory[: math.prod(shape) * array.physical.itemsize]
            batch.features[array.name] = used.view(_torch_dtype(array)).view(shape)
            values = used.numpy().view(array.physical).reshape(shape)
            scales = self._scale_rows(batch, array.name, clips)
            reads += [
                ClipRead(array.name, row, positions, place, scale)
                for (row, _), positions, place, scale in zip(request, frames, values, scales, strict=True)
            ]
        return batch, reads

    def _scale_rows(self, batch: FeatureBatch, tap: str, clips: int) -> Sequence[NDArray[np.float32] | None]:
        if tap not in self._scales:
            return [None] * clips
        scales: Tensor = self._scales[tap][:clips]
        batch.scales[tap] = scales
        return list(scales.numpy())


def _torch_dtype(array: ArrayInfo) -> torch.dtype:
    return torch.bfloat16 if array.dtype == "bfloat16" else torch.from_numpy(np.empty(0, array.physical)).dtype
