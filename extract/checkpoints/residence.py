"""Where networks live: on the device, or in main memory with visits to the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

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


def come_in_turn(blocks: Iterable[nn.Module], device: torch.device, offload: Offload) -> None:
    """Keep the weights of blocks in main memory, from now on; a copy is on `device` while its owner runs.

    Args:
        blocks: that run one after the other, none within another, on the CPU.
        device: that computes.
        offload: `group` brings a block at a time, `sequential` what one module of a block holds itself.
    """
    for block in blocks:
        for owner in [block] if offload == "group" else block.modules():
            tensors = [*owner.parameters(recurse=offload == "group"), *owner.buffers(recurse=offload == "group")]
            if tensors:
                _visit(owner, [(tensor, tensor.data) for tensor in tensors], device)


def _visit(owner: nn.Module, kept: list[tuple[Tensor, Tensor]], device: torch.device) -> None:
    def come(module: nn.Module, inputs: object) -> None:
        for tensor, at_home in kept:
            tensor.data = at_home.to(device, copy=True)  # a copy too where the device is main memory

    def leave(module: nn.Module, inputs: object, output: object) -> None:
        for tensor, at_home in kept:
            tensor.data = at_home

    owner.register_forward_pre_hook(come)
    # Before the hooks of taps, one of which may end the forward; and also if something within the owner fails.
    owner.register_forward_hook(leave, always_call=True)
