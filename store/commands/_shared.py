"""What the commands have in common: their arguments, and how numbers are shown to people."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

Reference = Annotated[str, typer.Argument(help="A store: store/NAME, store/NAME/DATASET, a path, or an address.")]
Dataset = Annotated[str | None, typer.Option(help="Which data set, if the reference holds several.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=1))


def show_size(count: int | float) -> str:
    """Bytes for people: `27.5 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def show_age(modified: float) -> str:
    """Time since a moment, in its largest unit: `3 d`; `-` for a moment of 0."""
    if not modified:
        return "-"
    seconds = time.time() - modified
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
