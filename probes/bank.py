"""Many probes in one pass: one read, one optimizer step, and each probe ends where it would have ended alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning.pytorch as L
import torch
from jaxtyping import Float, Float32, Num
from torch import Tensor, nn

from probes.config import ProbeSpec, TapSpec
from probes.data import Batch
from probes.errors import NonFiniteError
from probes.heads import Grid, build_head
from probes.sampling import GridMap, sample_cells
from probes.seeding import seed_of
from probes.standardise import Standardiser
from probes.tasks.base import Task
from store.reading.batch import dequantise

WARMUP = 0.05
BETAS = (0.9, 0.95)


class ProbeBank(L.LightningModule):
    """Any number of probes with disjoint parameters.

    The loss is the sum of the probes' losses, so each gradient is that of one loss; AdamW updates every number by
    itself; and no probe's initial weights or batches depend on another. Hence the result of each probe equals, bit
    for bit on a CPU, that of training it alone.

    Args:
        probes: what to train.
        taps: tap name -> tap, for all taps of the probes.
        tasks: task name -> task, for all tasks of the probes.
        standardisers: tap name -> standardiser.
        steps: length of the learning-rate schedule: linear warm-up over the first 5 %, then a cosine to 0.
    """

    def __init__(
        self,
        probes: Sequence[ProbeSpec],
        taps: Mapping[str, TapSpec],
        tasks: Mapping[str, Task],
        standardisers: Mapping[str, Standardiser],
        steps: int = 1,
    ) -> None:
        super().__init__()
        self.probes = tuple(probes)
        self.taps = dict(taps)
        self.tasks = dict(tasks)
        self.steps = steps
        self._tap_index = {tap: index for index, tap in enumerate(standardisers)}
        self.standardisers = nn.ModuleList(standardisers.values())
        self.heads = nn.ModuleList(self._head(probe) for probe in self.probes)
        self.losses: Float[Tensor, " probe"] = torch.zeros(len(self.probes))

    def _head(self, probe: ProbeSpec) -> nn.Module:
        task = self.tasks[probe.task]
        generator = torch.Generator().manual_seed(seed_of(probe.seed, probe.id))
        return build_head(probe.head, task.layout, self.taps[probe.tap].channels, task.outputs, generator)

    def standardiser(self, tap: str) -> nn.Module:
        """The standardiser of a tap."""
        return self.standardisers[self._tap_index[tap]]

    def start_at(self, priors: Mapping[str, Float[Tensor, " output"]]) -> None:
        """Set every probe's bias to its task's prior."""
        with torch.no_grad():
            for probe, head in zip(self.probes, self.heads, strict=True):
                head.get_parameter("bias").copy_(priors[probe.task])

    def grid(
        self,
        tap: str,
        features: Num[Tensor, "clip view y x channel"],
        scale: Float32[Tensor, "clip channel"] | None = None,
    ) -> Grid:
        """Standardise features of one tap, once for all probes that read it. With a scale, they are int8 * scale."""
        return Grid(self.standardiser(tap)(features if scale is None else dequantise(features, scale)))

    def forward(self, index: int, grid: Grid) -> Tensor:
        """Raw outputs of one probe."""
        outputs: Tensor = self.heads[index](grid)
        return outputs

    def training_step(self, batch: Batch, batch_index: int) -> Float[Tensor, ""]:
        """Sum of the probes' losses on one batch."""
        grids = {tap: self.grid(tap, features, batch.scales.get(tap)) for tap, features in batch.features.items()}
        losses = torch.stack([self._loss(i, probe, grids[probe.tap], batch) for i, probe in enumerate(self.probes)])
        self.losses = losses.detach()
        return losses.sum()

    def _loss(self, index: int, probe: ProbeSpec, grid: Grid, batch: Batch) -> Float[Tensor, ""]:
        task, targets = self.tasks[probe.task], batch.targets[probe.task]
        outputs = self(index, grid)
        if task.layout == "cells":
            outputs = sample_cells(outputs, targets["xy"], GridMap(*self.taps[probe.tap].grid_map))
        return task.loss(outputs, targets)

    def check_losses(self) -> None:
        """Raise `NonFiniteError` if a probe's loss is NaN or infinite."""
        for probe, loss in zip(self.probes, self.losses.tolist(), strict=True):
            if not math.isfinite(loss):
                raise NonFiniteError(f"probe {probe.id}: the loss became {loss}. Lower --learning-rate.")

    def configure_optimizers(self) -> Any:
        """AdamW with each probe's own learning rate and weight decay (none on biases), all on the same schedule."""
        groups = [
            {"params": parameters, "lr": probe.learning_rate, "weight_decay": probe.weight_decay if decayed else 0.0}
            for probe, head in zip(self.probes, self.heads, strict=True)
            for decayed in (True, False)
            if (parameters := [p for name, p in head.named_parameters() if (name != "bias") == decayed])
        ]
        optimizer = torch.optim.AdamW(groups, betas=BETAS, fused=True)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def warmup_cosine(steps: int) -> Callable[[int], float]:
    """Factor of the learning rate at a step: linear up over the first 5 % of steps, then half a cosine down to 0.

    Loshchilov & Hutter (2017), "SGDR", eq. 5, with one cycle.
    """
    warmup = max(1, round(WARMUP * steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))

    return factor
