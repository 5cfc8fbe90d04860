"""A comparison for people at a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from evaluate.published.beside import Beside, Comparison
from evaluate.published.tables import Column


def show_comparison(comparison: Comparison, console: Console) -> None:
    """Print measured beside published, whether the ordering is reproduced, and what is missing."""
    table = comparison.table
    console.print(_grid(comparison))
    console.print(
        Text(
            "measured / published, then their difference    =: the published number lies in the measured 95 % interval"
            f"    only {table.family} runs",
            "dim",
        )
    )
    console.print()
    for ordering in comparison.orderings:
        mark = {True: "✓", False: "✗", None: "?"}[ordering.reproduced]
        console.print(Text(f"{mark} {ordering.verdict}"))
    console.print()
    for line in said(comparison):
        console.print(Text(line, "dim"))


def said(comparison: Comparison) -> list[str]:
    """Return in sentences what was not measured, and what to beware of."""
    table, total = comparison.table, len(comparison.cells)
    lines = [f"{comparison.measured} of {total} published numbers have a measured one beside them ({table.source})."]
    if comparison.missing:
        lines.append(f"Not measured: {', '.join(comparison.missing)}.")
    for names in dict.fromkeys(comparison.partial.values()):
        models = [model for model, lacking in comparison.partial.items() if lacking == names]
        lines.append(f"Measured in part: {', '.join(models)}; not {', '.join(names)}.")
    if comparison.unknown:
        lines.append(f"Not known here by a certain checkpoint: {', '.join(comparison.unknown)}.")
    if comparison.elsewhere:
        where = ", ".join(dict.fromkeys(name for column in table.columns for name in column.datasets))
        lines.append(
            f"Measured by the same rules, but not on the data of the table ({where}), so not beside it: "
            f"{', '.join(comparison.elsewhere)}."
        )
    for task, (head, *others) in comparison.heads.items():
        lines.append(f"{task}: with the head {head} alone; probed as well, and not shown here: {', '.join(others)}.")
    lines += [f"note: {caveat}" for caveat in _caveats(comparison)]
    return [*lines, f"note: {table.note}"]


def _caveats(comparison: Comparison) -> list[str]:
    found: dict[str, list[str]] = {}
    for cell in comparison.cells:
        if cell.measured and cell.caveat:
            found.setdefault(cell.caveat, []).append(cell.column.name)
    return [f"{', '.join(dict.fromkeys(names))}: {caveat}" for caveat, names in found.items()]


def _grid(comparison: Comparison) -> Grid:
    table = comparison.table
    grid = Grid(title=f"{table.title} ({table.source})", title_justify="left", pad_edge=False)
    grid.add_column("model", no_wrap=True)
    for column in table.columns:
        arrow = "↑" if column.higher_is_better else "↓"
        grid.add_column(f"{column.name} {arrow}", justify="right", no_wrap=True)
    width = len(table.columns)
    for index, row in enumerate(table.rows):
        cells = comparison.cells[index * width : (index + 1) * width]
        last = index + 1 == len(table.rows) or table.rows[index + 1].kind != row.kind
        known = any(cell.measured for cell in cells)
        grid.add_row(Text(row.name, "bold" if known else "dim"), *map(_text, cells), end_section=last)
    for kind, means in table.printed_means.items():
        texts = (f"{mean:.{digits(column)}f}" for column, mean in zip(table.columns, means, strict=True))
        grid.add_row(Text(f"{kind.upper()} mean, published", "dim"), *(Text(cell, "dim") for cell in texts))
    return grid


def _text(cell: Beside) -> Text:
    published = printed(cell.column, cell.published)
    if cell.measured is None or cell.difference is None:
        return Text(f"– / {published}", "dim")
    value = Text(f"{printed(cell.column, cell.measured.value)} / {published}", "bold")
    difference = signed(cell.column, cell.difference.value)
    return value.append(f"\n{'= ' if cell.inside else ''}{difference}", "green" if cell.inside else "yellow")


def printed(column: Column, value: float) -> str:
    """Return a value as the table prints it: in its unit, with its digits."""
    return f"{value / column.scale:.{digits(column)}f}"


def signed(column: Column, value: float) -> str:
    """Return a difference as the table would print it."""
    text = printed(column, value)
    return text.replace("-", "−") if text.startswith("-") else f"+{text}"


def digits(column: Column) -> int:
    """Return the digits after the point that the table prints."""
    return 2 if column.printed == "%" else 3
