"""Where a run is: a bar for the person before it, and `status.json` for whoever watches from elsewhere."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.files import write_atomic

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

STATUS = "status.json"
BEAT = 5.0
"""Seconds between two heart-beats."""


class Meter:
    """Shows and writes where a run is.

    `status.json` holds: `state` (`running`, `done`, `failed` or `interrupted`), `phase`, `done` and `of` of that phase,
    what else is known of it, `host`, `pid`, `started` and `updated` (ISO 8601, UTC). It is replaced whole. A run whose
    `updated` is minutes old and whose state is `running` was killed.

    Args:
        folder: where `status.json` is written; `None` writes none, in processes that only help.
        progress: bars.
    """

    def __init__(self, folder: Path | None, progress: Progress) -> None:
        self._folder, self._progress = folder, progress
        self._bar: TaskID | None = None
        self._known: dict[str, Any] = {}
        self._fixed = {"host": socket.gethostname(), "pid": os.getpid(), "started": _now()}
        self._beaten = 0.0

    @contextmanager
    def phase(self, name: str, of: int, note: str = "", done: int = 0) -> Iterator[None]:
        """A part of the run with `of` steps, `done` of which were done before."""
        self._bar = self._progress.add_task(name, total=of, note=note, completed=done)
        self._known = {"phase": name, "done": done, "of": of}
        self._beat(force=True)
        yield

    def advance(self) -> None:
        """One step more of this phase."""
        self._at(self._known["done"] + 1)

    def alive(self) -> None:
        """Nothing is done yet, but work goes on."""
        self._beat()

    def trained(self, step: int, **facts: float) -> None:
        """Training is at a step: `loss`, `clips_per_second`, `read_gb_per_second`, `waiting` (share of the time)."""
        self._known |= facts
        note = (
            f"loss {facts['loss']:.3f}{self._validated()}, {facts['clips_per_second']:.0f} clips/s, "
            f"{facts['read_gb_per_second']:.2f} GB/s, {facts['waiting']:.0%} waiting"
        )
        self._at(step, note)

    def validated(self, loss: float) -> None:
        """The mean loss of the probes on val."""
        self._known["val_loss"] = loss

    def end(self, state: str) -> None:
        """The run is over."""
        self._known["state"] = state
        self._beat(force=True)

    def _validated(self) -> str:
        return f" (val {self._known['val_loss']:.3f})" if "val_loss" in self._known else ""

    def _at(self, done: int, note: str | None = None) -> None:
        self._known["done"] = done
        if self._bar is not None:
            self._progress.update(self._bar, completed=done)
            if note is not None:
                self._progress.update(self._bar, note=note)
        self._beat()

    def _beat(self, *, force: bool = False) -> None:
        if self._folder is None or not (force or time.monotonic() - self._beaten > BEAT):
            return
        self._beaten = time.monotonic()
        content = {"state": "running", **self._known, **self._fixed, "updated": _now()}
        write_atomic(self._folder / STATUS, [json.dumps(content, indent=1).encode()])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def bars(*, quiet: bool = False) -> Iterator[Progress]:
    """Progress bars on stderr, which keeps stdout for results."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        yield progress
