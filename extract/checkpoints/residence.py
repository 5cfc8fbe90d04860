"""Where networks live: on the device, or in main memory with visits to the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from extract.backbones.base import Offload


class Residence:
    """Where networks live: on the device, or in main memory with visits to the device.

    Args:
        networks: all networks of a backbone, on the CPU.
        denoiser: the one that is too large, and is moved block by block while it runs.
        device: that computes.
        offload: `none`, `group` (a block at a time) or `sequential` (a layer at a time).
    """

    def __init__(self, networks: nn.ModuleDict, denoiser: str, device: torch.device, offload: Offload) -> None:
        self._networks, self._device, self._resident = networks, device, offload == "none"
        if self._resident:
            if any(each.device != device for each in networks.parameters()):
                networks.to(device)
            return
        large: Any = networks[denoiser]
        large.enable_group_offload(
            onload_device=device,
            offload_device=torch.device("cpu"),
            # One forward takes seconds, and moving its weights a second: streams would buy little, and lose their way
            # when a forward stops early.
            offload_type="block_level" if offload == "group" else "leaf_level",
            num_blocks_per_group=1 if offload == "group" else None,
        )

    @contextmanager
    def visit(self, *names: str) -> Iterator[None]:
        """Bring networks to the device for the body of the `with`."""
        if self._resident:
            yield
            return
        try:
            for name in names:
                self._networks[name].to(self._device)
            yield
        finally:
            for name in names:
                self._networks[name].to("cpu")
