"""How a training tells of itself: a bar on stderr for people, tables for everyone, and a heart-beat for watchers."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as L
import torch
from jaxtyping import Float
from torch import Tensor

from probes.bank import ProbeBank
from probes.data import Batch, Batches
from probes.training.kept import Kept
from probes.training.status import Meter

EVERY = 10
"""Steps between two lines of `metrics.csv`; a line holds means over them."""
METRICS, VALIDATION = "metrics.csv", "validation.csv"


class TrainingLog(L.Callback):
    """Writes step, clips seen, mean loss and each probe's loss; moves the bar; looks for losses that are not finite.

    Of several processes the first writes, for all of them.

    Args:
        folder: where `metrics.csv` is written.
        batches: what the trainer reads; it knows how long the trainer waited.
        meter: bar and heart-beat.
        kept: hears of probes whose loss is not finite.
        first: step that the run goes on from; lines of later steps are of a run that was broken off, and are dropped.
    """

    def __init__(self, folder: Path, batches: Batches, meter: Meter, kept: Kept, first: int) -> None:
        self._path, self._batches, self._meter, self._first = folder / METRICS, batches, meter, first
        self._kept = kept
        self._losses: list[Tensor] = []
        self._clips, self._before = 0, 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the header, or keep what is there of earlier steps."""
        assert isinstance(pl_module, ProbeBank)
        header = ["step", "clips", "seconds", "loss", *(probe.id for probe in pl_module.probes)]
        kept = begin_table(self._path, header, self._first) if trainer.is_global_zero else []
        if kept:
            self._clips, self._before = int(kept[-1][1]), float(kept[-1][2])
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Collect; every few steps, and at the end, write a line."""
        assert isinstance(pl_module, ProbeBank)
        step = self._first + batch_idx + 1
        self._losses.append(pl_module.losses)
        self._clips += trainer.world_size * len(next(iter(batch.features.values())))
        self._meter.alive()
        if step % EVERY and step < pl_module.steps:
            return
        mean = _mean(torch.stack(self._losses).mean(0), trainer)
        self._kept.drop_diverged(pl_module, mean.tolist())
        trainer.should_stop = trainer.should_stop or not any(pl_module.active)
        self._losses.clear()
        if not trainer.is_global_zero:
            return
        elapsed = time.perf_counter() - self._started
        loss = float(mean.nanmean())
        seconds = f"{self._before + elapsed:.2f}"
        write_line(self._path, [step, self._clips, seconds, f"{loss:.6g}", *map(_number, mean.tolist())])
        self._meter.trained(
            step,
            loss=loss,
            clips_per_second=trainer.world_size * self._batches.clips / elapsed,
            read_gb_per_second=trainer.world_size * self._batches.read / elapsed / 1e9,
            waiting=self._batches.waited / elapsed,
        )
        for logger in trainer.loggers:
            each = {f"loss/{p.id}": v for p, v in zip(pl_module.probes, mean.tolist(), strict=True) if v == v}
            logger.log_metrics({"loss": loss, **each}, step)


def _mean(losses: Float[Tensor, " probe"], trainer: L.Trainer) -> Float[Tensor, " probe"]:
    """Over all processes, each of which has an equal share of every batch."""
    mean = trainer.strategy.reduce(losses, reduce_op="mean")
    assert isinstance(mean, Tensor)
    return mean


def begin_table(path: Path, header: Sequence[str], last: int) -> list[list[str]]:
    """Begin a table of which the first column is the step, with what is there of steps up to `last`. Returns that."""
    kept: list[list[str]] = []
    if last and path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            kept = [line for line in list(csv.reader(file))[1:] if len(line) == len(header) and int(line[0]) <= last]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *kept])
    return kept


def write_line(path: Path, line: Sequence[object]) -> None:
    """Add a line to a table."""
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(line)


def _number(value: float) -> str:
    return "" if value != value else f"{value:.6g}"
