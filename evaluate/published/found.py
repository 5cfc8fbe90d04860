"""Which published tables what was measured can be put beside, and how that reads as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evaluate.published.beside import Beside, Comparison, put_beside
from evaluate.published.show import printed, said, signed
from evaluate.published.tables import TABLES, published
from evaluate.table import Axis


def comparisons(axes: Sequence[Axis]) -> list[Comparison]:
    """Return the published tables that have a measured number beside one of theirs.

    If runs are by a table's rules and none has, the first such table, which then says why. Nothing without such runs.
    """
    found = []
    for table in map(published, TABLES):
        mine = [axis for axis in axes if axis.protocol.family == table.family]
        if mine:
            found.append(put_beside(table, mine))
    return [comparison for comparison in found if comparison.measured] or found[:1]


def rows_of(comparison: Comparison) -> Iterator[tuple[str, tuple[Beside, ...]]]:
    """Yield the models of which something was measured, with the cells of all columns."""
    width = len(comparison.table.columns)
    for index, row in enumerate(comparison.table.rows):
        cells = comparison.cells[index * width : (index + 1) * width]
        if any(cell.measured for cell in cells):
            yield row.name, cells


def markdown(comparison: Comparison) -> list[str]:
    """Return a section of a Markdown document."""
    table = comparison.table
    lines = ["", f"## Beside {table.source}", ""]
    rows = list(rows_of(comparison))
    if rows:
        heads = [f"{column.name} {'↑' if column.higher_is_better else '↓'}" for column in table.columns]
        lines += [
            f"{table.title}. Measured / published (difference); = marks a published number in the measured interval.",
            "",
            f"| model | {' | '.join(heads)} |",
            f"|---|{'---|' * len(heads)}",
            *(f"| {name} | {' | '.join(map(_cell, cells))} |" for name, cells in rows),
            "",
        ]
    lines += [f"- {ordering.verdict}" for ordering in comparison.orderings if rows]
    return lines + [f"- {line}" for line in said(comparison)]


def _cell(cell: Beside) -> str:
    if cell.measured is None or cell.difference is None:
        return f"– / {printed(cell.column, cell.published)}"
    values = f"{printed(cell.column, cell.measured.value)} / {printed(cell.column, cell.published)}"
    return f"{values} ({'= ' if cell.inside else ''}{signed(cell.column, cell.difference.value)})"
