"""All that a report is on disk: the page, the tables, and every figure as a file of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from evaluate.export import write_csv, write_markdown
from evaluate.figures import draw
from evaluate.latex import write_latex
from evaluate.published.files import write_comparison
from evaluate.published.found import comparisons
from evaluate.published.tables import name_of
from evaluate.report.page import write_report
from evaluate.results.parquet import write_scores
from evaluate.table import Axis

FIGURES = "figures"


def write(axes: Sequence[Axis], out: Path, formats: Collection[str], command: str = "") -> list[Path]:
    """Write a report.

    Args:
        axes: what `evaluate.table.build` returned.
        out: folder of the report; it is created.
        formats: any of `html`, `csv`, `md`, `latex`, `parquet`, `svg`, `png`. The last two are of every figure.
        command: what makes this report, to be shown in the page.

    Returns:
        The files written: the page, tables (also of what stands beside a published one), then figures.
    """
    out.mkdir(parents=True, exist_ok=True)
    drawn = list(draw(axes)) if {"html", "svg", "png"} & set(formats) else []
    files = []
    if "html" in formats:
        files.append(out / "report.html")
        write_report(axes, files[-1], command, drawn)
    for name, ending, writer in (
        ("csv", "csv", write_csv),
        ("md", "md", write_markdown),
        ("latex", "tex", write_latex),
        ("parquet", "parquet", write_scores),
    ):
        if name in formats:
            files.append(out / f"results.{ending}")
            writer(axes, files[-1])
    for comparison in comparisons(axes) if {"csv", "latex"} & set(formats) else ():
        files += write_comparison(comparison, out, name_of(comparison.table), formats)
    if endings := [ending for ending in ("svg", "png") if ending in formats]:
        folder = out / FIGURES
        folder.mkdir(exist_ok=True)
        # After the page: a file's legend takes room of its own in the figure.
        files += [file for figure in drawn for file in figure.write(folder, endings)]
    return files
