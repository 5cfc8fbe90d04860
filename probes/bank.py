"""Many probes in one pass: one read, one optimizer step, and each probe ends where it would have ended alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning.pytorch as L
import torch
from jaxtyping import Float, Float32, Num
from torch import Tensor, nn

from probes.config import Asked, ProbeSpec, TapSpec
from probes.data import Batch
from probes.heads import build_head
from probes.heads.base import Form, Grid, Head
from probes.heads.linear import LinearHead, losses_of
from probes.sampling import GridMap, sample_cells
from probes.seeding import seed_of, torch_seed
from probes.standardise import Standardiser
from probes.tasks.base import Task, Wanted
from store.reading.batch import dequantise

WARMUP = 0.05
BETAS = (0.9, 0.95)


class ProbeBank(L.LightningModule):
    """Any number of probes with disjoint parameters.

    The loss is the sum of the probes' losses, so each gradient is that of one loss; AdamW updates every number by
    itself; and no probe's initial weights, dropout or batches depend on another. Hence the result of each probe
    equals, bit for bit on a CPU, that of training it alone.

    Args:
        probes: what to train.
        taps: tap name -> tap, for all taps of the probes.
        tasks: task and head -> task, for all probes; see `probes.tasks.tasks_of`.
        standardisers: tap name -> standardiser.
        steps: length of the learning-rate schedule: linear warm-up, then a cosine to 0.
        warmup: share of the steps in which the learning rate rises.
        heads: of each probe, if they were trained before.
        single: heads that are computed in float32 even where the others are not.

    Attributes:
        active: whether each probe still learns.
        first: step of the schedule that training goes on from.
        losses: of the last step, NaN for probes that learn no more.
    """

    def __init__(
        self,
        probes: Sequence[ProbeSpec],
        taps: Mapping[str, TapSpec],
        tasks: Mapping[Asked, Task],
        standardisers: Mapping[str, Standardiser],
        steps: int = 1,
        heads: Sequence[Head] | None = None,
        warmup: float = WARMUP,
        single: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.probes, self._single = tuple(probes), frozenset(single)
        self.taps = {probe.tap: taps[probe.tap] for probe in self.probes}
        self.tasks = {probe.asked: tasks[probe.asked] for probe in self.probes}
        self.steps, self.first, self.warmup = steps, 0, warmup
        self._tap_index = {tap: index for index, tap in enumerate(self.taps)}
        self.standardisers = nn.ModuleList(standardisers[tap] for tap in self.taps)
        self.heads = nn.ModuleList(heads if heads is not None else self._build())
        self.active = [self.task(probe).trained for probe in self.probes]
        self.losses: Float[Tensor, " probe"] = torch.full((len(self.probes),), math.nan)

    def _build(self) -> Iterator[Head]:
        trunks: dict[str, nn.Module | None] = {}
        for probe in self.probes:
            with torch_seed(seed_of(*probe.start)):
                trunk = trunks.get(probe.unit)
                channels = self.taps[probe.tap].channels
                head = build_head(probe.head, self.task(probe), channels, Form(probe.width, probe.depth, trunk))
            if probe.joint:
                trunks[probe.unit] = head.get_submodule("trunk")
            yield head

    @property
    def owned(self) -> Sequence[Mapping[str, Tensor]]:
        """Parameters and buffers of each head by name, but for those that a head before it has: of a shared trunk."""
        seen: set[int] = set()
        owned: list[dict[str, Tensor]] = []
        for head in self.heads:
            named = {**dict(head.named_parameters()), **dict(head.named_buffers())}
            owned.append({name: tensor for name, tensor in named.items() if id(tensor) not in seen})
            seen |= {id(tensor) for tensor in named.values()}
        return owned

    @property
    def units(self) -> list[list[int]]:
        """Positions of probes that share a trunk, and can be trained and judged together only; most are alone."""
        members: dict[str, list[int]] = {}
        for index, probe in enumerate(self.probes):
            members.setdefault(probe.unit, []).append(index)
        return list(members.values())

    def task(self, probe: ProbeSpec) -> Task:
        """What a probe is asked."""
        return self.tasks[probe.asked]

    def head(self, index: int) -> Head:
        """The head of a probe."""
        head = self.heads[index]
        assert isinstance(head, Head)
        return head

    def standardiser(self, tap: str) -> Standardiser:
        """The standardiser of a tap."""
        standardiser = self.standardisers[self._tap_index[tap]]
        assert isinstance(standardiser, Standardiser)
        return standardiser

    def start_at(self, priors: Mapping[Wanted, Float[Tensor, " output"]]) -> None:
        """Let every probe start at its task's prior."""
        for index, probe in enumerate(self.probes):
            if self.task(probe).trained:
                self.head(index).start_at(priors[self._wanted(probe)])

    def grid(
        self,
        tap: str,
        features: Num[Tensor, "clip view y x channel"],
        scale: Float32[Tensor, "clip channel"] | None = None,
    ) -> Grid:
        """Features of one tap for all probes that read it. With a scale, they are int8 * scale."""
        return Grid(features if scale is None else dequantise(features, scale), self.standardiser(tap))

    def forward(self, index: int, grid: Grid) -> Tensor:
        """Raw outputs of one probe, in float32."""
        outputs: Tensor = self.heads[index](grid)
        return outputs.float()

    def training_step(self, batch: Batch, batch_index: int) -> Float[Tensor, ""]:
        """Sum of the losses of the probes that still learn, on one batch."""
        losses = self.batch_losses(batch, step=self.first + batch_index)
        self.losses = losses.detach()
        return losses[torch.tensor(self.active, device=losses.device)].sum()

    def batch_losses(self, batch: Batch, step: int = 0) -> Float[Tensor, " probe"]:
        """Loss of each probe on one batch, NaN for those that learn no more."""
        wanted = {probe.tap for probe, active in zip(self.probes, self.active, strict=True) if active}
        grids = {tap: self.grid(tap, batch.features[tap], batch.scales.get(tap)) for tap in self.taps if tap in wanted}
        losses = [torch.full((), math.nan, device=self.device)] * len(self.probes)
        together: dict[tuple[Wanted, str], list[int]] = {}
        for index, probe in enumerate(self.probes):
            if not self.active[index]:
                continue
            if isinstance(self.heads[index], LinearHead):
                together.setdefault((self._wanted(probe), probe.tap), []).append(index)
            else:
                with self._precision(probe):
                    losses[index] = self._loss(index, probe, grids[probe.tap], batch, step)
        for (targets, tap), members in together.items():
            with self._precision(self.probes[members[0]]):
                found = self._linear_losses(members, targets, tap, grids[tap], batch)
            for index, loss in zip(members, found, strict=True):
                losses[index] = loss
        return torch.stack(losses)

    def _wanted(self, probe: ProbeSpec) -> Wanted:
        """The targets of a probe in a batch."""
        return self.task(probe).wanted(shuffled=probe.shuffled)

    def _precision(self, probe: ProbeSpec) -> AbstractContextManager[object]:
        """Within, float32 for heads that are always computed in it; for others what the trainer says."""
        return torch.autocast(self.device.type, enabled=False) if probe.head in self._single else nullcontext()

    def _linear_losses(
        self, members: Sequence[int], wanted: Wanted, tap: str, grid: Grid, batch: Batch
    ) -> list[Float[Tensor, ""]]:
        """Losses of linear probes of one task and one tap, all with the same targets.

        An affine map of what lies between cells is what lies between affine maps of cells, so that features are read at
        pixels once, and not the outputs of every probe.
        """
        task, targets = self.task(self.probes[members[0]]), batch.targets[wanted]
        if task.layout == "cells":
            inputs = grid.at(targets["xy"], GridMap(*self.taps[tap].grid_map))
        else:
            inputs = getattr(grid, task.layout)
        heads = [head for index in members if isinstance(head := self.heads[index], LinearHead)]
        return losses_of(heads, inputs, lambda outputs: task.loss(outputs.float(), targets))

    def _loss(self, index: int, probe: ProbeSpec, grid: Grid, batch: Batch, step: int) -> Float[Tensor, ""]:
        task, targets = self.task(probe), batch.targets[self._wanted(probe)]
        if self.training and self.head(index).draws:
            with torch_seed(seed_of(*probe.start, "step", step), self.device):
                outputs = self(index, grid)
        else:
            outputs = self(index, grid)
        if task.layout == "cells":
            outputs = sample_cells(outputs, targets["xy"], GridMap(*self.taps[probe.tap].grid_map))
        return task.loss(outputs, targets)

    def diverged(self, losses: Sequence[float]) -> list[int]:
        """Probes that learn and whose loss is NaN or infinite, and those that share a trunk with one."""
        gone = {
            index
            for index, (loss, active) in enumerate(zip(losses, self.active, strict=True))
            if active and not math.isfinite(loss)
        }
        return sorted(index for members in self.units if gone.intersection(members) for index in members)

    def configure_optimizers(self) -> Any:
        """AdamW with each probe's own learning rate and weight decay, all on the same schedule.

        Biases and other vectors, which scale or shift channels, do not decay.
        """
        alike: dict[tuple[float, float], list[Tensor]] = {}  # few groups, since each costs time in every step
        for probe, owned in zip(self.probes, self.owned, strict=True):
            for parameter in (tensor for tensor in owned.values() if tensor.requires_grad):
                decay = probe.weight_decay if parameter.ndim > 1 else 0.0
                alike.setdefault((probe.learning_rate, decay), []).append(parameter)
        groups = [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in alike.items()]
        optimizer = torch.optim.AdamW(groups, betas=BETAS, fused=True)
        factor = warmup_cosine(self.steps, self.warmup)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(self.first + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def warmup_cosine(steps: int, share: float = WARMUP) -> Callable[[int], float]:
    """Factor of the learning rate at a step: linear up over a share of the steps, then half a cosine down to 0.

    Loshchilov & Hutter (2017), "SGDR", eq. 5, with one cycle.
    """
    warmup = max(1, round(share * steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))

    return factor
