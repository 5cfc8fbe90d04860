"""A ring of preallocated batches that threads fill while the consumer works: reading at the speed of memory.

Why a ring: fresh memory for every batch can cost ten times the reading itself, because the kernel clears each new page
(`benchmarks/reading.py` measures it). Why threads and no processes: reading releases the interpreter's lock, nothing is
pickled or sent, and nothing is forked. Checksums, in the first epoch, hold the lock, one frame at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import current_thread

import torch

from store.readable import Readable
from store.reading.batch import FeatureBatch
from store.reading.slot import ClipRead, Request, Slot

SLOTS, THREADS = 3, 2
_THREAD_NAME = "store-ring"


class Ring:
    """Batches of features, read ahead into memory that is used again and again.

    .. warning::
        **A batch is a view of the ring and valid only until the next one is asked for.** After that its memory is
        filled with another batch. `list(ring.read(…))` holds garbage; what is to be kept must be `batch.clone()`.
        With a `device` other than the CPU, batches are copies on that device and stay valid.

    While the consumer holds one slot, threads fill the others, always the earliest batch first, clip by clip, so that
    all of them work on the batch that is needed next. The order and the contents of batches are those of the requests,
    whatever the number of slots and threads.

    Args:
        features: the store.
        taps: arrays to read; each needs an axis `frame`.
        clips, frames: most clips of a batch, most frames of a clip.
        slots: batches in memory; one is with the consumer, the others are read ahead.
        threads: that read. 2 saturate the memory of a small machine; storage with latency wants more.
        pin: page-locked memory; `None` means if CUDA is available. PyTorch may round such memory up to a power of two.
        device: where batches are handed out. Copies to a CUDA device from pinned memory run in the background, in the
            order of the current stream, and their memory is not written again before they are done.
        verify: compare with the stored crc32c; `None` does so when this store object first reads a frame, so in the
            first epoch only.
        check: is called with every clip after it was read, in the thread that read it; may raise.

    Raises:
        ValueError: an argument makes no sense.
        store.UnknownArrayError: the store has no such tap.
    """

    def __init__(
        self,
        features: Readable,
        taps: Sequence[str],
        *,
        clips: int,
        frames: int,
        slots: int = SLOTS,
        threads: int = THREADS,
        pin: bool | None = None,
        device: torch.device | str | None = None,
        verify: bool | None = None,
        check: Callable[[ClipRead], None] | None = None,
    ) -> None:
        for name, size in (("slots", slots), ("threads", threads)):
            if size < 1:
                raise ValueError(f"{name}: must be at least 1, got {size}")
        if pin and not torch.cuda.is_available():
            raise ValueError("pin: page-locked memory needs CUDA, which is not available here. Leave it out.")
        self._pinned = torch.cuda.is_available() if pin is None else pin
        self._features, self._threads, self._verify, self._check = features, threads, verify, check
        self._device = torch.device(device or "cpu")
        arrays = [features.info(tap) for tap in dict.fromkeys(taps)]
        self._slots = [Slot(arrays, clips, frames, pin=self._pinned) for _ in range(slots)]
        self._pool: ThreadPoolExecutor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all slots."""
        return sum(slot.nbytes for slot in self._slots)

    def read(self, requests: Iterable[Request]) -> Generator[FeatureBatch, None, None]:
        """Yield one batch per request, in order.

        `requests` is iterated in the consumer's thread, at most `slots` ahead. Threads live as long as this iterator:
        they end with the last batch, with an error, and when the iterator is closed or dropped. A ring serves one pass
        at a time: a new one ends the one before.

        Raises:
            store.MissingClipError, store.CorruptShardError: as `FeatureStore.read`, when the batch concerned is due.
            ValueError: a request does not fit.
            RuntimeError: the iterator was asked for more after a newer pass had begun.
        """
        if self._pool is not None:  # given up half way, but held by something: a traceback, a variable
            _end(self._pool)
        pool = self._pool = ThreadPoolExecutor(self._threads, _THREAD_NAME)
        asked = iter(requests)
        free: list[tuple[Slot, Callable[[], None] | None]] = [(slot, None) for slot in self._slots]
        ahead: deque[tuple[Slot, FeatureBatch, list[Future[None]]]] = deque()
        try:
            while True:
                while free and (request := next(asked, None)) is not None:
                    slot, copied = free.pop()
                    batch, reads = slot.lay_out(request)
                    units = self._features.units(reads)
                    ahead.append((slot, batch, [pool.submit(self._fill, unit, copied) for unit in units]))
                if not ahead:
                    return
                slot, batch, done = ahead.popleft()
                for each in done:
                    each.result()
                if self._device.type == "cpu":
                    yield batch
                    copied = self._when_copied()
                else:
                    moved = batch.to(self._device, non_blocking=self._pinned and self._device.type == "cuda")
                    copied = self._when_copied()
                    yield moved
                if self._pool is not pool:
                    raise RuntimeError("this pass over the ring has ended, because another one was started")
                free.append((slot, copied))
        finally:
            _end(pool)
            if self._pool is pool:
                self._pool = None

    def _fill(self, unit: Sequence[ClipRead], copied: Callable[[], None] | None) -> None:
        if copied is not None:
            copied()
        self._features.fill(unit, self._verify)
        if self._check is not None:
            for read in unit:
                self._check(read)

    def _when_copied(self) -> Callable[[], None] | None:
        """Waits for the copies out of pinned memory that the current stream has yet to make, ours or the consumer's."""
        if not self._pinned:
            return None
        stream = torch.cuda.current_stream(self._device if self._device.type == "cuda" else None)
        event: torch.cuda.Event = stream.record_event()
        return event.synchronize


def _end(pool: ThreadPoolExecutor) -> None:
    # The garbage collector may close a dropped iterator in any thread; one that reads cannot wait for itself.
    pool.shutdown(wait=not current_thread().name.startswith(_THREAD_NAME), cancel_futures=True)
