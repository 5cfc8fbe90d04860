"""The command line: `python -m evaluate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from evaluate.errors import EvaluateError

WIDTH = 160
"""Columns of the table where no terminal says how many there are."""

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False, rich_markup_mode=None)


@app.command()
def evaluate(
    runs: Annotated[
        list[str] | None, typer.Option(help="Run directories or patterns. May be given often. [default: runs/*]")
    ] = None,
    more: Annotated[
        list[str] | None, typer.Argument(help="More of them: what a shell makes of --runs runs/*", metavar="[RUN]...")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write report.html, results.csv and results.md.")] = Path("report"),
    as_json: Annotated[bool, typer.Option("--json", help="Print every result as JSON and nothing else.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap over scenes.")] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="Resamples of the bootstrap.")] = 1000,
) -> None:
    """Compare probes: tables with 95 % intervals over test scenes, beside their controls, and a report to look at."""
    try:
        _evaluate([*(runs or []), *(more or [])] or ["runs/*"], out, as_json, seed, resamples)
    except (EvaluateError, OSError) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(1) from error


def _evaluate(patterns: list[str], out: Path, as_json: bool, seed: int, resamples: int) -> None:
    from rich.console import Console

    from evaluate.export import rows, write_csv, write_markdown
    from evaluate.report import write_report
    from evaluate.table import build, find_runs
    from evaluate.terminal import show

    axes = build(find_runs(patterns), seed=seed, resamples=resamples)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(axes, out / "results.csv")
    write_markdown(axes, out / "results.md")
    write_report(axes, out / "report.html")
    if as_json:
        typer.echo(json.dumps(list(rows(axes)), indent=1))
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    show(axes, console)
    console.print(f"\nReport: {out / 'report.html'}", highlight=False, soft_wrap=True)
