"""`python -m extract label`: depth, confidence and cameras for recordings that have none, made by a network."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from extract.errors import ExtractError

TAKEN = ("dl3dv", "dl3dv-paper")


def label(
    dataset: Annotated[str, typer.Option(help="Which data: dl3dv.")],
    labeller: Annotated[
        str, typer.Option("--with", help="vggt, or package.module:Class of your own (extract/labelling/base.py).")
    ],
    root: Annotated[
        Path | None, typer.Option(help="Folder of the data set, if it is not where its variable points.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the labels; default: where they are looked for.")] = None,
    frames: Annotated[int, typer.Option(help="Consecutive frames of each scene that are labelled.", min=1)] = 150,
    checkpoint: Annotated[str | None, typer.Option(help="Weights instead of the labeller's own.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps; auto = a GPU if there is one.")] = "auto",
    limit: Annotated[int | None, typer.Option(help="Only the first N scenes.", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs, and no progress.")] = False,
) -> None:
    """Label recordings that have no depth with a network. What it makes is read as targets: they are pseudo-labels.

    Writes one file per scene, whole or not at all. Valid files are skipped: run the same command again to go on.
    """
    if dataset not in TAKEN:
        raise ExtractError(f"--dataset {dataset}: only {TAKEN[0]} takes labels of a network; others bring their own.")
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)

    from extract.datasets.dl3dv import Dl3dv
    from extract.labelling.base import make_labeller
    from extract.labelling.scenes import label_scenes
    from extract.progress import Progress
    from extract.registry import make_dataset
    from extract.resolve import usable_device

    made = make_dataset(dataset, root)
    assert isinstance(made, Dl3dv)
    network = make_labeller(labeller, checkpoint, str(usable_device(device)))
    done = label_scenes(made, network, out, frames, limit, Progress(quiet=as_json))
    if as_json:
        print(json.dumps({"done": len(done.done), "skipped": len(done.skipped), "failed": done.failed}, indent=1))
    else:
        print(f"{len(done.done)} scenes labelled, {len(done.skipped)} were already, {len(done.failed)} failed")
        print("".join(f"  failed: {scene}: {why}\n" for scene, why in done.failed.items()), end="")
    if done.failed:
        raise typer.Exit(1)
