"""What the commands of this package share: panels of their help, lists in options, results, and errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from evaluate.protocols import Protocol
    from probes.labels import LabelSpace
    from probes.predict import Best
    from probes.tasks import Rules

DATA, PROBES, TRAINING, RUN = "Which features", "Which probes", "How they are trained", "How it is run"
LOGGERS = ("tensorboard", "wandb", "trackio")
"""Packages that losses can be sent to, each called as `--logger` calls it."""

Fusion = Annotated[
    str | None,
    typer.Option(help="How stores joined by + become one: lnconcat or concat.", metavar="MODE", rich_help_panel=DATA),
]
Dataset = Annotated[str | None, typer.Option(help="Which dataset, if the store holds several.", rich_help_panel=DATA)]
TargetsStore = Annotated[
    str | None, typer.Option(help="Targets store. Default: store/targets/DATASET.", rich_help_panel=DATA)
]
Limit = Annotated[int | None, typer.Option(min=1, help="At most this many clips of each split.", rich_help_panel=DATA)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …", rich_help_panel=RUN)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def names(values: list[str] | None) -> list[str]:
    """Values of a repeatable option, each of which may also be a list with commas."""
    return [name for value in values or [] for name in value.split(",") if name]


def protocols_of(tasks: Sequence[str], space: LabelSpace, rules: Rules) -> dict[str, Protocol]:
    """The protocol by which each task is measured."""
    from evaluate.protocols import PAPER, PROBE3D, STANDARD, get_protocol

    # As the tasks have it, which are not asked, so that what is up to date is known before torch is there.
    classes = {
        "tagging": list(space.names) if rules == "paper" else space.thing_names,
        "segmentation": list(space.names),
    }
    family = {"standard": STANDARD, "paper": PAPER, "probe3d": PROBE3D}[rules]
    return {task: get_protocol(task, classes.get(task, []), family) for task in tasks}


def report(out: Path, protocols: Mapping[str, Protocol], best: Sequence[Best], *, as_json: bool) -> None:
    """Best tap per task and head: chosen on val, reported on test, beside the best tap with shuffled labels."""
    if as_json:
        rows = [_row(b) | ({"control": _row(b.control)} if b.control else {}) for b in best]
        print(json.dumps({"run": str(out), "best": rows}, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    controlled = any(b.control for b in best)
    table = Table(title=f"{out}: best tap per task and head, chosen on val", title_justify="left")
    for column in ("task", "head", "tap", "metric", "val", "test", *["control"] * controlled):
        table.add_column(column, justify="right" if column in ("val", "test", "control") else "left")
    for b in best:
        metric = protocols[b.task].metrics[b.metric]
        cells = [b.task, b.head, b.tap, f"{metric.title} {metric.arrow}"]
        cells += [metric.format(value) for value in (b.val, b.test[b.metric])]
        cells += [metric.format(b.control.test[b.metric]) if b.control else ""] * controlled
        table.add_row(*cells)
    Console().print(table)
    if controlled:
        print("control: the best tap of probes trained with the labels of other scenes, on test")


def _row(best: Best) -> dict[str, Any]:
    found = {"task": best.task, "head": best.head, "tap": best.tap, "probe": best.probe_id, "metric": best.metric}
    return found | {"val": best.val, "test": dict(best.test)}


def run_app(command: typer.Typer, interrupted: str) -> None:
    """Run a command line; known errors become one message and exit status 1."""
    from evaluate.errors import EvaluateError
    from probes.errors import ProbesError
    from store.errors import StoreError

    try:
        command()
    except (ProbesError, StoreError, EvaluateError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"interrupted: {interrupted}", file=sys.stderr)
        sys.exit(130)
