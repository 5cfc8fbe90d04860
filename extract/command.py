"""What the command line does: resolve names, run or plan, and print. Also the door for pipelines."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from extract.arguments import Arguments
from extract.distribute.clusters import check_cluster
from extract.errors import ExtractError
from extract.resolve import outline, usable_device
from store.sizes import show_size

if TYPE_CHECKING:
    from extract.plan import Plan

log = logging.getLogger(__name__)


def run(arguments: Arguments, *, as_json: bool = False) -> bool:
    """Extract features, and targets if they are not there yet. Prints a summary; returns whether every clip went well.

    Raises:
        ExtractError, StoreError: the request cannot be met; nothing was lost.
    """
    if arguments.cluster is None:
        usable_device(arguments.device)  # says so before anything takes time
    else:
        check_cluster(arguments.cluster)
    asked = outline(arguments)

    from extract.plan import complete

    plan = complete(asked)

    from extract.cached import explain_miss
    from extract.distribute.driver import distribute
    from extract.estimate import estimate
    from extract.loop import extract
    from extract.progress import Progress
    from extract.targets import write_targets
    from extract.trace import profiled

    for clip, why in plan.damaged.items():
        log.error("clip %s is left out: %s", clip, why)
    for line in explain_miss(plan):
        log.info("%s", line)
    if not (sizes := estimate(plan)).fits:
        log.warning(
            "%s to write, %s free: the disk will be full before the end. `python -m extract plan` says what would fit",
            *(show_size(sizes.missing_bytes), show_size(sizes.free)),
        )
    progress = Progress(quiet=as_json)
    with _memory_told(arguments), profiled(arguments, plan) as found:
        if arguments.cluster is not None:
            targets, features = distribute(plan, arguments, arguments.cluster, progress)
        else:
            targets = write_targets(plan.dataset, plan.clips, plan.table, plan.rows, progress)
            features = extract(plan, usable_device(arguments.device), progress, arguments.offload)
    failed = {**plan.damaged, **targets.failed} | {
        clip: "\n".join(filter(None, (targets.failed.get(clip), why))) for clip, why in features.failed.items()
    }
    summary = {
        "store": str(plan.path),
        "fingerprint": plan.recipe.fingerprint,
        "taps": [tap.name for tap in plan.taps],
        "done": len(features.done),
        "skipped": len(features.skipped),
        "bytes": features.bytes,
        "failed": failed,
    }
    if as_json:
        print(json.dumps(summary | found.document, indent=1))
    else:
        print(_describe(summary))
        found.show()
    return not failed


def plan(arguments: Arguments, *, as_json: bool = False, measure: bool = False) -> bool:
    """Print what `run` would do and take; nothing is fetched or written. Returns whether it fits on the disk.

    Args:
        measure: load the weights and run two clips.

    Raises:
        ExtractError, StoreError: the request cannot be met; or it shall be measured, and the weights are not here.
    """
    if arguments.cluster is not None:
        check_cluster(arguments.cluster)
    asked = outline(arguments)

    from extract.cached import explain_miss
    from extract.checkpoints.folder import nothing_fetched
    from extract.errors import WeightsError
    from extract.forecast import forecast
    from extract.measured import measure as run_two_clips
    from extract.plan import complete

    try:
        with nothing_fetched():
            resolved = complete(asked)
    except WeightsError as error:
        if measure:
            raise
        note = f"the fingerprint needs the weights, but {str(error).splitlines()[0]}"
        return forecast(asked, None, [note], None, as_json=as_json)
    notes = _agreement(resolved) + explain_miss(resolved)
    measured = None
    if measure:
        with _memory_told(arguments):
            measured = run_two_clips(resolved, usable_device(arguments.device), arguments.offload)
    return forecast(resolved, resolved.recipe.fingerprint, notes, measured, as_json=as_json)


@contextmanager
def _memory_told(arguments: Arguments) -> Iterator[None]:
    """Says what to do where a device has too little memory."""
    from torch import OutOfMemoryError

    try:
        yield
    except OutOfMemoryError as error:
        raise ExtractError(
            f"--device {arguments.device}: out of memory ({str(error).splitlines()[0]}). What was committed is kept. "
            "Try --dtype bfloat16, --offload group, or a smaller --size or --frames."
        ) from error


def _agreement(plan: Plan) -> list[str]:
    """What the store that is in the plan's place says, if its recipe is another."""
    from store.folder import LocalFolder
    from store.head import RECIPE, load_head
    from store.recipe import differences

    if not (plan.path / RECIPE).exists():
        return []
    there = load_head(LocalFolder(plan.path)).recipe
    changes = [f"{field}: {old!r} there, {new!r} asked for" for field, old, new in differences(there, plan.recipe)]
    return [f"the store that is there has another recipe, choose another --out: {'; '.join(changes)}"] * bool(changes)


def _describe(summary: dict[str, Any]) -> str:
    lines = [
        f"{summary['store']}: {summary['done']} clips extracted, {summary['skipped']} were already there, "
        f"{len(summary['failed'])} failed; {len(summary['taps'])} taps, {summary['bytes'] / 1e6:,.0f} MB written"
    ]
    lines += [f"  failed: {clip}: {problem}" for clip, problem in summary["failed"].items()]
    return "\n".join(lines)
