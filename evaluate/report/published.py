"""Measured beside published, as the page shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluate.published.beside import Beside, Comparison, Ordering
from evaluate.published.found import comparisons, rows_of
from evaluate.published.show import printed, said, signed
from evaluate.published.tables import Column
from evaluate.table import Axis


@dataclass(frozen=True)
class Number:
    """One cell, as text; `measured`, `bounds` and `difference` are empty where nothing was measured."""

    published: str
    measured: str
    bounds: str
    difference: str
    inside: bool
    hint: str


@dataclass(frozen=True)
class Order:
    """Whether one column has the kinds in the published order."""

    measured: str
    """Difference of the kinds' means, measured and published; empty where it cannot be had."""
    mark: str
    state: str
    verdict: str


@dataclass(frozen=True)
class Published:
    """One published table beside what was measured; `rows` is empty where nothing can be put beside it."""

    title: str
    source: str
    url: str
    count: str
    columns: list[Column]
    """Those with a measured number."""
    rows: Sequence[tuple[str, str, list[Number]]]
    """Printed name, kind, numbers."""
    orders: list[Order]
    notes: list[str]


def beside_published(axes: Sequence[Axis]) -> list[Published]:
    """Return the tables of `evaluate.published.found.comparisons` for the page."""
    return [_shown(comparison) for comparison in comparisons(axes)]


def _shown(comparison: Comparison) -> Published:
    table = comparison.table
    columns = [c for c in table.columns if any(cell.measured for cell in comparison.cells if cell.column is c)]
    rows = [
        (name, cells[0].row.kind, [_number(cell) for cell in cells if cell.column in columns])
        for name, cells in rows_of(comparison)
    ]
    left_out = [column.title for column in table.columns if column not in columns]
    notes = [note.removeprefix("note: ") for note in said(comparison)[1:]]
    if rows and left_out:
        notes.insert(0, f"Columns without a measured number are left out: {', '.join(left_out)}.")
    return Published(
        table.title,
        table.source,
        table.url,
        f"{comparison.measured} of {len(comparison.cells)} published numbers have a measured one beside them.",
        columns,
        rows,
        _orders(comparison) if rows else [],
        notes,
    )


def _orders(comparison: Comparison) -> list[Order]:
    """Return those that something can be said of, then the rest in one."""
    known = [_order(ordering) for ordering in comparison.orderings if ordering.reproduced is not None]
    open_ = [ordering.column.title for ordering in comparison.orderings if ordering.reproduced is None]
    said_ = f"Cannot be said of {', '.join(open_)}: nothing was measured, or only one kind."
    return known + ([Order("", "?", "open", said_)] if open_ else [])


def _number(cell: Beside) -> Number:
    column = cell.column
    published = printed(column, cell.published)
    if cell.measured is None or cell.difference is None:
        return Number(published, "", "", "", False, cell.caveat or "")
    low, high = (printed(column, side) for side in (cell.measured.low, cell.measured.high))
    hint = f"{cell.label}, {cell.tap}, on {cell.dataset} by {cell.protocol}. {cell.caveat or ''}".strip()
    return Number(
        published,
        printed(column, cell.measured.value),
        f"{low}\N{THIN SPACE}–\N{THIN SPACE}{high}" if low != "nan" else "",
        signed(column, cell.difference.value),
        bool(cell.inside),
        hint,
    )


def _order(ordering: Ordering) -> Order:
    column, gap = ordering.column, ordering.measured
    measured = ""
    if gap is not None and ordering.published_same is not None:
        low, high = (signed(column, side) for side in (gap.fixed.low, gap.fixed.high))
        measured = (
            f"Means differ by {signed(column, gap.fixed.value)} [{low}, {high}] measured, "
            f"{signed(column, ordering.published_same)} published of the same models."
        )
    mark, state = ("✓", "yes") if ordering.reproduced else ("✗", "no")
    return Order(measured, mark, state, ordering.verdict)
