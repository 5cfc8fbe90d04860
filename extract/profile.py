"""Where the time of a run goes: spans of what its threads do, and of what the device does. Free while not recorded."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extract.transfer import Transfer

RUN, DECODE, FRAMES, SEND, ENCODE, DENOISE = "run", "decode", "wait for frames", "host to device", "encode", "denoise"
LAND, DEVICE, CHECK, QUEUE, WRITE = "pool, cast, copy", "wait for the device", "check", "wait for the writer", "write"
WAITS = (FRAMES, DEVICE, QUEUE)
_FREE: AbstractContextManager[None] = nullcontext()


@dataclass(frozen=True)
class Span:
    """Something that took time.

    Attributes:
        name: of what was done.
        clip: id of the clip it was done for, or empty.
        lane: thread that did it, or `device`.
        start, end: seconds on the clock of `time.perf_counter`.
    """

    name: str
    clip: str
    lane: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start


class Recorder:
    """Spans of one run.

    Args:
        copies: of the device, whose clock tells when it did what it was given. Where the device computes behind the
            thread that gives it work, that thread's span is called `launch …`, and the device has one of its own.
    """

    def __init__(self, copies: Transfer) -> None:
        self._copies = copies
        self._spans: list[Span] = []
        self._moments: list[tuple[str, str, Any, Any]] = []

    @contextmanager
    def span(self, name: str, clip: str) -> Iterator[None]:
        """Of the calling thread. Any thread may record."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spans.append(Span(name, clip, threading.current_thread().name, start, time.perf_counter()))

    @contextmanager
    def device_span(self, name: str, clip: str) -> Iterator[None]:
        """Of what the device is given meanwhile."""
        if not self._copies.ahead:
            with self.span(name, clip):
                yield
            return
        start = self._copies.now()
        try:
            with self.span(f"launch {name}", clip):
                yield
        finally:
            self._moments.append((name, clip, start, self._copies.now()))

    def spans(self) -> list[Span]:
        """All, by their start. Waits for the device."""
        of_device = [
            Span(name, clip, "device", self._copies.seconds(start), self._copies.seconds(end))
            for name, clip, start, end in self._moments
        ]
        return sorted([*self._spans, *of_device], key=lambda each: each.start)


_recorder: Recorder | None = None


@contextmanager
def recording(recorder: Recorder | None) -> Iterator[None]:
    """Record what this process does, of any thread, while the body runs; nothing if there is no recorder."""
    global _recorder
    before, _recorder = _recorder, recorder
    try:
        yield
    finally:
        _recorder = before


def span(name: str, clip: str = "") -> AbstractContextManager[None]:
    """Record what the calling thread does in the body."""
    return _FREE if _recorder is None else _recorder.span(name, clip)


def device_span(name: str, clip: str = "") -> AbstractContextManager[None]:
    """Record what the device is given in the body."""
    return _FREE if _recorder is None else _recorder.device_span(name, clip)
