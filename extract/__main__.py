"""`python -m extract`: run a frozen backbone once over a data set, keep features of chosen layers and noise levels.

python -m extract --model svd --dataset scannet                     all default taps
python -m extract --model svd --dataset rooms --sites up_blocks.1 --noise sigma=1,sigma=10
python -m extract --model wan2.1-t2v-14b --dataset scannet --preset paper --dtype bfloat16 --offload group
python -m extract models | datasets | sites MODEL                   what there is
python -m extract label --dataset dl3dv --with vggt                 depth and cameras for recordings without
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from extract.arguments import Arguments
from extract.backbones.base import STANDARD, Options
from extract.command import list_datasets, list_models, list_sites, run
from extract.errors import ExtractError
from extract.label import label
from store.errors import StoreError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
app.command()(label)

DATA, NETWORK, FEATURES, RUN = "Which clips", "What the network is and sees", "What is kept", "How it is run"

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs, and no progress.")]
Size = Annotated[
    str | None,
    typer.Option(help="Input size HEIGHTxWIDTH instead of the model's own.", metavar="HxW", rich_help_panel=NETWORK),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(help="Local directory or hub id instead of the published weights.", rich_help_panel=NETWORK),
]
Preset = Annotated[
    str,
    typer.Option(
        help="standard, or paper: layers, noise and windows of the published code, flaws included.",
        rich_help_panel=FEATURES,
    ),
]

Layout = Annotated[
    str | None,
    typer.Option(help="images or video: how a language model is shown the frames.", rich_help_panel=NETWORK),
]


@app.callback(invoke_without_command=True)
def extract_features(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Option(help="Which backbone: see `python -m extract models`; or package.module:Family of your own."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Which data: see `python -m extract datasets`.")] = None,
    sites: Annotated[
        str,
        typer.Option(
            help="Comma-separated sites; default: the model's own choice. `all` = every site.",
            rich_help_panel=FEATURES,
        ),
    ] = "",
    noise: Annotated[
        str,
        typer.Option(
            help="Comma-separated noise levels (sigma=1.5 or t=502), diffusion models only.", rich_help_panel=FEATURES
        ),
    ] = "",
    preset: Preset = STANDARD,
    draws: Annotated[
        int,
        typer.Option(
            help="Average features over so many draws of the noise, diffusion models only.",
            min=1,
            rich_help_panel=FEATURES,
        ),
    ] = 1,
    grid: Annotated[
        str | None,
        typer.Option(help="Average-pool grids down to at most ROWSxCOLUMNS.", metavar="RxC", rich_help_panel=FEATURES),
    ] = None,
    store_dtype: Annotated[
        str,
        typer.Option(
            help="Type on disk: float16, bfloat16, float32, or int8-channel (half the bytes of float16).",
            rich_help_panel=FEATURES,
        ),
    ] = "float16",
    checkpoint: Checkpoint = None,
    revision: Annotated[
        str | None, typer.Option(help="Revision of the hub repository.", rich_help_panel=NETWORK)
    ] = None,
    untrained: Annotated[
        bool,
        typer.Option(
            "--untrained",
            help="Control: same architecture, random weights (seeded by --seed).",
            rich_help_panel=NETWORK,
        ),
    ] = False,
    size: Size = None,
    frames: Annotated[
        int | None,
        typer.Option(
            help="Frames that a video model sees at once, instead of its own number.",
            min=1,
            rich_help_panel=NETWORK,
        ),
    ] = None,
    condition: Annotated[
        str | None,
        typer.Option(
            help="first, last or none: the frame that an image-to-video model is conditioned on.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    layout: Layout = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="What a language model reads before the frames.", rich_help_panel=NETWORK),
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option(
            help="sdpa, flash_attention_2 (if installed) or eager: how attention is computed.", rich_help_panel=NETWORK
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Seed of the noise, and of the weights with --untrained.",
            min=0,
            max=2**63 - 1,
            rich_help_panel=NETWORK,
        ),
    ] = 0,
    dtype: Annotated[
        str, typer.Option(help="Type of the computation: float32, float16 or bfloat16.", rich_help_panel=NETWORK)
    ] = "float32",
    root: Annotated[
        Path | None,
        typer.Option(help="Folder of the data set, if it is not where its variable points.", rich_help_panel=DATA),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only this split.", rich_help_panel=DATA)] = None,
    clip_frames: Annotated[
        int | None,
        typer.Option(help="Frames of a recording that make a clip, evenly spread.", min=1, rich_help_panel=DATA),
    ] = None,
    clip_window: Annotated[
        str | None,
        typer.Option(help="centre (half) or whole: what they are spread over; run: not spread.", rich_help_panel=DATA),
    ] = None,
    bank: Annotated[
        str | None,
        typer.Option(
            help="Frames that features are kept for: paper (0, 1, 5, 9 … 73), or how many, evenly spread.",
            rich_help_panel=DATA,
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N clips.", min=1, rich_help_panel=DATA)] = None,
    skip_damaged: Annotated[
        bool,
        typer.Option(
            "--skip-damaged",
            help="Go on without clips that cannot be read. The store stays without them, also once they are mended.",
            rich_help_panel=DATA,
        ),
    ] = False,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:1, mps; auto = a GPU if there is one.", rich_help_panel=RUN)
    ] = "auto",
    offload: Annotated[
        str,
        typer.Option(
            help="none; group = blocks wait in main memory, one at a time on the device; sequential = layers. "
            "For models larger than the device's memory; changes no number.",
            rich_help_panel=RUN,
        ),
    ] = "none",
    out: Annotated[
        str | None, typer.Option(help="Name of the store (default: the model's name).", rich_help_panel=RUN)
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a frozen backbone once over a data set and keep the features of chosen layers and noise levels.

    Writes store/MODEL/DATASET, and store/targets/DATASET the first time. What is already committed is skipped:
    run the same command again after an interruption, with more sites, or without --limit.
    """
    if context.invoked_subcommand is not None:
        return
    if model is None or dataset is None:
        raise typer.BadParameter(
            "give both, for example: python -m extract --model svd --dataset rooms", param_hint="--model, --dataset"
        )
    if offload not in ("none", "group", "sequential"):
        raise typer.BadParameter(f"got {offload!r}, expected none, group or sequential", param_hint="--offload")
    arguments = Arguments(
        model=model,
        dataset=dataset,
        root=root,
        sites=_words(sites),
        noise=_words(noise),
        preset=preset,
        draws=draws,
        condition=condition,
        frames=frames,
        layout=layout,
        prompt=prompt,
        attention=attention,
        grid=_size("--grid", grid),
        checkpoint=checkpoint,
        revision=revision,
        size=_size("--size", size),
        untrained=untrained,
        split=split,
        limit=limit,
        skip_damaged=skip_damaged,
        clip_frames=clip_frames,
        clip_window=clip_window,
        bank=bank,
        seed=seed,
        device=device,
        dtype=dtype,
        store_dtype=store_dtype,
        offload=offload,
        out=out,
    )
    if not run(arguments, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def models(
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables of docs/backbones.md.")] = False,
) -> None:
    """All models: kind, checkpoint, parameters, licence."""
    if markdown:
        from extract.catalogue import markdown as tables

        print(tables(), end="")
    else:
        list_models(as_json)


@app.command()
def datasets(as_json: Json = False) -> None:
    """All data sets: where each is looked for, and whether it is there."""
    list_datasets(as_json)


@app.command()
def sites(
    model: Annotated[str, typer.Argument(help="Which backbone.")],
    checkpoint: Checkpoint = None,
    size: Size = None,
    preset: Preset = STANDARD,
    layout: Layout = None,
    as_json: Json = False,
) -> None:
    """All sites of a model: name, depth, channels, grid. Needs no weights."""
    list_sites(model, Options(checkpoint=checkpoint, size=_size("--size", size), preset=preset, layout=layout), as_json)


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


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _size(flag: str, text: str | None) -> tuple[int, int] | None:
    """Parse `16x16`."""
    if text is None:
        return None
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise typer.BadParameter(f"got {text!r}, expected two positive numbers such as 16x16", param_hint=flag)
    return int(rows), int(columns)


if __name__ == "__main__":
    main()
