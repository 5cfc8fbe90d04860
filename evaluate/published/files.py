"""A comparison as files: CSV for programs, LaTeX for papers."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from evaluate.latex import escape, table
from evaluate.published.beside import Beside, Comparison
from evaluate.published.found import rows_of
from evaluate.published.rows import comparison_rows
from evaluate.published.show import printed, said, signed


def write_comparison(comparison: Comparison, out: Path, name: str, formats: Collection[str]) -> list[Path]:
    """Write `comparison-NAME.csv` and `.tex`, those of `csv` and `latex` that are in `formats`; return the files."""
    files = []
    if "csv" in formats:
        files.append(out / f"comparison-{name}.csv")
        rows = comparison_rows(comparison)
        with files[-1].open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if "latex" in formats:
        files.append(out / f"comparison-{name}.tex")
        files[-1].write_text("\n".join(latex_lines(comparison)) + "\n", "utf-8")
    return files


def latex_lines(comparison: Comparison) -> list[str]:
    """Return a table of the models of which something was measured: measured, and below it published and difference."""
    published = comparison.table
    columns = [c for c in published.columns if any(cell.measured for cell in comparison.cells if cell.column is c)]
    notes = [f"% {line}" for line in said(comparison)]
    rows = []
    for name, cells in rows_of(comparison):
        mine = [cell for cell in cells if cell.column in columns]
        rows.append(f"{' & '.join([escape(name), *map(_measured, mine)])} \\\\")
        rows.append(f"{' & '.join(['', *map(_published, mine)])} \\\\[2pt]")
    if not rows:
        return notes
    heads = ["model", *(escape(f"{c.name} ({c.printed}) {'↑' if c.higher_is_better else '↓'}") for c in columns)]
    caption = escape(
        f"{published.title} ({published.source}): measured on test by {published.family}; below: published, and "
        "measured minus published. = marks a published number in the measured 95 % interval."
    )
    return ["% Needs \\usepackage{booktabs} and \\usepackage{textcomp}.", *notes, *table(caption, heads, rows)]


def _measured(cell: Beside) -> str:
    return "--" if cell.measured is None else escape(printed(cell.column, cell.measured.value))


def _published(cell: Beside) -> str:
    text = printed(cell.column, cell.published)
    if cell.difference is not None:
        text += f" ({'= ' if cell.inside else ''}{signed(cell.column, cell.difference.value)})"
    return rf"\scriptsize {escape(text)}"
