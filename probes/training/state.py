"""A training that was broken off goes on where it was: weights, optimizer, what was kept, and the step.

Nothing else has a state: batches, pixels and dropout are functions of the step.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probes.bank import ProbeBank
from probes.training.kept import Kept, put
from store.files import write_atomic

STATE = "state.safetensors"
_ADAM = ("step", "exp_avg", "exp_avg_sq")
_META = "training"


def save_state(path: Path, bank: ProbeBank, optimizer: torch.optim.Optimizer, kept: Kept, step: int) -> None:
    """Write everything to one file, which is replaced whole or not at all."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    for index, owned in enumerate(bank.owned):
        for name, parameter in owned.items():
            tensors[f"weight/{index}/{name}"] = parameter.detach()
            for moment, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{moment}/{index}/{name}"] = value
        tensors |= {f"kept/{index}/{name}": weight for name, weight in kept.weights[index].items()}
    meta = {
        "step": step,
        "active": bank.active,
        "loss": kept.loss,
        "steps": kept.step,
        "least": kept.least,
        "waited": kept.waited,
    }
    content = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, {_META: json.dumps(meta)})
    write_atomic(path, [content])


class State:
    """A saved state, read into memory. Raises `OSError`, `ValueError` or `SafetensorError` if it is damaged."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            self._tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self._meta: dict[str, Any] = json.loads((file.metadata() or {}).get(_META, "{}"))
        if not isinstance(self._meta.get("step"), int):
            raise ValueError(f"{path}: is no state of a training")

    @property
    def step(self) -> int:
        """Optimizer steps that were done."""
        return int(self._meta["step"])

    def restore(self, bank: ProbeBank, kept: Kept) -> None:
        """Put weights back, and what was kept."""
        bank.active = list(self._meta["active"])
        kept.loss = [math.nan if loss is None else loss for loss in self._meta["loss"]]
        kept.step, kept.least, kept.waited = self._meta["steps"], self._meta["least"], self._meta["waited"]
        for index, owned in enumerate(bank.owned):
            put(owned, self._named("weight", index))
            kept.weights[index] = self._named("kept", index)

    def restore_optimizer(self, bank: ProbeBank, optimizer: torch.optim.Optimizer) -> None:
        """Put the moments back; after the optimizer was made, on its device."""
        for index, owned in enumerate(bank.owned):
            for name, parameter in owned.items():
                if f"step/{index}/{name}" in self._tensors:
                    optimizer.state[parameter] = {
                        moment: self._tensors[f"{moment}/{index}/{name}"].to(parameter.device) for moment in _ADAM
                    }

    def _named(self, kind: str, index: int) -> dict[str, Tensor]:
        prefix = f"{kind}/{index}/"
        return {name.removeprefix(prefix): tensor for name, tensor in self._tensors.items() if name.startswith(prefix)}
