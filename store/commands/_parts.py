"""What the commands that move features have in common: which part is meant, how far they are, and what went wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from store.commands._shared import print_error, printable

if TYPE_CHECKING:
    from store.progress import Progress
    from store.sharing.selection import Selection

Taps = Annotated[list[str] | None, typer.Option(help="Only these taps (or other arrays), by comma.", metavar="A,B")]
Splits = Annotated[list[str] | None, typer.Option("--split", help="Only this split. May be given again.")]
Clips = Annotated[list[str] | None, typer.Option(help="Only these clips, by id or row.", metavar="ID,ID")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only so many clips, the first ones.")]
Threads = Annotated[int | None, typer.Option(min=1, help="How many files are moved at once.")]


def selection(
    taps: Sequence[str] | None, splits: Sequence[str] | None, clips: Sequence[str] | None, limit: int | None
) -> Selection:
    """The part of a store that the options mean."""
    from store.sharing.selection import Selection

    return Selection(listed(taps), listed(splits), listed(clips), limit)


@contextmanager
def progress_bar(what: str, *, quiet: bool) -> Iterator[Progress]:
    """A bar on the terminal while the body runs; nothing where there is no terminal, or with `quiet`."""
    from store.progress import Silent

    if quiet or not sys.stderr.isatty():
        yield Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as RichBar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with RichBar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(printable(what), total=None)

        class Bar:
            def start(self, total: int) -> None:
                bar.update(task, total=total)

            def advance(self, size: int) -> None:
                bar.advance(task, size)

        yield Bar()


def report_failures(failures: Sequence[Sequence[str]], what: str) -> None:
    """List what failed on standard error and leave with exit status 1; do nothing if nothing did."""
    if not failures:
        return
    for *names, problem in failures:
        print_error(f"{', '.join(names)}: {problem}")
    print(
        f"{len(failures)} {what} failed; the rest is done. Mend the cause and run the same command again.",
        file=sys.stderr,
    )
    raise typer.Exit(1)


def listed(values: Sequence[str] | None) -> tuple[str, ...]:
    """The names of an option that takes several, by comma or by being given again."""
    return tuple(part for value in values or () for part in value.split(",") if part)
