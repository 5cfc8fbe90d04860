"""What the command line does: resolve names, run or plan, and print. Also the door for pipelines."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any, get_args

from extract.arguments import Arguments
from extract.datasets.sampling import Sampling, Window
from extract.errors import ExtractError
from store.dtypes import FEATURE_DTYPES
from store.sizes import show_size
from store.suggest import did_you_mean

if TYPE_CHECKING:
    from extract.plan import Outline, Plan

log = logging.getLogger(__name__)


def run(arguments: Arguments, *, as_json: bool = False) -> bool:
    """Extract features, and targets if they are not there yet. Prints a summary; returns whether every clip went well.

    Raises:
        ExtractError, StoreError: the request cannot be met; nothing was lost.
    """
    outline = _outline(arguments)
    device = _device(arguments.device)

    from extract.plan import complete

    plan = complete(outline)

    from torch import OutOfMemoryError

    from extract.cached import explain_miss
    from extract.estimate import estimate
    from extract.loop import extract
    from extract.progress import Progress
    from extract.targets import write_targets

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
    targets = write_targets(plan.dataset, plan.clips, plan.table, plan.rows, progress)
    try:
        features = extract(plan, device, progress, arguments.offload)
    except OutOfMemoryError as error:
        raise ExtractError(
            f"--device {device}: out of memory ({str(error).splitlines()[0]}). What was committed is kept. "
            "Try --dtype bfloat16, --offload group, or a smaller --size or --frames."
        ) from error
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
    print(json.dumps(summary, indent=1) if as_json else _describe(summary))
    return not failed


def plan(arguments: Arguments, *, as_json: bool = False, measure: bool = False) -> bool:
    """Print what `run` would do and take; nothing is fetched or written. Returns whether it fits on the disk.

    Args:
        measure: load the weights and run two clips.

    Raises:
        ExtractError, StoreError: the request cannot be met; or it shall be measured, and the weights are not here.
    """
    outline = _outline(arguments)

    from extract.cached import explain_miss
    from extract.checkpoints.folder import nothing_fetched
    from extract.errors import WeightsError
    from extract.forecast import forecast
    from extract.measured import measure as run_two_clips
    from extract.plan import complete

    try:
        with nothing_fetched():
            resolved = complete(outline)
    except WeightsError as error:
        if measure:
            raise
        note = f"the fingerprint needs the weights, but {str(error).splitlines()[0]}"
        return forecast(outline, None, [note], None, as_json=as_json)
    notes = _agreement(resolved) + explain_miss(resolved)
    measured = run_two_clips(resolved, _device(arguments.device), arguments.offload) if measure else None
    return forecast(outline, resolved.recipe.fingerprint, notes, measured, as_json=as_json)


def _outline(arguments: Arguments) -> Outline:
    """What is asked for, resolved as far as it can be without weights."""
    _check_choice("--dtype", arguments.dtype, ("float32", "float16", "bfloat16"))
    _check_choice("--store-dtype", arguments.store_dtype, FEATURE_DTYPES)
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)

    from extract.backbones.base import Options
    from extract.plan import Request, make_outline
    from extract.registry import make_dataset, make_family

    options = Options(
        checkpoint=arguments.checkpoint,
        revision=arguments.revision,
        size=arguments.size,
        untrained=arguments.seed if arguments.untrained else None,
        frames=arguments.frames,
        condition=arguments.condition,
        preset=arguments.preset,
        attention=arguments.attention,
        layout=arguments.layout,
        prompt=arguments.prompt,
    )
    family = make_family(arguments.model, options)
    if arguments.offload != "none" and not family.offloads:
        raise ExtractError(
            f"--offload {arguments.offload}: {family.model} stays on the device whole. Leave it out; --dtype bfloat16 "
            "halves the memory."
        )
    dataset = make_dataset(arguments.dataset, arguments.root, _sampling(arguments))
    sites = tuple(site.name for site in family.sites()) if "all" in arguments.sites else arguments.sites
    request = Request(
        sites=sites,
        noise=arguments.noise,
        grid=arguments.grid,
        dtype=arguments.dtype,
        store_dtype=arguments.store_dtype,
        seed=arguments.seed,
        draws=arguments.draws,
        split=arguments.split,
        limit=arguments.limit,
        skip_damaged=arguments.skip_damaged,
        out=arguments.out,
    )
    return make_outline(family, dataset, request)


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


def _sampling(arguments: Arguments) -> Sampling | None:
    """How clips are cut out of recordings, if the user asks for anything but the data set's own way."""
    from extract.registry import dataset_classes

    asked = {"frames": arguments.clip_frames, "window": arguments.clip_window, "bank": arguments.bank}
    if not (given := {name: value for name, value in asked.items() if value is not None}):
        return None
    if arguments.clip_window is not None:
        _check_choice("--clip-window", arguments.clip_window, get_args(Window))
    if arguments.bank is not None and arguments.bank != "paper":
        if not arguments.bank.isdecimal() or not int(arguments.bank):
            raise ExtractError(f"--bank {arguments.bank}: expected paper, or a number of frames such as 20.")
        given["bank"] = int(arguments.bank)
    known = dataset_classes().get(arguments.dataset)
    usual = (known.default_sampling if known else None) or Sampling()
    return Sampling.model_validate(usual.model_dump() | given)


def _describe(summary: dict[str, Any]) -> str:
    lines = [
        f"{summary['store']}: {summary['done']} clips extracted, {summary['skipped']} were already there, "
        f"{len(summary['failed'])} failed; {len(summary['taps'])} taps, {summary['bytes'] / 1e6:,.0f} MB written"
    ]
    lines += [f"  failed: {clip}: {problem}" for clip, problem in summary["failed"].items()]
    return "\n".join(lines)


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ExtractError(
            f"--device {name}: not usable here ({str(error).splitlines()[0]}). Choose cpu, cuda, cuda:1 or mps."
        ) from error
    return device


def _check_choice(flag: str, got: str, known: tuple[str, ...]) -> None:
    if got not in known:
        raise ExtractError(f"{flag}: {did_you_mean('type', got, known)}")
