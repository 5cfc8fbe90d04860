"""Full size without weights: sites, channels, grids and parameter counts, from a forward of the published networks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.initialization import TORCH_INIT_FUNCTIONS

from benchmarks.weightless import RealNumbersFirst
from extract.backbones.base import Options
from extract.checkpoints.loading import build
from extract.checkpoints.model_family import MODEL
from extract.registry import families
from extract.vision_language.backbone import VisionLanguageBackbone
from extract.vision_language.family import VisionLanguageFamily

MODELS = sorted(name for name, family in families().items() if issubclass(family, VisionLanguageFamily))
CPU = torch.device("cpu")


def family_of(model: str, **options: Any) -> VisionLanguageFamily:
    family = families()[model](model, Options(**options))
    assert isinstance(family, VisionLanguageFamily)
    return family


@pytest.mark.parametrize(("model", "layout"), [(each, layout) for each in MODELS for layout in family_of(each).layouts])
def test_sites_and_sizes_are_what_a_full_size_forward_shows(
    model: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It looks at the values that it has drawn, which fake tensors do not have.
    monkeypatch.setitem(TORCH_INIT_FUNCTIONS, "trunc_normal_", lambda tensor, **how: tensor)
    family = family_of(model, layout=layout, untrained=0)
    bank = [0, 1, 2]
    seen: dict[str, Any] = {}
    (part,) = family.networks
    frames = torch.zeros(len(bank), 60, 80, 3, dtype=torch.uint8)
    with FakeTensorMode(allow_non_fake_inputs=True):
        network: Any = build(part, family.configs[MODEL])
        count = sum(parameter.numel() for parameter in network.parameters())
        backbone = VisionLanguageBackbone(network, family, lambda text: list(text.encode()), CPU, torch.float32)
        for site in family.sites():
            backbone.module.get_submodule(site.module).register_forward_hook(partial(record, seen, site.name))
        with RealNumbersFirst():
            state = backbone.encode(frames, bank, torch.Generator())
            backbone.forward(state, None)
            shapes = {
                name: tuple(backbone.grid(family.site(name), output, state).shape) for name, output in seen.items()
            }

    sites = family.sites()
    assert count == family.published.parameters
    assert list(seen) == [site.name for site in sites]
    assert [site.depth for site in sites] == list(range(len(sites)))
    assert shapes == {site.name: (len(bank), *site.grid, site.channels) for site in sites}
    assert set(family.default_sites()) < set(seen)


def record(seen: dict[str, Any], name: str, module: Any, inputs: Any, output: Any) -> None:
    assert name not in seen, "a module that runs twice would be read twice"
    seen[name] = output


@pytest.mark.parametrize("model", MODELS)
def test_a_published_configuration_says_all_that_the_family_reads(model: str) -> None:
    """What is known of a model before anything is loaded is what the library makes of the same file."""
    plain = family_of(model)
    local = family_of(model, checkpoint=str(Path(plain.published_configs) / model))
    assert local.config is not plain.config
    assert list(local.sites()) == list(plain.sites())
    assert local.preprocessing() == plain.preprocessing()
    assert local.settings() == plain.settings()
    assert (local.placeholder, local.text_limits) == (plain.placeholder, plain.text_limits)


@pytest.mark.parametrize("model", MODELS)
def test_the_longest_bank_of_the_paper_fits(model: str) -> None:
    from extract.vision_language.chat import lay_out

    for layout in family_of(model).layouts:
        family = family_of(model, layout=layout)
        tokens = lay_out(family, lambda text: list(text.encode()), 20)
        rows, columns = family.llm.grid
        assert len(tokens.ids) > 20 * rows * columns


@pytest.mark.parametrize("model", [model for model in MODELS if "paper" in family_of(model).presets])
def test_paper_presets_name_sites(model: str) -> None:
    family = family_of(model)
    paper = family_of(model, preset="paper")
    assert set(paper.default_sites()) <= {site.name for site in paper.sites()}
    assert list(paper.default_sites()) == list(family.paper[model])
