"""What the tests of Stable Video Diffusion share: encode a clip, and read every site in one forward."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from extract.backbones._svd_backbone import SVDBackbone, SVDState

CPU = torch.device("cpu")
SIZE = (48, 64)
LEVEL = "sigma=1.5"
Grids = dict[str, Tensor]


def random_clip(n_frames: int = 20) -> Tensor:
    """Frames of the size that the networks of these tests take, so that preprocessing resizes nothing."""
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (n_frames, *SIZE, 3), dtype=torch.uint8, generator=generator)


def encode(backbone: SVDBackbone, clip: Tensor, bank: Sequence[int], seed: int = 0) -> SVDState:
    numbers, positions = backbone.family.window(len(clip), bank)
    return backbone.encode(clip[list(numbers)], positions, torch.Generator().manual_seed(seed))


class Stop(Exception):
    pass


def features(backbone: SVDBackbone, state: SVDState, level: str = LEVEL, stop: str | None = None) -> Grids:
    """All forward sites of one pass, copied; the pass ends at site `stop`."""
    got: Grids = {}

    def hook(site: Any, module: Any, inputs: Any, output: Any) -> None:
        got[site.name] = backbone.grid(site, output, state).clone()
        if site.name == stop:
            raise Stop

    sites = [site for site in backbone.family.sites() if site.stage == "forward"]
    handles = [backbone.module.get_submodule(site.module).register_forward_hook(partial(hook, site)) for site in sites]
    try:
        backbone.forward(state, backbone.family.noise_level(level))
    except Stop:
        assert stop is not None
    finally:
        for handle in handles:
            handle.remove()
    return got


def equal(a: Grids, b: Grids) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
