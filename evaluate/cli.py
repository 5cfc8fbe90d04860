"""The command line: `python -m evaluate`."""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from evaluate.errors import EvaluateError, InputError

WIDTH = 160
"""Columns of the table where no terminal says how many there are."""


class Format(StrEnum):
    """What can be written: the page, the tables, the figures."""

    html = "html"
    csv = "csv"
    md = "md"
    latex = "latex"
    svg = "svg"
    png = "png"
    parquet = "parquet"


DEFAULT = (Format.html, Format.csv, Format.md)

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False, rich_markup_mode=None)


@app.command(epilog="Results for programs: python -m evaluate export --help, python -m evaluate query --help.")
def evaluate(
    runs: Annotated[
        list[str] | None, typer.Option(help="Run directories or patterns. May be given often. [default: runs/*]")
    ] = None,
    more: Annotated[
        list[str] | None, typer.Argument(help="More of them: what a shell makes of --runs runs/*", metavar="[RUN]...")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write report.html, results.* and figures/.")] = Path("report"),
    formats: Annotated[
        list[Format] | None,
        typer.Option(
            "--format", help="What to write; may be given often. svg, png: every figure. [default: html csv md]"
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            help="Put what was measured by a paper's own rules beside its published table, and do nothing else: "
            "paper (arXiv 2605.28132) or vidfm3d (arXiv 2512.19949).",
            metavar="TABLE",
        ),
    ] = None,
    rerun: Annotated[
        Path | None,
        typer.Option(
            help="Write the kept examples of all runs as recordings for the Rerun viewer, and do nothing else. Needs "
            "pip install 'spatial-probing[view]'.",
            metavar="DIR",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every result as JSON and nothing else.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap over scenes.")] = 0,
    resamples: Annotated[int, typer.Option(min=1, help="Resamples of the bootstrap.")] = 1000,
) -> None:
    """Compare probes: tables with 95 % intervals over test scenes, beside their controls, and a report to look at."""
    patterns = [*(runs or []), *(more or [])] or ["runs/*"]
    try:
        if rerun is not None and compare is not None:
            raise InputError("--rerun and --compare each do nothing else; give one of them")
        if rerun is not None:
            _record(patterns, rerun, as_json)
        elif compare is not None:
            _compare(compare, patterns, out, formats or [], as_json, seed, resamples)
        else:
            _evaluate(patterns, out, set(formats or DEFAULT), as_json, seed, resamples)
    except (EvaluateError, OSError) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(1) from error


def _evaluate(patterns: list[str], out: Path, formats: set[Format], as_json: bool, seed: int, resamples: int) -> None:
    from rich.console import Console

    from evaluate.export import rows
    from evaluate.report.files import write
    from evaluate.table import build, find_runs
    from evaluate.terminal import show

    axes = build(find_runs(patterns), seed=seed, resamples=resamples)
    if not axes:
        raise InputError(f"no probes in {', '.join(patterns)}; train some with `python -m probes.train`")
    # The folder is left out: the same results are the same bytes, wherever they lie.
    command = ["python", "-m", "evaluate", *(part for pattern in patterns for part in ("--runs", pattern))]
    command += ["--seed", str(seed), "--resamples", str(resamples)]
    files = write(axes, out, formats, shlex.join(command))
    if as_json:
        typer.echo(json.dumps(list(rows(axes)), indent=1))
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    show(axes, console)
    # Figures are many: their folder stands for them.
    places = dict.fromkeys(file if file.parent == out else file.parent for file in files)
    console.print(f"\nReport: {', '.join(map(str, places))}", highlight=False, soft_wrap=True)


def _record(patterns: list[str], folder: Path, as_json: bool) -> None:
    from evaluate.recordings import write_recordings
    from evaluate.table import find_runs

    files = write_recordings(find_runs(patterns), folder)
    typer.echo(json.dumps([str(file) for file in files], indent=1) if as_json else "\n".join(map(str, files)))


def _compare(
    name: str, patterns: list[str], out: Path, formats: list[Format], as_json: bool, seed: int, resamples: int
) -> None:
    from rich.console import Console

    from evaluate.published.beside import put_beside
    from evaluate.published.files import write_comparison
    from evaluate.published.rows import comparison_document
    from evaluate.published.show import show_comparison
    from evaluate.published.tables import published
    from evaluate.table import build, find_runs

    if other := [each.value for each in formats if each not in (Format.csv, Format.latex)]:
        raise InputError(f"--compare writes JSON, and csv and latex on request; got --format {other[0]}")
    table = published(name)
    comparison = put_beside(table, build(find_runs(patterns), seed=seed, resamples=resamples, family=table.family))
    text = json.dumps(comparison_document(comparison), indent=1, allow_nan=False)
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"comparison-{name}.json"]
    files[0].write_text(text + "\n", "utf-8")
    files += write_comparison(comparison, out, name, formats)
    if as_json:
        typer.echo(text)
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    show_comparison(comparison, console)
    console.print(f"\nWritten: {', '.join(map(str, files))}", highlight=False, soft_wrap=True)
