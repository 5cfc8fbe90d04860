"""Full size without weights: sites, channels, grids and parameter counts, from a forward of the published networks."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from extract.checkpoints.loading import build
from extract.diffusion.backbone import LatentVideoBackbone
from extract.diffusion.latent_video import LatentVideoFamily
from extract.registry import families

MODELS = sorted(name for name, family in families().items() if issubclass(family, LatentVideoFamily))
CPU = torch.device("cpu")


def family_of(model: str) -> LatentVideoFamily:
    family = families()[model](model)
    assert isinstance(family, LatentVideoFamily)
    return family


class OneTextToken(TorchDispatchMode):
    """What `nonzero` finds in the mask of an empty prompt: one token.

    Mochi picks its text tokens by `nonzero` of their mask. Fake tensors have no values and cannot tell how many there
    are. The number shows in no output of a block, as what is picked is padded again. Networks that do not ask for it
    run as they would without this.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.nonzero.default and args[0].ndim == 1:
            return torch.zeros(1, 1, dtype=torch.int64)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("model", MODELS)
def test_sites_and_sizes_are_what_a_full_size_forward_shows(model: str) -> None:
    family = family_of(model)
    sites = family.sites()
    bank = [0, 1, 5, 9, 13]
    numbers, positions = family.window(family.frames, bank)
    seen: dict[str, Any] = {}
    with FakeTensorMode(allow_non_fake_inputs=True), OneTextToken():
        networks = {part.name: build(part, family.configs[part.name]) for part in family.networks}
        counts = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
        prompt = {name: torch.zeros(shape) for name, shape in family.prompt_shapes().items()}
        backbone = LatentVideoBackbone(networks, family, prompt, CPU, torch.float32)
        for site in sites:
            backbone.module.get_submodule(site.module).register_forward_hook(partial(record, seen, site.name))
        frames = torch.zeros(len(numbers), 60, 80, 3, dtype=torch.uint8)
        state = backbone.encode(frames, positions, torch.Generator())
        backbone.forward(next(backbone.parts(state)), family.noise_level("sigma=0.5"))
        shapes = {name: tuple(backbone.grid(family.site(name), output, state).shape) for name, output in seen.items()}

    assert sum(counts.values()) == family.published.parameters
    assert list(seen) == [site.name for site in sites]
    assert [site.depth for site in sites] == list(range(len(sites)))
    assert shapes == {site.name: (len(bank), *site.grid, site.channels) for site in sites}
    assert set(family.default_sites()) < set(seen)


def record(seen: dict[str, Any], name: str, module: Any, inputs: Any, output: Any) -> None:
    assert name not in seen, "a module that runs twice would be read twice"
    seen[name] = output
