"""`python -m store`: list, look into, analyse, check, compare, copy and share feature stores."""

from __future__ import annotations

import sys

import typer

from store.commands import analysis, looking, sharing, upkeep
from store.commands._shared import print_error
from store.errors import StoreError

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
for group in (looking, analysis, upkeep, sharing):
    group.register(app)


_INTERRUPTED = 130
"""How typer answers Ctrl-C, without a word."""


def main() -> None:
    """Run the command line; known errors become one message and exit status 1."""
    try:
        app()
    except (StoreError, OSError) as error:
        print_error(error)
        sys.exit(1)
    except SystemExit as leaving:
        if leaving.code == _INTERRUPTED:
            print("interrupted: what was finished is kept; run the same command again to go on", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
