"""The flags of `python -m extract`, and what each says of itself in `--help`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from extract.arguments import Arguments

DATA, NETWORK, FEATURES, RUN = "Which clips", "What the network is and sees", "What is kept", "How it is run"


def _flag(panel: str | None, text: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **settings)


Model = Annotated[
    str | None,
    _flag(None, "Which backbone: see `python -m extract models`; or package.module:Family of your own."),
]
DatasetName = Annotated[str | None, _flag(None, "Which data: see `python -m extract datasets`.")]
Json = Annotated[bool, _flag(None, "Print JSON for programs, and no progress.", "--json")]

Sites = Annotated[str, _flag(FEATURES, "Comma-separated sites; default: the model's own choice. `all` = every site.")]
Noise = Annotated[str, _flag(FEATURES, "Comma-separated noise levels (sigma=1.5 or t=502), diffusion models only.")]
Preset = Annotated[
    str, _flag(FEATURES, "standard, or paper: layers, noise and windows of the published code, flaws included.")
]
Draws = Annotated[
    int, _flag(FEATURES, "Average features over so many draws of the noise, diffusion models only.", min=1)
]
Grid = Annotated[str | None, _flag(FEATURES, "Average-pool grids down to at most ROWSxCOLUMNS.", metavar="RxC")]
StoreDtype = Annotated[
    str,
    _flag(FEATURES, "Type on disk: float16, bfloat16, float32, or int8-channel (half the bytes of float16)."),
]

Checkpoint = Annotated[str | None, _flag(NETWORK, "Local directory or hub id instead of the published weights.")]
Revision = Annotated[str | None, _flag(NETWORK, "Revision of the hub repository.")]
Untrained = Annotated[
    bool,
    _flag(NETWORK, "Control: same architecture, random weights (seeded by --seed).", "--untrained"),
]
Size = Annotated[str | None, _flag(NETWORK, "Input size HEIGHTxWIDTH instead of the model's own.", metavar="HxW")]
Frames = Annotated[
    int | None, _flag(NETWORK, "Frames that a video model sees at once, instead of its own number.", min=1)
]
Condition = Annotated[
    str | None,
    _flag(NETWORK, "first, last or none: the frame that an image-to-video model is conditioned on."),
]
Layout = Annotated[str | None, _flag(NETWORK, "images or video: how a language model is shown the frames.")]
Prompt = Annotated[str | None, _flag(NETWORK, "What a language model reads before the frames.")]
Attention = Annotated[
    str | None,
    _flag(NETWORK, "sdpa, flash_attention_2 (if installed) or eager: how attention is computed."),
]
Seed = Annotated[int, _flag(NETWORK, "Seed of the noise, and of the weights with --untrained.", min=0, max=2**63 - 1)]
Dtype = Annotated[str, _flag(NETWORK, "Type of the computation: float32, float16 or bfloat16.")]

Root = Annotated[Path | None, _flag(DATA, "Folder of the data set, if it is not where its variable points.")]
Split = Annotated[str | None, _flag(DATA, "Only this split.")]
ClipFrames = Annotated[int | None, _flag(DATA, "Frames of a recording that make a clip, evenly spread.", min=1)]
ClipWindow = Annotated[str | None, _flag(DATA, "centre (half) or whole: what they are spread over; run: not spread.")]
Bank = Annotated[
    str | None,
    _flag(DATA, "Frames that features are kept for: paper (0, 1, 5, 9 … 73), or how many, evenly spread."),
]
Limit = Annotated[int | None, _flag(DATA, "Only the first N clips.", min=1)]
SkipDamaged = Annotated[
    bool,
    _flag(
        DATA,
        "Go on without clips that cannot be read. The store stays without them, also once they are mended.",
        "--skip-damaged",
    ),
]

Device = Annotated[str, _flag(RUN, "cpu, cuda, cuda:1, mps; auto = a GPU if there is one.")]
OffloadTo = Annotated[
    str,
    _flag(
        RUN,
        "none; group = blocks wait in main memory, one at a time on the device; sequential = layers. "
        "For models larger than the device's memory; changes no number.",
        "--offload",
    ),
]
Cluster = Annotated[
    str | None,
    _flag(
        RUN,
        "Share the work between workers of Dask: local:N processes, local-cuda (one per GPU), slurm:N jobs, or the "
        "address of a scheduler, tcp://HOST:PORT.",
        "--cluster",
    ),
]
Rank = Annotated[
    int | None,
    _flag(RUN, "Take the clips of this number, of --world; default: what torchrun says, else all.", min=0),
]
World = Annotated[int | None, _flag(RUN, "How many processes like this one are started, without Dask.", min=1)]
Compile = Annotated[
    bool,
    _flag(
        RUN,
        "Compile every block (torch.compile): minutes at the start, faster clips. Changes last bits, so it is another "
        "recipe.",
        "--compile",
    ),
]
BatchClips = Annotated[
    int,
    _flag(
        RUN,
        "So many clips in one forward, for models that see one frame at a time, on a GPU that one clip does not fill. "
        "Changes last bits, so it is another recipe.",
        min=1,
    ),
]
Profile = Annotated[bool, _flag(RUN, "Say where the time of a clip went, and write a trace.", "--profile")]
ProfileTo = Annotated[
    Path | None,
    _flag(RUN, "Folder of the trace (default: profile/MODEL-DATASET); implies --profile.", metavar="DIR"),
]
Out = Annotated[str | None, _flag(RUN, "Name of the store (default: the model's name).")]
DryRun = Annotated[
    bool, _flag(RUN, "Say what would be done, as `python -m extract plan` does, and do nothing.", "--dry-run")
]


def arguments_of(flags: dict[str, Any]) -> Arguments:
    """The flags, parsed. Raises `typer.BadParameter` for what no flag takes."""
    given = dict(flags)
    if given["model"] is None or given["dataset"] is None:
        raise typer.BadParameter(
            "give both, for example: python -m extract --model svd --dataset rooms", param_hint="--model, --dataset"
        )
    if given["offload"] not in ("none", "group", "sequential"):
        raise typer.BadParameter(
            f"got {given['offload']!r}, expected none, group or sequential", param_hint="--offload"
        )
    for name in ("sites", "noise"):
        given[name] = tuple(word.strip() for word in given[name].split(",") if word.strip())
    for name in ("grid", "size"):
        given[name] = sides(f"--{name}", given[name])
    if given["cluster"] is not None and (given["rank"], given["world"]) != (None, None):
        raise typer.BadParameter(
            "give one of them: workers of Dask share the work by themselves", param_hint="--cluster, --world"
        )
    if given["cluster"] is not None and (given.get("profile") or given.get("profile_to")):  # a plan has neither
        raise typer.BadParameter("it tells of this process, and workers are others", param_hint="--profile")
    return Arguments(**given)


def sides(flag: str, text: str | None) -> tuple[int, int] | None:
    """Parse `16x16`. Raises `typer.BadParameter`."""
    if text is None:
        return None
    rows, _, columns = text.partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise typer.BadParameter(f"got {text!r}, expected two positive numbers such as 16x16", param_hint=flag)
    return int(rows), int(columns)
