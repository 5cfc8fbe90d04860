"""What the commands have in common: their arguments, and how names, numbers and errors are shown to people."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import Annotated, Any

import typer

Reference = Annotated[str, typer.Argument(help="A store: store/NAME, store/NAME/DATASET, a path, or an address.")]
Dataset = Annotated[str | None, typer.Option(help="Which data set, if the reference holds several.")]
Fusion = Annotated[
    str | None, typer.Option(help="How stores joined by + become one: lnconcat or concat.", metavar="MODE")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0, DEL, C1, and what breaks lines, turns the direction of text, or is no text: all that is not seen but obeyed."""


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=1))


def printable(text: str, *, lines: bool = False) -> str:
    """The text with every control escaped as in Python (`\\x1b`), since a stranger's names could steer the terminal.

    With `lines`, line feeds stay: those of our own messages.
    """

    def escape(match: re.Match[str]) -> str:
        return match[0] if lines and match[0] == "\n" else match[0].encode("unicode_escape").decode()

    return _CONTROLS.sub(escape, text)


def say(text: str) -> None:
    """Print one line for people, whatever names are in it."""
    print(printable(text))


def print_error(error: object) -> None:
    """Print an error for people on standard error; it may have several lines."""
    print(f"error: {printable(str(error), lines=True)}", file=sys.stderr)


def show_age(modified: float) -> str:
    """Time since a moment, in its largest unit: `3 d`; `-` for a moment of 0."""
    if not modified:
        return "-"
    seconds = time.time() - modified
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
