"""Which weights of a probe are kept: those with the least loss on val; and when a probe has learned enough."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from probes.bank import ProbeBank

log = logging.getLogger(__name__)


class Kept:
    """Weights of every probe, kept on the CPU whenever its loss on val is the least so far, or simply the last.

    Args:
        bank: the probes.
        keep: `best` or `last`.
        patience: validations in a row without a new least loss after which a probe is trained no more.

    Attributes:
        loss: on val, of the weights that are kept; NaN before the first validation, infinite if the probe diverged.
        step: at which they were reached.
        least: the least loss on val so far.
        waited: validations since then.
        weights: by the name of the parameter in the head.
    """

    def __init__(self, bank: ProbeBank, keep: Literal["best", "last"], patience: int | None) -> None:
        count = len(bank.probes)
        self.keep, self.patience = keep, patience
        self.loss, self.step = [math.nan] * count, [0] * count
        self.least, self.waited = [math.inf] * count, [0] * count
        self.weights: list[dict[str, Tensor]] = [{} for _ in range(count)]

    def update(self, bank: ProbeBank, losses: Sequence[float], step: int) -> None:
        """Take in one validation: keep weights, and let probes rest that have waited for too long.

        Probes that share a trunk are judged by the sum of their losses.
        """
        owned = bank.owned
        judged = {index: sum(losses[each] for each in members) for members in bank.units for index in members}
        for index in range(len(losses)):
            if not bank.active[index]:
                continue
            loss = judged[index]
            better = loss < self.least[index]
            self.waited[index] = 0 if better else self.waited[index] + 1
            self.least[index] = min(loss, self.least[index])
            if better or self.keep == "last" or not self.weights[index]:
                self.loss[index], self.step[index] = loss, step
                named = owned[index].items()
                self.weights[index] = {name: weight.detach().to("cpu", copy=True) for name, weight in named}
            if self.patience is not None and self.waited[index] >= self.patience:
                bank.active[index] = False

    def drop_diverged(self, bank: ProbeBank, losses: Sequence[float]) -> None:
        """Let probes rest whose loss is not finite: the others go on, and one of these is never chosen."""
        for index in bank.diverged(losses):
            log.warning("probe %s: the loss became %s; it is given up", bank.probes[index].id, losses[index])
            bank.active[index] = False
            self.loss[index] = self.least[index] = math.inf

    def restore(self, bank: ProbeBank) -> None:
        """Put the kept weights into the heads."""
        for owned, weights in zip(bank.owned, self.weights, strict=True):
            put(owned, weights)


@torch.no_grad()
def put(owned: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Write weights into parameters of the same names; no weights at all change nothing."""
    for name, tensor in weights.items():
        owned[name].copy_(tensor)
