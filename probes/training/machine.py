"""Where and how probes are trained: devices and precision. Changes no number but by rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from probes.errors import UnknownNameError

Precision = Literal["32-true", "bf16-mixed"]
ATTENDING = ("alternating", "dpt")
"""Heads that are worth bfloat16: all others wait for features, not for arithmetic."""


@dataclass(frozen=True)
class Machine:
    """Devices and precision.

    Attributes:
        device: of one process.
        devices: how many processes, each with a device of its own and an equal share of every batch.
        precision: as Lightning calls them.
        single: heads that are computed in float32 all the same.
    """

    device: torch.device
    devices: int = 1
    precision: Precision = "32-true"
    single: frozenset[str] = frozenset()

    @property
    def trainer(self) -> dict[str, Any]:
        """Arguments of a Lightning trainer."""
        alone = self.device.type == "cuda" and self.devices == 1
        return {
            "accelerator": {"cuda": "gpu"}.get(self.device.type, self.device.type),
            "devices": [self.device.index or 0] if alone else self.devices,
            "strategy": "auto" if self.devices == 1 else "ddp_find_unused_parameters_true",
            "precision": self.precision,
        }


def make_machine(device: str, devices: int, precision: str, heads: Sequence[str]) -> Machine:
    """The machine that is asked for. `auto` precision is bfloat16 for heads with attention on a GPU, and only for them.

    Raises:
        UnknownNameError: torch does not have such a device, or not so many.
    """
    found = torch_device(device)
    if found.type == "cuda" and devices > torch.cuda.device_count():
        raise UnknownNameError(f"--devices {devices}: this machine has {torch.cuda.device_count()} GPUs.")
    single: frozenset[str] = frozenset()
    if precision == "auto":
        single = frozenset(heads).difference(ATTENDING)
        precision = "bf16-mixed" if found.type == "cuda" and len(single) < len(heads) else "32-true"
    return Machine(found, devices, "bf16-mixed" if precision == "bf16-mixed" else "32-true", single)


def torch_device(name: str) -> torch.device:
    """A device by name; `auto` is a GPU if there is one. Raises `UnknownNameError` for what torch does not have."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UnknownNameError(f"device {name!r} cannot be used here ({reason}). Use auto, cpu or cuda.") from error
    return device
