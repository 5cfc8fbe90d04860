"""Weights that wait in main memory: each is on the device while its owner runs, and at no other time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from extract.checkpoints.residence import come_in_turn


class Block(nn.Module):
    """Parameters of its own, and modules within."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.inner = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        self.register_buffer("shift", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x) * self.scale + self.shift
        return y


CPU = torch.device("cpu")


def tensors_of(blocks: Sequence[nn.Module]) -> dict[str, int]:
    """Name -> address."""
    return {
        f"{k}.{name}": each.data_ptr() for k, block in enumerate(blocks) for name, each in block.state_dict().items()
    }


@pytest.mark.parametrize("offload", ["group", "sequential"])
def test_weights_are_on_the_device_while_their_owner_runs(offload: Any) -> None:
    blocks = [Block(), Block()]
    homes = tensors_of(blocks)
    come_in_turn(blocks, CPU, offload)

    def away() -> set[str]:
        return {name for name, at in tensors_of(blocks).items() if at != homes[name]}

    seen: dict[str, set[str]] = {}
    for k, block in enumerate(blocks):
        for name, module in block.named_modules():
            module.register_forward_pre_hook(lambda *call, key=f"{k}.{name}": seen.update({key: away()}))
    assert away() == set()
    x: Tensor = torch.ones(2, 3)
    for block in blocks:
        x = block(x)
        assert away() == set()
    for k in range(2):
        own = {name for name in homes if name.startswith(f"{k}.")}
        first = {name for name in own if "inner.0" in name}
        direct = {f"{k}.scale", f"{k}.shift"}
        assert seen[f"{k}.inner.0"] == (own if offload == "group" else direct | first)


def test_a_forward_that_ends_early_leaves_no_weight_behind() -> None:
    block = Block()
    homes = tensors_of([block])
    come_in_turn([block], CPU, "group")

    def leave(*call: Any) -> None:
        raise KeyboardInterrupt

    block.register_forward_hook(leave)
    with pytest.raises(KeyboardInterrupt):
        block(torch.ones(2, 3))
    assert tensors_of([block]) == homes
