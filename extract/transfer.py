"""Copies between main memory and the device, beside the computation where the device can: all that is CUDA's own.

On CUDA a copy that is to run beside the computation needs a stream of its own and page-locked main memory. That comes
from torch's caching host allocator, which keeps what is given back, and gives it out again once no copy uses it: this
is the pool, and as many buffers are in use as clips are on their way to the disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor


class Transfer:
    """Plain copies: they are done when a call returns. For CPUs, and for devices that are no CUDA devices.

    Args:
        device: that computes.

    Attributes:
        ahead: batches of clips whose copies may be under way while the next is computed.
    """

    ahead = 0

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def stage(self, frames: Tensor) -> Tensor:
        """Bring frames to memory that can be sent from. Any thread may call it."""
        return frames

    def send(self, frames: Tensor) -> Tensor:
        """Staged frames on the device, for the work that is given to it from now on."""
        return frames.to(self.device)

    def filled(self, shape: Sequence[int], value: float, dtype: torch.dtype) -> Tensor:
        """Main memory to fetch into."""
        return torch.full(tuple(shape), value, dtype=dtype)

    def fetch(self, values: Tensor, into: Tensor | None = None) -> Tensor:
        """Values of the device in main memory, not to be looked at before `mark` was waited for.

        Args:
            values: contiguous.
            into: where to put them; of their shape and type.
        """
        return values.cpu() if into is None else into.copy_(values)

    def mark(self) -> Callable[[], None]:
        """Function that waits for all that was fetched until now."""
        return _done

    def now(self) -> Any:
        """The moment at which the device has done what it was given until now; `seconds` tells it."""
        return time.perf_counter()

    def seconds(self, moment: Any) -> float:
        """A moment on the clock of `time.perf_counter`. Waits for it."""
        return float(moment)


class CudaTransfer(Transfer):
    """Copies on two side streams, one for each direction, that make neither the computation nor the caller wait."""

    ahead = 1

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._up, self._down = _stream(device), _stream(device)
        self._zero = _event(timing=True)
        torch.cuda.synchronize(device)
        self._zero.record(torch.cuda.current_stream(device))
        self._zero_s = time.perf_counter()

    def stage(self, frames: Tensor) -> Tensor:
        """Page-locked."""
        return frames.pin_memory()

    def send(self, frames: Tensor) -> Tensor:
        """Copied on a side stream; work that is given to the current stream from now on comes after."""
        compute = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._up):
            there = frames.to(self.device, non_blocking=True)
        compute.wait_stream(self._up)
        there.record_stream(compute)  # it was allocated on the side stream, which must not get it back before
        return there

    def filled(self, shape: Sequence[int], value: float, dtype: torch.dtype) -> Tensor:
        """Page-locked."""
        return torch.full(tuple(shape), value, dtype=dtype, pin_memory=True)

    def fetch(self, values: Tensor, into: Tensor | None = None) -> Tensor:
        """Copied on a side stream after the work that the current stream was given until now."""
        if into is None:
            into = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        self._down.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._down):
            into.copy_(values, non_blocking=True)
        values.record_stream(self._down)  # nor may the computation write to it before it is copied
        return into

    def mark(self) -> Callable[[], None]:
        """Waits without holding the interpreter."""
        event = _event(timing=False)
        event.record(self._down)
        return lambda: event.synchronize()

    def now(self) -> Any:
        """An event of the current stream."""
        event = _event(timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def seconds(self, moment: Any) -> float:
        """By the device's clock, from the moment at which this was made."""
        moment.synchronize()
        return self._zero_s + float(self._zero.elapsed_time(moment)) / 1000


@cache
def transfer(device: torch.device) -> Transfer:
    """The copies of a device; streams are made once."""
    return CudaTransfer(device) if device.type == "cuda" else Transfer(device)


def _stream(device: torch.device) -> Any:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _event(*, timing: bool) -> Any:
    return torch.cuda.Event(enable_timing=timing)  # type: ignore[no-untyped-call]


def _done() -> None:
    """Nothing is under way."""
