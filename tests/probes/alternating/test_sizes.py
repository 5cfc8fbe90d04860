"""Parameters of the probes of arXiv 2605.28132, counted without memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from probes.alternating.camera import CameraHead
from probes.alternating.dense import DenseHead
from probes.alternating.instance import InstanceHead
from probes.alternating.tagging import TaggingHead
from probes.alternating.trunk import Trunk

CHANNELS = (1536, 4096, 5120, 9216)
TAGGING = (22.8, 24.1, 24.6, 26.7)
INSTANCE = (52.1, 54.8, 55.8, 60.0)
GEOMETRY = (383.9, 386.5, 387.5, 391.7)
ROUNDED = 0.0025
"""The counts are known to 0.1 million, and sums of rounded parts to no more than twice that."""


def millions(*networks: nn.Module) -> float:
    return sum(parameter.numel() for network in networks for parameter in network.parameters()) / 1e6


@pytest.mark.parametrize(("channels", "expected"), list(zip(CHANNELS, TAGGING, strict=True)))
def test_tagging(channels: int, expected: float) -> None:
    with torch.device("meta"):
        trunk, head = Trunk(channels, 512, 2, 16), TaggingHead(1024, 20, torch.empty(20, 768))
    assert millions(head) == pytest.approx(9.3, rel=0.01)
    assert millions(trunk, head) == pytest.approx(expected, rel=ROUNDED)


@pytest.mark.parametrize(("channels", "expected"), list(zip(CHANNELS, INSTANCE, strict=True)))
def test_instance(channels: int, expected: float) -> None:
    with torch.device("meta"):
        trunk, head = Trunk(channels, 1024, 2, 16), InstanceHead(2048)
    assert millions(head) == pytest.approx(0.14, rel=0.03)
    assert millions(trunk, head) == pytest.approx(expected, rel=ROUNDED)


@pytest.mark.parametrize(("channels", "expected"), list(zip(CHANNELS, GEOMETRY, strict=True)))
def test_geometry(channels: int, expected: float) -> None:
    with torch.device("meta"):
        trunk, camera = Trunk(channels, 1024, 4, 16), CameraHead(2048)
        points, depth = DenseHead(2048, 4, outputs=4), DenseHead(2048, 4, outputs=2)
    assert millions(camera) == pytest.approx(216.2, abs=0.051)
    assert millions(points) == pytest.approx(32.7, abs=0.051)
    assert millions(depth) == pytest.approx(32.7, abs=0.051)
    assert millions(trunk, camera, points, depth) == pytest.approx(expected, rel=ROUNDED)


def test_shapes_without_memory() -> None:
    with torch.device("meta"):
        trunk = Trunk(1536, 1024, 4, 16, checkpointing=False).eval()
        out = trunk(torch.empty(2, 4, 17, 30, 1536))
        assert DenseHead(2048, 4, 4, checkpointing=False)(out, (294, 518)).shape == (2, 4, 294, 518, 4)
        assert CameraHead(2048)(out.camera).shape == (4, 2, 4, 9)
