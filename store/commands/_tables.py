"""Tables for people: columns without frames, which give way where the terminal is narrow, but never lose a name."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from store.commands._shared import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDE = 160
"""Width where no terminal limits it."""
_LEAST = 10
_GAP = 2


def console() -> Console:
    """Standard output, taking every text as it is."""
    from rich.console import Console

    limited = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(markup=False, highlight=False, emoji=False, width=None if limited else _WIDE)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = (), gives_way: Iterable[str] = ()
) -> None:
    """Print a table, without the columns in which nothing stands. Every text is shown as it is, controls escaped.

    Args:
        columns: their titles. The first holds names: it is folded over lines if it must be, never cut.
        rows: a text for each column.
        right: columns of numbers, set flush right.
        gives_way: columns that are cut (`…`) where there is no room.
    """
    from rich.table import Table

    out, gives_way = console(), {printable(title) for title in gives_way}
    rows = [[printable(text) for text in row] for row in rows]
    columns, right = [printable(title) for title in columns], {printable(title) for title in right}
    used = [position for position in range(len(columns)) if not position or any(row[position] for row in rows)]
    columns, rows = [columns[position] for position in used], [[row[position] for position in used] for row in rows]
    widths = [max(len(text) for text in texts) for texts in zip(columns, *rows, strict=True)]
    excess = sum(widths) + _GAP * (len(widths) - 1) - out.width
    for position in [*(i for i, title in enumerate(columns) if title in gives_way), 0]:
        cut = max(0, min(excess, widths[position] - _LEAST))
        widths[position] -= cut
        excess -= cut
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for position, (title, width) in enumerate(zip(columns, widths, strict=True)):
        table.add_column(
            title,
            justify="right" if title in right else "left",
            width=width,
            no_wrap=position > 0,
            overflow="ellipsis" if position else "fold",
        )
    for row in rows:
        table.add_row(*row)
    _print(out, table)


def print_wrapped(text: str) -> None:
    """Print a sentence; where it is too long, it goes on below, and no name is broken."""
    print(
        textwrap.fill(
            printable(text), console().width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
        )
    )


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one a line; long values go on below themselves."""
    from rich.table import Table

    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        table.add_row(printable(name), printable(show_value(value)))
    _print(console(), table)


def show_value(value: object) -> str:
    """A JSON value on one line, a text without quotes, and `-` for nothing."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _print(out: Console, table: Table) -> None:
    with out.capture() as capture:
        out.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())
