"""How a run tells of itself: a progress bar on stderr for people, `metrics.csv` for everyone."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import lightning.pytorch as L
import torch

from probes.bank import ProbeBank
from probes.data import Batch

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from torch import Tensor

EVERY = 10
"""Steps between two lines of `metrics.csv`; a line holds means over them."""


class TrainingLog(L.Callback):
    """Writes step, clips seen, mean loss and each probe's loss; moves the bar; stops a run whose loss is not finite.

    Args:
        path: file to write.
        progress, bar: where the bar is.
    """

    def __init__(self, path: Path, progress: Progress, bar: TaskID) -> None:
        self._path, self._progress, self._bar = path, progress, bar
        self._losses: list[Tensor] = []
        self._clips, self._started = 0, time.perf_counter()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the header."""
        assert isinstance(pl_module, ProbeBank)
        self._started = time.perf_counter()
        self._write(["step", "clips", "seconds", "loss", *(probe.id for probe in pl_module.probes)], "w")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Collect; every few steps, and at the end, write a line."""
        assert isinstance(pl_module, ProbeBank)
        self._losses.append(pl_module.losses)
        self._clips += len(next(iter(batch.features.values())))
        if (batch_idx + 1) % EVERY and batch_idx + 1 < pl_module.steps:
            return
        pl_module.check_losses()
        mean = torch.stack(self._losses).mean(0)
        self._losses.clear()
        seconds = time.perf_counter() - self._started
        loss = float(mean.mean())
        each = [f"{value:.6g}" for value in mean.tolist()]
        self._write([batch_idx + 1, self._clips, f"{seconds:.2f}", f"{loss:.6g}", *each])
        note = f"loss {loss:.3f}, {self._clips / seconds:.0f} clips/s"
        self._progress.update(self._bar, completed=batch_idx + 1, note=note)

    def _write(self, line: list[object], mode: str = "a") -> None:
        with self._path.open(mode, newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(line)


@contextmanager
def bars() -> Iterator[Progress]:
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
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress
