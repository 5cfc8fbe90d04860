"""One pass: a bank of probes over the stream, with validation, and a state to go on from after a kill."""

from __future__ import annotations

import logging
import math
import signal
import time
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.loggers import Logger

from probes.bank import ProbeBank
from probes.config import VALIDATIONS, TrainConfig
from probes.data import Batch, Batches, Stream
from probes.training.kept import Kept
from probes.training.log import EVERY, VALIDATION, TrainingLog, begin_table, write_line
from probes.training.machine import Machine
from probes.training.state import STATE, State, save_state
from probes.training.status import Meter

log = logging.getLogger(__name__)

SAVE_SECONDS = 60.0
"""At most so much work is lost when a run is killed, or ten steps if those take longer."""


def fit(
    bank: ProbeBank,
    stream: Stream,
    config: TrainConfig,
    folder: Path,
    machine: Machine,
    meter: Meter,
    loggers: Sequence[Logger] = (),
) -> Kept:
    """Train the bank, or go on where the state in `folder` was saved; its heads end with the weights that are kept.

    Raises:
        KeyboardInterrupt: as it came.
    """
    kept = Kept(bank, config.keep, config.patience)
    if not any(bank.active):
        return kept
    state = _saved(folder / STATE)
    if state is not None:
        state.restore(bank, kept)
    first = state.step if state else 0
    bank.first = first
    if first < stream.steps and any(bank.active):
        batches = stream.train(list(bank.taps), first)
        callbacks = [
            _Resuming(state),
            TrainingLog(folder, batches, meter, kept, first),
            _Validation(folder, stream.val(list(bank.taps)), meter, kept, first, due(stream.steps, config)),
            _Saving(folder / STATE, kept, first),
        ]
        name = f"train {folder.name.removeprefix('pass-')}" if folder.name != "pass-1" else "train"
        with meter.phase(name, stream.steps, f"{len(bank.probes)} probes", done=first), _quiet(), _interruptible():
            trainer = L.Trainer(
                **machine.trainer,
                max_epochs=1,
                logger=list(loggers) or False,
                log_every_n_steps=1,
                callbacks=callbacks,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
                plugins=[LightningEnvironment()],
            )
            trainer.fit(bank, batches)
    kept.restore(bank)
    return kept


def due(steps: int, config: TrainConfig) -> set[int]:
    """Steps after which the loss is taken on val: evenly spread, the last among them.

    Ten times, but at most once per epoch; and only at the end, if nothing depends on what it was before.
    """
    needed = config.keep == "best" or config.patience is not None
    times = min(VALIDATIONS, config.epochs) if needed else 1
    return {-(-steps * k // times) for k in range(1, times + 1)}


def _saved(path: Path) -> State | None:
    """The state that a killed run left, if it can be read."""
    from safetensors import SafetensorError

    if not path.is_file():
        return None
    try:
        return State(path)
    except (OSError, ValueError, SafetensorError) as error:
        log.warning("%s: cannot be read (%s); training starts anew", path, error)
        return None


class _Resuming(L.Callback):
    def __init__(self, state: State | None) -> None:
        self._state = state

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, ProbeBank)
        if self._state is not None:
            self._state.restore_optimizer(pl_module, trainer.optimizers[0])


class _Validation(L.Callback):
    """Takes the loss on val now and then, keeps weights, and ends a training in which no probe learns any more."""

    def __init__(
        self, folder: Path, batches: Batches, meter: Meter, kept: Kept, first: int, steps: Collection[int]
    ) -> None:
        self._path, self._batches, self._meter = folder / VALIDATION, batches, meter
        self._kept, self._first, self._due = kept, first, steps

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, ProbeBank)
        if trainer.is_global_zero:
            begin_table(self._path, ["step", *(probe.id for probe in pl_module.probes)], self._first)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ProbeBank)
        step = self._first + batch_idx + 1
        if step not in self._due:
            return
        losses = validate(pl_module, self._batches, trainer, self._meter)
        self._kept.drop_diverged(pl_module, losses)
        self._kept.update(pl_module, losses, step)
        known = [loss for loss in losses if math.isfinite(loss)]
        self._meter.validated(sum(known) / len(known) if known else math.nan)
        if trainer.is_global_zero:
            write_line(self._path, [step, *("" if loss != loss else f"{loss:.6g}" for loss in losses)])
        for logger in trainer.loggers:
            named = zip(pl_module.probes, losses, strict=True)
            logger.log_metrics({f"val_loss/{probe.id}": loss for probe, loss in named if loss == loss}, step)
        if not any(pl_module.active):
            trainer.should_stop = True


@torch.no_grad()
def validate(bank: ProbeBank, batches: Batches, trainer: L.Trainer, meter: Meter) -> list[float]:
    """Mean loss of each probe over the clips of val, NaN for those that learn no more."""
    bank.eval()
    total = torch.zeros(len(bank.probes), dtype=torch.float64)
    clips = 0
    for batch in batches:
        moved = trainer.strategy.batch_to_device(batch)
        count = len(next(iter(batch.features.values())))
        with trainer.precision_plugin.forward_context():
            total += count * bank.batch_losses(moved).double().cpu()
        clips += count
        meter.alive()
    bank.train()
    return (total / clips).tolist()


class _Saving(L.Callback):
    """Saves the state every minute, at steps after which a line was written, and at the end."""

    def __init__(self, path: Path, kept: Kept, first: int) -> None:
        self._path, self._kept, self._first = path, kept, first
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ProbeBank)
        step = self._first + batch_idx + 1
        over = step == pl_module.steps or trainer.should_stop
        if over or (step % EVERY == 0 and time.monotonic() - self._saved > SAVE_SECONDS):
            if trainer.is_global_zero:
                save_state(self._path, pl_module, trainer.optimizers[0], self._kept, step)
            self._saved = time.monotonic()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lets Ctrl-C be a `KeyboardInterrupt` again, of which Lightning makes an exit that ignores further ones."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise KeyboardInterrupt from error
    finally:
        if handler is not None and signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)


class _quiet(warnings.catch_warnings):
    """Keeps Lightning from saying what nobody can act on."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        # The stream prefetches by itself and is no DataLoader, so advice on the number of workers is beside the point.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Lightning 2.6 calls what torch 2.13 deprecates.
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
        return entered
