"""What the command line does: resolve names, run, and print. Also the door for `pipelines.py`."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any, get_args

from extract.arguments import Arguments
from extract.datasets.sampling import Sampling, Window
from extract.errors import ExtractError
from store.dtypes import FEATURE_DTYPES
from store.suggest import did_you_mean

if TYPE_CHECKING:
    from extract.backbones.base import Family, Options

log = logging.getLogger(__name__)


def run(arguments: Arguments, *, as_json: bool = False) -> bool:
    """Extract features, and targets if they are not there yet. Prints a summary; returns whether every clip went well.

    Raises:
        ExtractError, StoreError: the request cannot be met; nothing was lost.
    """
    _check_choice("--dtype", arguments.dtype, ("float32", "float16", "bfloat16"))
    _check_choice("--store-dtype", arguments.store_dtype, FEATURE_DTYPES)
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)

    from extract.backbones.base import Options
    from extract.plan import Request, make_plan
    from extract.progress import Progress
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
    device = _device(arguments.device)
    plan = make_plan(family, dataset, request)

    from torch import OutOfMemoryError

    from extract.cached import explain_miss
    from extract.engine import extract
    from extract.targets import write_targets

    for clip, why in plan.damaged.items():
        log.error("clip %s is left out: %s", clip, why)
    for line in explain_miss(plan):
        log.info("%s", line)
    progress = Progress(quiet=as_json)
    targets = write_targets(dataset, plan.clips, plan.table, plan.rows, progress)
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


def list_models(as_json: bool) -> None:
    """Print all models."""
    from extract.registry import families

    rows = [
        {
            "model": model,
            "kind": family.kind,
            "checkpoint": family.models[model].id,
            "parameters": family.models[model].parameters,
            "licence": family.models[model].licence,
        }
        for model, family in families().items()
    ]
    _print_table(rows, as_json)


def list_datasets(as_json: bool) -> None:
    """Print all data sets, and whether each is found on this machine."""
    from extract.registry import dataset_classes

    rows = []
    for name, cls in dataset_classes().items():
        try:
            dataset = cls(None)
            version, state = dataset.version, f"{len(dataset.clips())} clips in {dataset.root}"
            state += f"; {len(dataset.damaged)} cannot be read" if dataset.damaged else ""
        except ExtractError as error:
            version, state = None, str(error).splitlines()[0].rstrip(".")
        rows.append({"data set": name, "version": version, "variable": cls.environment, "found": state})
    _print_table(rows, as_json)


def list_sites(model: str, options: Options, as_json: bool) -> None:
    """Print all sites of a model, marking those read by default."""
    from extract.backbones.base import checkpoint_dir
    from extract.registry import make_family

    family = make_family(model, options)
    default = set(family.default_sites())
    rows = [
        {
            "site": site.name,
            "depth": site.depth,
            "channels": site.channels,
            "grid": f"{site.grid[0]}x{site.grid[1]}",
            "noise": "no" if site.stage == "encode" or not family.default_noise else "yes",
            "default": "yes" if site.name in default else "",
        }
        for site in family.sites()
    ]
    _print_table(rows, as_json)
    if not as_json:
        print(_input_of(family))
        if options.checkpoint is not None and checkpoint_dir(options) is None:
            print(
                f"This is what is published for {model}; the configuration of {options.checkpoint} is not here to be "
                "read."
            )


def _input_of(family: Family) -> str:
    """What the model sees, and what can be asked of it, in a line."""
    height, width = family.preprocessing().height, family.preprocessing().width
    facts = [f"input {height}x{width} pixels"]
    facts += [f"{family.settings()['frames']} frames at once"] if family.takes_windows else []
    facts += [f"noise {','.join(_levels(family))}"] if family.default_noise else []
    facts += [f"--condition {'|'.join(family.conditions)}"] if family.conditions else []
    facts += [f"--layout {'|'.join(family.layouts)}"] if family.layouts else []
    facts += [f"--preset {'|'.join(family.presets)}"] if len(family.presets) > 1 else []
    return "; ".join(facts)


def _levels(family: Family) -> list[str]:
    """Default noise levels as they stand in taps."""
    return [family.noise_level(text).name for text in family.default_levels()]


def _print_table(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*(rows[0] if rows else ()))
    for row in rows:
        table.add_row(
            *(
                "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
                for value in row.values()
            )
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


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
