"""`python -m extract`: run a frozen backbone once over a data set, keep features of chosen layers and noise levels.

python -m extract --model svd --dataset scannet                     all default taps
python -m extract --model svd --dataset rooms --sites up_blocks.1 --noise sigma=1,sigma=10
python -m extract --model wan2.1-t2v-14b --dataset scannet --preset paper --dtype bfloat16 --offload group
python -m extract plan --model svd --dataset scannet                what that would take, and whether it fits
python -m extract models | datasets | sites MODEL                   what there is
python -m extract label --dataset dl3dv --with vggt                 depth and cameras for recordings without
"""

from __future__ import annotations

import inspect
import sys
from typing import Annotated, Any

import typer

from extract import flags
from extract.backbones.base import STANDARD, Options
from extract.command import plan as show_plan
from extract.command import run
from extract.errors import ExtractError
from extract.flags import arguments_of, sides
from extract.label import label
from extract.listing import list_datasets, list_models, list_sites
from store.errors import StoreError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
app.command()(label)


@app.callback(invoke_without_command=True)
def extract_features(
    context: typer.Context,
    model: flags.Model = None,
    dataset: flags.DatasetName = None,
    sites: flags.Sites = "",
    noise: flags.Noise = "",
    preset: flags.Preset = STANDARD,
    draws: flags.Draws = 1,
    grid: flags.Grid = None,
    store_dtype: flags.StoreDtype = "float16",
    checkpoint: flags.Checkpoint = None,
    revision: flags.Revision = None,
    untrained: flags.Untrained = False,
    size: flags.Size = None,
    frames: flags.Frames = None,
    condition: flags.Condition = None,
    layout: flags.Layout = None,
    prompt: flags.Prompt = None,
    attention: flags.Attention = None,
    seed: flags.Seed = 0,
    dtype: flags.Dtype = "float32",
    root: flags.Root = None,
    split: flags.Split = None,
    clip_frames: flags.ClipFrames = None,
    clip_window: flags.ClipWindow = None,
    bank: flags.Bank = None,
    limit: flags.Limit = None,
    skip_damaged: flags.SkipDamaged = False,
    device: flags.Device = "auto",
    offload: flags.OffloadTo = "none",
    compile: flags.Compile = False,
    batch_clips: flags.BatchClips = 1,
    profile: flags.Profile = False,
    profile_to: flags.ProfileTo = None,
    cluster: flags.Cluster = None,
    rank: flags.Rank = None,
    world: flags.World = None,
    out: flags.Out = None,
    dry_run: flags.DryRun = False,
    as_json: flags.Json = False,
) -> None:
    """Run a frozen backbone once over a data set and keep the features of chosen layers and noise levels.

    Writes store/MODEL/DATASET, and store/targets/DATASET the first time. What is already committed is skipped:
    run the same command again after an interruption, with more sites, or without --limit.
    """
    given = {name: value for name, value in locals().items() if name not in ("context", "dry_run", "as_json")}
    if context.invoked_subcommand is not None:
        _refuse_flags_before(context, context.invoked_subcommand)
    elif not _do(given, dry_run=dry_run, as_json=as_json):
        raise typer.Exit(1)


def _refuse_flags_before(context: typer.Context, command: str) -> None:
    """Flags of an extraction say nothing to a command that comes after them, and would be passed over in silence."""
    for each in context.command.params:
        source = context.get_parameter_source(each.name or "")
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"give it after {command!r}", param_hint=each.opts[0])


def _do(given: dict[str, Any], *, dry_run: bool, as_json: bool) -> bool:
    arguments = arguments_of(given)
    return show_plan(arguments, as_json=as_json) if dry_run else run(arguments, as_json=as_json)


def plan(*, measure: bool, as_json: bool, **given: Any) -> None:
    """Say what an extraction would take and whether it fits: taps, bytes, memory, what is there already. Does nothing.

    Takes the flags of `python -m extract`. Exit status 1 if it does not fit on the disk.
    """
    if not show_plan(arguments_of(given), as_json=as_json, measure=measure):
        raise typer.Exit(1)


def _signature_of_plan() -> inspect.Signature:
    """The flags of an extraction, and how to plan it: typer reads a function's signature."""
    shared = inspect.signature(extract_features, eval_str=True).parameters
    senseless = ("context", "dry_run", "profile", "profile_to")
    kept = [each for name, each in shared.items() if name not in senseless]
    measure = Annotated[
        bool, typer.Option("--measure", help="Load the weights, run two clips, and say how long all would take.")
    ]
    return inspect.Signature([*kept, inspect.Parameter("measure", kept[0].kind, default=False, annotation=measure)])


plan.__signature__ = _signature_of_plan()  # type: ignore[attr-defined]
plan.__annotations__ = {name: each.annotation for name, each in plan.__signature__.parameters.items()}  # type: ignore[attr-defined]
app.command()(plan)


@app.command()
def models(
    as_json: flags.Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables of docs/backbones.md.")] = False,
) -> None:
    """All models: kind, checkpoint, parameters, licence."""
    if markdown:
        from extract.catalogue import markdown as tables

        print(tables(), end="")
    else:
        list_models(as_json)


@app.command()
def datasets(as_json: flags.Json = False) -> None:
    """All data sets: where each is looked for, and whether it is there."""
    list_datasets(as_json)


@app.command()
def sites(
    model: Annotated[str, typer.Argument(help="Which backbone.")],
    checkpoint: flags.Checkpoint = None,
    size: flags.Size = None,
    preset: flags.Preset = STANDARD,
    layout: flags.Layout = None,
    as_json: flags.Json = False,
) -> None:
    """All sites of a model: name, depth, channels, grid. Needs no weights."""
    list_sites(model, Options(checkpoint=checkpoint, size=sides("--size", size), preset=preset, layout=layout), as_json)


def main() -> None:
    """Run the command line; known errors become one message and exit status 1."""
    try:
        app()
    except (ExtractError, StoreError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted: what was committed is kept; run the same command again to go on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
