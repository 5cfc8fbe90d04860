"""The loop over clips: frames are decoded ahead, and writing goes on while the next clip is computed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from extract.engine import DTYPES, clip_features, exact_float32
from extract.errors import ExtractError
from extract.outcome import Outcome
from extract.progress import Progress
from extract.provenance import provenance
from store import ArrayValueError, StoreWriter, create, finalize_if_stale
from store.head import RECIPE

if TYPE_CHECKING:
    from torch import Tensor

    from extract.backbones.base import Offload
    from extract.plan import Plan

log = logging.getLogger(__name__)


def extract(plan: Plan, device: torch.device, progress: Progress, offload: Offload = "none") -> Outcome:
    """Run a plan: every pending clip once through the backbone.

    A clip whose frames cannot be read, or whose features are not finite, is listed in the outcome and the rest goes on.
    Any other error ends the run; what was committed stays valid and the next run goes on from there.
    """
    there = (plan.path / RECIPE).exists()
    if there:
        _create(plan, device)  # says at once if it is another recipe's
    pending = plan.pending()
    outcome = Outcome(skipped=[row for row in plan.rows if row not in pending])
    if not pending:
        finalize_if_stale(plan.path)
        return outcome
    log.info("loading %s", plan.family.model)
    dtype = DTYPES[plan.request.dtype]
    family = plan.family
    backbone = family.load(device, dtype) if offload == "none" else family.load_offloaded(device, dtype, offload)
    if not there:
        _create(plan, device)  # not before the weights are known to be good: an empty store would hold the name
    with (
        exact_float32(),
        StoreWriter(plan.path) as writer,
        progress.bar(f"extract {plan.path.parent.name}", len(pending)) as advance,
    ):
        for row, frames in _decoded(plan, list(pending), outcome, advance):
            clip = plan.clips[row]
            try:
                writer.put(row, clip_features(backbone, plan, clip, frames.to(device), pending[row]))
                outcome.done.append(row)
            except (ExtractError, ArrayValueError) as error:
                outcome.failed[clip.id] = str(error)
                log.error("clip %s failed: %s", clip.id, error)
            advance()
        writer.flush()
        outcome.bytes = writer.bytes_written
    finalize_if_stale(plan.path)
    return outcome


def _create(plan: Plan, device: torch.device) -> None:
    create(
        plan.path,
        plan.recipe,
        plan.table,
        plan.specs(),
        attrs={"model": plan.family.model, "kind": plan.family.kind, "fingerprint": plan.recipe.fingerprint},
        coordinates=plan.coordinates(),
        provenance=provenance(device),
    )


def _decoded(
    plan: Plan, rows: Sequence[int], outcome: Outcome, advance: Callable[[], None]
) -> Iterator[tuple[int, Tensor]]:
    """Frames of every row, decoded one clip ahead in a thread. Clips that cannot be read go to `outcome.failed`."""

    def decode(row: int) -> Tensor:
        clip = plan.clips[row]
        indices, _ = plan.family.window(clip.n_frames, clip.bank)
        return torch.from_numpy(clip.frames(indices))

    with ThreadPoolExecutor(1, thread_name_prefix="decode") as thread:
        ahead = thread.submit(decode, rows[0])
        for position, row in enumerate(rows):
            current = ahead
            if position + 1 < len(rows):
                ahead = thread.submit(decode, rows[position + 1])
            try:
                frames = current.result()
            except ExtractError as error:
                outcome.failed[plan.clips[row].id] = str(error)
                log.error("clip %s failed: %s", plan.clips[row].id, error)
                advance()
                continue
            yield row, frames
