"""The loop over clips: frames are decoded ahead, and writing goes on while the next clip is computed."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING

import torch

from extract import profile
from extract.engine import batch_features, clip_features, exact_float32, load_backbone
from extract.errors import ExtractError
from extract.outcome import Outcome
from extract.progress import Progress
from extract.provenance import parameter_count, provenance
from extract.shares import Shares
from extract.transfer import transfer
from store import ArrayValueError, StoreWriter, create, finalize_if_stale
from store.claims import Claims
from store.folder import LocalFolder
from store.head import RECIPE

if TYPE_CHECKING:
    from torch import Tensor

    from extract.backbones.base import Backbone, Offload
    from extract.landing import Landing
    from extract.plan import Plan, Tap

log = logging.getLogger(__name__)

Work = tuple[int, "list[Tap]"]
"""A row, and the taps it lacks."""
Decoded = tuple[int, "list[Tap]", "Future[Tensor]"]
"""Work, and the frames of the clip."""
AHEAD = 2
"""Clips whose frames are decoded while another is computed, each in a thread of its own. So many more are held in
memory, and claimed before their turn."""


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
        self._backbone = load_backbone(plan, device, offload)
        self._copies, self._batch = transfer(device), plan.family.options.batch_clips
        make_store(plan, device, self._backbone)
        self._writer = StoreWriter(plan.path, committed=claims.release, timed=profile.span)

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
        under_way: deque[tuple[int, Landing]] = deque()

        def settle(row: int, error: Exception | None) -> None:
            if error is None:
                outcome.done.append(row)
            else:
                clip = self._plan.clips[row]
                outcome.failed[clip.id] = str(error)
                log.error("clip %s failed: %s", clip.id, error)
                self._claims.release(row)
            advance()

        with exact_float32(), profile.span(profile.RUN):
            for batch in self._batches(work):
                launched = self._launch(batch, settle)
                under_way += launched
                # On a GPU, a clip is put when the next is given to the device, which so never waits for a clip to be
                # checked and handed to the writer.
                while len(under_way) > self._copies.ahead * len(launched):
                    self._put(*under_way.popleft(), settle)
            while under_way:
                self._put(*under_way.popleft(), settle)
            self._writer.flush()
        outcome.bytes = self._writer.bytes_written - before
        return outcome

    def __enter__(self) -> Extraction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def _launch(
        self, batch: Sequence[Decoded], settle: Callable[[int, Exception | None], None]
    ) -> list[tuple[int, Landing]]:
        """Give the device the clips that can be read; `settle` is told of those that fail."""
        ready: list[tuple[int, Tensor]] = []
        for row, _, decoding in batch:
            try:
                with profile.span(profile.FRAMES, self._plan.clips[row].id):
                    ready.append((row, decoding.result()))
            except ExtractError as error:
                settle(row, error)
        if not ready:
            return []
        rows, taps = [row for row, _ in ready], batch[0][1]
        clips = [self._plan.clips[row] for row in rows]
        try:
            with profile.span(profile.SEND, ",".join(clip.id for clip in clips)):
                frames = [self._copies.send(each) for _, each in ready]
            if len(rows) == 1:
                return [(rows[0], clip_features(self._backbone, self._plan, clips[0], frames[0], taps))]
            return list(zip(rows, batch_features(self._backbone, self._plan, clips, frames, taps), strict=True))
        except ExtractError as error:
            for row in rows:
                settle(row, error)
            return []

    def _put(self, row: int, landing: Landing, settle: Callable[[int, Exception | None], None]) -> None:
        """Hand a clip's features to the writer."""
        try:
            self._writer.put(row, landing.arrive())
        except (ExtractError, ArrayValueError) as error:
            settle(row, error)
        else:
            settle(row, None)

    def _batches(self, work: Iterable[Work]) -> Iterator[list[Decoded]]:
        """Clips that share a forward, since they lack the same taps."""
        batch: list[Decoded] = []
        for each in self._decoded(work):
            if batch and each[1] != batch[0][1]:
                yield batch
                batch = []
            batch.append(each)
            if len(batch) == self._batch:
                yield batch
                batch = []
        if batch:
            yield batch

    def _decoded(self, work: Iterable[Work]) -> Iterator[Decoded]:
        """Work in its order; the frames of the next clips are decoded in threads meanwhile."""
        ahead = max(AHEAD, self._batch)
        with ThreadPoolExecutor(ahead, thread_name_prefix="decode") as threads:
            waiting: deque[Decoded] = deque()
            try:
                for row, taps in work:
                    waiting.append((row, taps, threads.submit(self._decode, row)))
                    if len(waiting) > ahead:
                        yield waiting.popleft()
                while waiting:
                    yield waiting.popleft()
            finally:
                for _, _, decoding in waiting:
                    decoding.cancel()

    def _decode(self, row: int) -> Tensor:
        clip = self._plan.clips[row]
        indices, _ = self._plan.family.window(clip.n_frames, clip.bank)
        with profile.span(profile.DECODE, clip.id):
            return self._copies.stage(torch.from_numpy(clip.frames(indices)))


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
    if plan.rows:  # the share of one of many processes may be empty
        finalize_if_stale(plan.path)
    return outcome


def _wait_for_others(shares: Shares, extraction: Extraction, advance: Callable[[], None]) -> Outcome:
    """See what others have claimed through to the end, be it by them or, if they died, by us."""
    outcome = Outcome()
    if holders := shares.holders():
        log.info("%d clips are in the hands of %s; waiting", len(shares.left), ", ".join(holders))
    while shares.left:
        outcome += extraction.run(shares.free(), advance)
        if shares.left:
            shares.wait()
    for _ in shares.others:
        advance()
    outcome.skipped += shares.others
    return outcome


def make_store(plan: Plan, device: torch.device, backbone: Backbone | None = None) -> None:
    """Make the store of a plan, or join the one that is there. Raises `RecipeMismatchError` if that is another's.

    A new store's provenance says how many parameters the backbone has, if it is loaded.
    """
    create(
        plan.path,
        plan.recipe,
        plan.table,
        plan.specs(),
        attrs={"model": plan.family.model, "kind": plan.family.kind, "fingerprint": plan.recipe.fingerprint},
        coordinates=plan.coordinates(),
        provenance=provenance(device) | ({"parameters": parameter_count(backbone)} if backbone else {}),
    )
