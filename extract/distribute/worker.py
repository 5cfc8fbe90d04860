"""What a worker does: it loads the backbone once, keeps it, and turns lists of rows into commits in a shared store."""

from __future__ import annotations

import gc
import os
import socket
from asyncio import to_thread
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from extract.arguments import Arguments
from extract.errors import ExtractError
from extract.outcome import Outcome
from store.errors import StoreError

if TYPE_CHECKING:
    from extract.loop import Extraction, Work
    from extract.plan import Plan
    from store import ClipRow
    from store.claims import Claims

_LOCK = Lock()
"""A process computes one list at a time, also where Dask gave it more threads: it has one backbone, on one device."""


class BrokenWorkerError(Exception):
    """A list failed as nobody foresaw. The process may be past use, as after an error of a GPU, and is to start anew.

    Args:
        why: for people.
        address: of the worker; `None` if there is none.
    """

    def __init__(self, why: str, address: str | None) -> None:
        super().__init__(why, address)
        self.why, self.address = why, address


@dataclass(frozen=True)
class Job:
    """What all lists of rows have in common.

    Attributes:
        arguments: of the command, which a worker resolves by itself.
        fingerprint: of the recipe that the worker must arrive at as well.
        root, store: where stores are, and where this one is; the worker must see the same folders.
    """

    arguments: Arguments
    fingerprint: str
    root: str
    store: str


@dataclass
class Report:
    """What became of a list of rows.

    Attributes:
        targets, features: what was done.
        busy: rows that are in the hands of others.
        worker: host and process.
    """

    targets: Outcome = field(default_factory=Outcome)
    features: Outcome = field(default_factory=Outcome)
    busy: list[int] = field(default_factory=list)
    worker: str = ""


class Workplace:
    """What a worker keeps for a job: the plan, the loaded backbone, two open stores, its claims."""

    def __init__(self, job: Job) -> None:
        from extract.plan import complete
        from extract.resolve import outline, usable_device
        from extract.targets import TargetsWriter
        from store.claims import Claims

        os.environ["FEATURE_STORE"] = job.root
        self.plan: Plan = complete(outline(job.arguments, _known_clips(job)))
        if self.plan.recipe.fingerprint != job.fingerprint:
            raise ExtractError(
                f"worker {worker_name()}: arrives at the recipe {self.plan.recipe.fingerprint}, where "
                f"{job.fingerprint} is asked for. Data, weights, or the version of this code differ from those of the "
                "machine that gives out the work."
            )
        self._device, self._offload = usable_device(job.arguments.device), job.arguments.offload
        self._stack = ExitStack()
        self.claims: Claims = self._stack.enter_context(Claims(self.plan.path))
        self.targets = self._stack.enter_context(TargetsWriter(self.plan.dataset, self.plan.clips, self.plan.table))
        self._extraction: Extraction | None = None

    @property
    def extraction(self) -> Extraction:
        """The loaded backbone; loaded when it is first asked for, since targets need none."""
        from extract.loop import Extraction

        if self._extraction is None:
            made = Extraction(self.plan, self._device, self._offload, self.claims)
            self._extraction = self._stack.enter_context(made)
        return self._extraction

    def close(self) -> None:
        """Give back claims and stop threads."""
        self._stack.close()


def _known_clips(job: Job) -> list[ClipRow] | None:
    """The clip table, if the store is there: then somebody has read the digests of all clips, and we need not."""
    from store.clips import CLIPS, load_clips
    from store.folder import LocalFolder
    from store.head import RECIPE, load_head

    if not (Path(job.store) / RECIPE).exists():
        return None
    folder = LocalFolder(Path(job.store))
    head = load_head(folder)
    return load_clips(folder, head.files.get(CLIPS)) if head.recipe.fingerprint == job.fingerprint else None


_PLACES: dict[Job, Workplace] = {}
_UNWANTED: set[Job] = set()
"""Jobs that end while lists of them are still at work."""


def work(job: Job, rows: Mapping[int, Sequence[str]], targets: Sequence[int]) -> Report:
    """Extract a list of rows; returns when all that can be are committed.

    Args:
        job: what to extract.
        rows: row -> taps that no commit covers.
        targets: rows whose targets are missing.

    Raises:
        ExtractError, StoreError: the job cannot be done here. Faults of single clips are in the report.
        BrokenWorkerError: something failed that nobody foresaw.
    """
    with _LOCK:
        try:
            place = _place(job)
            try:
                return _work(job, place, rows, targets)
            finally:
                for row in rows:
                    place.claims.release(row)
        except (ExtractError, StoreError):
            raise
        except Exception as error:  # whatever a network or a driver may raise
            raise BrokenWorkerError(f"{type(error).__name__}: {error}".splitlines()[0], _address()) from error


def _work(job: Job, place: Workplace, rows: Mapping[int, Sequence[str]], targets: Sequence[int]) -> Report:
    from extract.shares import Shares
    from store.folder import LocalFolder

    report = Report(worker=worker_name())
    report.targets = place.targets.run(targets, _nothing)
    taps = {tap.name: tap for tap in place.plan.taps}
    wanted = {row: [taps[name] for name in names] for row, names in rows.items() if names}
    if wanted:
        extraction = place.extraction
        shares = Shares(LocalFolder(place.plan.path), wanted, place.claims)
        report.features = extraction.run(_while_wanted(job, shares.free()), _nothing)
        report.features.skipped += shares.others
        report.busy = list(shares.left)
    return report


def _while_wanted(job: Job, work: Iterator[Work]) -> Iterator[Work]:
    while job not in _UNWANTED and (each := next(work, None)) is not None:
        yield each


async def leave(job: Job) -> None:
    """End a job, after the clips that are begun: memory and device of a worker that stays are free again."""
    _UNWANTED.add(job)
    await to_thread(_close, job)  # the worker goes on to answer meanwhile


def _close(job: Job) -> None:
    with _LOCK:
        _UNWANTED.discard(job)
        if job in _PLACES:
            _clear(job)


def _clear(job: Job) -> None:
    """Close a workplace. Torch keeps memory of a GPU for itself until it is told to give it back."""
    import torch

    with suppress(StoreError):  # whoever lost a clip by it was told
        _PLACES.pop(job).close()
    gc.collect()
    torch.cuda.empty_cache()


def worker_name() -> str:
    """Host and process."""
    return f"{socket.gethostname()}-{os.getpid()}"


def _address() -> str | None:
    from distributed import get_worker

    try:
        address: str = get_worker().address
    except ValueError:
        return None
    return address


def _place(job: Job) -> Workplace:
    """The workplace of a job. Another job's is closed first: two backbones seldom fit on one device."""
    if job not in _PLACES:
        for other in list(_PLACES):
            _clear(other)
        _PLACES[job] = Workplace(job)
    return _PLACES[job]


def _nothing() -> None:
    """Progress is counted where the work is given out."""
