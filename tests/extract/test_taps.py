"""Hooks hear everything, change nothing, stop the forward, and are always gone afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from extract.backbones.base import Site
from extract.errors import ExtractError, UnknownNameError
from extract.taps import listen
from tests.extract.toy_family import Network


def site(name: str) -> Site:
    return Site(name, name, 6, (8, 8), 0)


def hooks(module: nn.Module) -> int:
    return sum(len(each._forward_hooks) for each in module.modules())


def test_outputs_are_heard_and_unchanged() -> None:
    network, x = Network(), torch.randn(2, 3, 16, 16)
    with listen(network, [site("blocks.0"), site("blocks.2")], stop=False) as heard:
        with_hooks = network(x)
    assert torch.equal(with_hooks, network(x))
    assert torch.equal(heard["blocks.0"], network.blocks[0](x))
    assert hooks(network) == 0


def test_the_forward_stops_after_the_deepest_tap() -> None:
    network, x = Network(), torch.randn(2, 3, 16, 16)
    with listen(network, [site("blocks.1"), site("blocks.0")], stop=True) as heard:
        network(x)
        pytest.fail("the forward went on")
    assert network.calls == [0, 1]
    with listen(network, [site("blocks.1")], stop=False) as whole:
        network(x)
    assert torch.equal(heard["blocks.1"], whole["blocks.1"])


def test_hooks_are_removed_on_any_error() -> None:
    network = Network()
    with pytest.raises(ZeroDivisionError), listen(network, [site("blocks.0")], stop=True):
        raise ZeroDivisionError
    assert hooks(network) == 0
    with (
        pytest.raises(UnknownNameError, match=r"blocks\.9"),
        listen(network, [site("blocks.0"), site("blocks.9")], stop=True),
    ):
        pytest.fail("the body ran")
    assert hooks(network) == 0


def test_silent_and_repeated_sites_are_errors() -> None:
    network, x = Network(), torch.randn(1, 3, 16, 16)
    with (
        pytest.raises(ExtractError, match="encoder: their modules were not called"),
        listen(network, [site("encoder")], stop=True),
    ):
        network(x)
    with pytest.raises(ExtractError, match="ran twice"), listen(network, [site("blocks.0")], stop=False):
        network(network(x)[:, :3])
    assert hooks(network) == 0
