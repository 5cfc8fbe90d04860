"""`python -m evaluate export` and `python -m evaluate query`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evaluate.errors import EvaluateError, QueryError
from evaluate.results.columns import Level

if TYPE_CHECKING:
    import pandas as pd

COMMANDS = ("export", "query")
WIDTH = 160
"""Columns of the table where no terminal says how many there are."""
RESAMPLES = 1000

app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False, rich_markup_mode=None)

Seed = Annotated[int, typer.Option(min=0, help="Seed of the bootstrap over scenes.")]
Resamples = Annotated[int, typer.Option(min=1, help="Resamples of the bootstrap.")]
Rows = Annotated[
    Level | None,
    typer.Option(help="What a row is about: all test scenes, with an interval; or one scene. [default: scores]"),
]


@app.command()
def export(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Runs, folders of runs, patterns; or Parquet files, to merge. [default: runs]", metavar="[RUN]..."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Parquet file to write.")] = Path("results.parquet"),
    level: Rows = None,
    where: Annotated[
        str | None, typer.Option(help="Only rows that meet this, as for query.", metavar="CONDITION")
    ] = None,
    seed: Seed = 0,
    resamples: Resamples = RESAMPLES,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write all results into one Parquet file, or the files of several labs into one."""
    with _told():
        from evaluate.results.parquet import write_parquet

        tables, found = _tables(sources or ["runs"], level, where, seed, resamples)
        rows = write_parquet(tables, out, found)
        said = {"file": str(out), "level": found.value, "rows": rows}
        typer.echo(json.dumps(said) if as_json else f"{out}: {rows} rows, one per {_PER[found]}")


@app.command()
def query(
    condition: Annotated[
        str | None, typer.Argument(help="Such as 'task == \"depth\" and not untrained'; without it, all rows.")
    ] = None,
    more: Annotated[
        list[str] | None, typer.Argument(help="More runs: what a shell makes of --runs runs/*", metavar="[RUN]...")
    ] = None,
    runs: Annotated[
        list[str] | None, typer.Option(help="Runs, folders of runs or patterns. May be given often. [default: runs]")
    ] = None,
    file: Annotated[
        list[Path] | None, typer.Option(help="Parquet file of `export`, instead of runs. May be given often.")
    ] = None,
    level: Rows = None,
    best: Annotated[
        str | None,
        typer.Option(help="Only the best row of each data set and protocol by this metric.", metavar="METRIC"),
    ] = None,
    per: Annotated[
        list[str] | None,
        typer.Option(help="With --best: the best of each value of this column, too.", metavar="COLUMN"),
    ] = None,
    any_tap: Annotated[
        bool, typer.Option("--any-tap", help="With --best: all taps, not only those that were chosen on val.")
    ] = False,
    controls: Annotated[
        bool,
        typer.Option("--controls", help="With --best: controls compete too (untrained, shuffled, pixels, position)."),
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Rows of the printed table.")] = 50,
    seed: Seed = 0,
    resamples: Resamples = RESAMPLES,
    as_json: Annotated[bool, typer.Option("--json", help="Print all columns of all rows as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print all columns of all rows as CSV.")] = False,
) -> None:
    """Print the results that meet a condition on columns; `docs/results.md` lists these."""
    with _told():
        import pandas as pd

        if best is None and (per or any_tap or controls):
            raise QueryError("--per, --any-tap and --controls are of no meaning without --best METRIC")
        if file and (runs or more):
            raise QueryError("results come from --file or from --runs, not from both; `export` puts them into one file")
        sources = list(map(str, file or ())) or [*(runs or []), *(more or [])] or ["runs"]
        tables, found = _tables(sources, level, condition, seed, resamples)
        rows = pd.concat(list(tables), ignore_index=True)
        if best is not None:
            if found is not Level.scores:
                raise QueryError(f"--best needs rows of all test scenes (--level scores), these are of {found.value}")
            from evaluate.results.best import best_rows, is_control

            first = best_rows(rows, best, per or (), any_tap=any_tap, controls=True)
            rows = first if controls else best_rows(rows, best, per or (), any_tap=any_tap)
            for row in [] if controls else first[is_control(first)].to_dict("records"):
                typer.echo(_surpassed(row), err=True)
        if as_json:
            typer.echo(json.dumps(documents(rows), indent=1, allow_nan=False))
        elif as_csv:
            typer.echo(rows.to_csv(index=False), nl=False)
        else:
            _show(rows, found, limit)


def _surpassed(row: dict[str, Any]) -> str:
    return (
        f"note: {_titled(row)}, a control, is best by {row['metric']} ({row['value']:.4g}) on {row['dataset']} by "
        f"{row['protocol']}; it does not compete without --controls"
    )


def _titled(row: dict[str, Any]) -> str:
    return f"{row['model']}{' (untrained)' * row['untrained']}{' (shuffled labels)' * row['shuffled']}"


_PER = {Level.scores: "tap and metric", Level.scenes: "probe, scene and metric"}


def documents(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as JSON has them: what is missing or no number is None."""
    found: list[dict[str, Any]] = rows.astype(object).where(rows.notna(), None).to_dict("records")
    return found


def _tables(
    sources: Sequence[str], level: Level | None, where: str | None, seed: int, resamples: int
) -> tuple[Iterator[pd.DataFrame], Level]:
    """Return tables, one after the other, and what their rows are about."""
    from evaluate.results.expression import Condition
    from evaluate.results.frames import load_scores, open_runs, records_of, types_of
    from evaluate.results.parquet import read_parquet

    files = [source for source in sources if source.endswith(".parquet") or Path(source).is_file()]
    if files and len(files) < len(sources):
        other = next(source for source in sources if source not in files)
        raise QueryError(
            f"{other}: runs and Parquet files cannot be mixed; export the runs first, then merge the files"
        )
    if files:
        whole, found = read_parquet(files)
        if level not in (None, found):
            raise QueryError(f"{', '.join(files)}: rows are of the level {found.value}, asked for was {level.value}")
        kept = whole if where is None else whole[Condition(where, types_of(found)).rows(whole)]
        return iter([kept.reset_index(drop=True)]), found
    if level is Level.scenes:
        condition = None if where is None else Condition(where, types_of(level))
        return (records_of(run, condition) for run in open_runs(sources)), level
    return iter([load_scores(sources, where, seed=seed, resamples=resamples)]), Level.scores


def _show(rows: pd.DataFrame, level: Level, limit: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from evaluate.metrics.base import MetricInfo

    if not len(rows):
        typer.echo("No row meets the condition.")
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    names = ["dataset", "protocol", "metric", "model", "head", "tap"]
    names += ["split", "scene"] if level is Level.scenes else []
    table = Table(pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    table.add_column("value", justify="right")
    if level is Level.scores:
        table.add_column("95 % interval", justify="right")
    for row in rows.head(limit).to_dict("records"):
        info = MetricInfo(row["metric"], row["unit"], row["higher_is_better"], "")
        cells = [str(row[name]) for name in names]
        cells[2] += f" {info.arrow}"
        cells[3] = _titled(row)
        cells.append(info.format(row["value"]))
        if level is Level.scores:
            cells.append(f"{info.format(row['low'], unit=False)}–{info.format(row['high'], unit=False)}")
        table.add_row(*cells)
    console.print(table)
    if len(rows) > limit:
        console.print(f"{len(rows) - limit} more rows: --limit, --csv or --json", highlight=False)


@contextmanager
def _told() -> Iterator[None]:
    """Turn known errors into one message and exit status 1."""
    try:
        yield
    except (EvaluateError, OSError) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(1) from error
