"""The loop over clips: frames are decoded ahead, and writing goes on while the next clip is computed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING

import torch

from extract.engine import DTYPES, clip_features, exact_float32
from extract.errors import ExtractError
from extract.outcome import Outcome
from extract.progress import Progress
from extract.provenance import provenance
from extract.shares import Shares
from store import ArrayValueError, StoreWriter, create, finalize_if_stale
from store.claims import Claims
from store.folder import LocalFolder
from store.head import RECIPE

if TYPE_CHECKING:
    from torch import Tensor

    from extract.backbones.base import Offload
    from extract.plan import Plan, Tap

log = logging.getLogger(__name__)

Work = tuple[int, "list[Tap]"]
"""A row, and the taps it lacks."""


class Extraction:
    """A loaded backbone and an open store: rows go in, commits come out. A process has one, as long as there is work.

    The store is made, or found to be of the same recipe, when the weights are known to be good: an empty store would
    hold the name.

    Args:
        plan: whose store.
        device, offload: where the backbone is.
        claims: given back row by row, as clips are committed or fail.

    Raises:
        RecipeMismatchError: the store that is there has another recipe.
        WeightsError: the backbone cannot be loaded.
    """

    def __init__(self, plan: Plan, device: torch.device, offload: Offload, claims: Claims) -> None:
        self._plan, self._device, self._claims = plan, device, claims
        log.info("loading %s", plan.family.model)
        dtype, family = DTYPES[plan.request.dtype], plan.family
        self._backbone = (
            family.load(device, dtype) if offload == "none" else family.load_offloaded(device, dtype, offload)
        )
        make_store(plan, device)
        self._writer = StoreWriter(plan.path, committed=claims.release)

    def run(self, work: Iterable[Work], advance: Callable[[], None]) -> Outcome:
        """Extract clips; returns when all that can be are committed. `advance` is called after each.

        A clip whose frames cannot be read, or whose features are not finite, is listed in the outcome and the rest
        goes on. Any other error ends the run; what was committed stays valid.

        Args:
            work: is asked for the next row while one is computed, and must answer at once.
            advance: is called after each clip.
        """
        outcome = Outcome()
        before = self._writer.bytes_written
        with exact_float32():
            for row, taps, frames in self._decoded(work):
                clip = self._plan.clips[row]
                try:
                    features = clip_features(self._backbone, self._plan, clip, frames().to(self._device), taps)
                    self._writer.put(row, features)
                    outcome.done.append(row)
                except (ExtractError, ArrayValueError) as error:
                    outcome.failed[clip.id] = str(error)
                    log.error("clip %s failed: %s", clip.id, error)
                    self._claims.release(row)
                advance()
        self._writer.flush()
        outcome.bytes = self._writer.bytes_written - before
        return outcome

    def __enter__(self) -> Extraction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def _decoded(self, work: Iterable[Work]) -> Iterator[tuple[int, list[Tap], Callable[[], Tensor]]]:
        """Work with a function that gives its frames, which are decoded one clip ahead in a thread."""
        with ThreadPoolExecutor(1, thread_name_prefix="decode") as thread:
            ahead: tuple[int, list[Tap], Future[Tensor]] | None = None
            for row, taps in work:
                current, ahead = ahead, (row, taps, thread.submit(self._decode, row))
                if current is not None:
                    yield current[0], current[1], current[2].result
            if ahead is not None:
                yield ahead[0], ahead[1], ahead[2].result

    def _decode(self, row: int) -> Tensor:
        clip = self._plan.clips[row]
        indices, _ = self._plan.family.window(clip.n_frames, clip.bank)
        return torch.from_numpy(clip.frames(indices))


def extract(plan: Plan, device: torch.device, progress: Progress, offload: Offload = "none") -> Outcome:
    """Run a plan: every pending clip once through the backbone.

    Where other processes extract the same recipe into the same store, each clip is computed by whoever claims it
    first; this returns when all are there. For errors see `Extraction`.
    """
    if (plan.path / RECIPE).exists():
        make_store(plan, device)  # says at once if it is another recipe's
    pending = plan.pending()
    outcome = Outcome(skipped=[row for row in plan.rows if row not in pending])
    if pending:
        with (
            Claims(plan.path) as claims,
            Extraction(plan, device, offload, claims) as extraction,
            progress.bar(f"extract {plan.path.parent.name}", len(pending)) as advance,
        ):
            shares = Shares(LocalFolder(plan.path), pending, claims)
            outcome += extraction.run(shares.free(), advance)
            outcome += _wait_for_others(shares, extraction, advance)
    finalize_if_stale(plan.path)
    return outcome


def _wait_for_others(shares: Shares, extraction: Extraction, advance: Callable[[], None]) -> Outcome:
    """See what others have claimed through to the end, be it by them or, if they died, by us."""
    outcome = Outcome()
    if shares.left:
        log.info("%d clips are in the hands of %s; waiting", len(shares.left), ", ".join(shares.holders()) or "others")
    while shares.left:
        outcome += extraction.run(shares.free(), advance)
        if shares.left:
            shares.wait()
    for _ in shares.others:
        advance()
    outcome.skipped += shares.others
    return outcome


def make_store(plan: Plan, device: torch.device) -> None:
    """Make the store of a plan, or join the one that is there. Raises `RecipeMismatchError` if that is another's."""
    create(
        plan.path,
        plan.recipe,
        plan.table,
        plan.specs(),
        attrs={"model": plan.family.model, "kind": plan.family.kind, "fingerprint": plan.recipe.fingerprint},
        coordinates=plan.coordinates(),
        provenance=provenance(device),
    )
