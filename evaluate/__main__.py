"""`python -m evaluate`: the report; `python -m evaluate export` and `… query`: results for programs."""

from __future__ import annotations

import sys

from evaluate.cli import app
from evaluate.results import commands


def main(arguments: list[str]) -> None:
    """Run a command; without the name of one, the report."""
    chosen = commands.app if arguments[:1] and arguments[0] in commands.COMMANDS else app
    chosen(arguments, prog_name="python -m evaluate")


if __name__ == "__main__":
    main(sys.argv[1:])
