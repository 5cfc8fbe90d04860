"""Progress for people: a live bar in a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOG_EVERY_S = 5.0


class Progress:
    """Shows progress on standard error; `quiet` shows none (for `--json`)."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """Yield the function to call after each of `total` steps."""
        if self.quiet:
            yield lambda: None
        elif sys.stderr.isatty():
            yield from self._live(title, total)
        else:
            yield from self._lines(title, total)

    def _live(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=total)
            yield lambda: bar.advance(task)

    def _lines(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        start = last = time.monotonic()
        done = 0

        def advance() -> None:
            nonlocal done, last
            done += 1
            now = time.monotonic()
            if now - last >= _LOG_EVERY_S or done == total:
                last = now
                print(
                    f"{title}: {done}/{total} clips, {done / max(now - start, 1e-9):.2g} a second",
                    file=sys.stderr,
                    flush=True,
                )

        yield advance
