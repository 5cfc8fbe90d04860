"""Full size without weights: sites, channels, grids and parameter counts, from a forward of the published networks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.initialization import TORCH_INIT_FUNCTIONS
from transformers.models.dinov3_vit import modeling_dinov3_vit

from extract.backbones.base import Options
from extract.checkpoints.loading import build
from extract.checkpoints.model_family import MODEL
from extract.encoders.backbone import EncoderBackbone
from extract.encoders.family import EncoderFamily
from extract.errors import ExtractError
from extract.registry import families

MODELS = sorted(name for name, family in families().items() if issubclass(family, EncoderFamily))
ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
WHOLE = {
    "clip-vit-l14": ("CLIPModel", 427_616_513),
    "dinov2-base": ("Dinov2Model", 86_580_480),
    "dinov2-large": ("Dinov2Model", 304_368_640),
    "dinov3-vitl16": ("DINOv3ViTModel", 303_129_600),
    "siglip2-base": ("SiglipModel", 375_187_970),
    "siglip2-so400m": ("SiglipModel", 1_136_008_498),
    "vit-mae-base": ("ViTMAEForPreTraining", 111_907_840),
    "vjepa2-vitl": ("VJEPA2Model", 325_971_328),
}
"""Class of the whole weight file, and its parameters. Those of siglip2-so400m and vjepa2-vitl are published, those of
dinov2-base and vit-mae-base follow from the length of the file; for the others there was nothing to compare with."""
GRIDS = {
    "clip-vit-l14": (16, 16),
    "dinov2-base": (37, 37),
    "dinov2-large": (37, 37),
    "dinov3-vitl16": (32, 32),
    "siglip2-base": (14, 14),
    "siglip2-so400m": (27, 27),
    "vit-mae-base": (14, 14),
    "vjepa2-vitl": (16, 16),
}


def family_of(model: str, **options: Any) -> EncoderFamily:
    family = families()[model](model, Options(**options))
    assert isinstance(family, EncoderFamily)
    return family


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors without values. What looks at values, or keeps tensors for later calls, is set aside."""
    monkeypatch.setitem(TORCH_INIT_FUNCTIONS, "trunc_normal_", lambda tensor, **how: tensor)
    coordinates: Any = modeling_dinov3_vit.get_patches_center_coordinates
    monkeypatch.setattr(modeling_dinov3_vit, "get_patches_center_coordinates", coordinates.__wrapped__)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def test_all_are_here() -> None:
    assert list(WHOLE) == list(GRIDS) == MODELS


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("model", MODELS)
def test_sites_and_sizes_are_what_a_full_size_forward_shows(model: str) -> None:
    family = family_of(model, untrained=0)
    seen: dict[str, Any] = {}
    bank = [0, 1, 2]
    (part,) = family.networks
    network = build(part, family.drawn_configs()[MODEL])
    backbone = EncoderBackbone(network, family, CPU, torch.float32)
    for site in family.sites():
        backbone.module.get_submodule(site.module).register_forward_hook(partial(record, seen, site.name))
    state = backbone.encode(torch.zeros(len(bank), 60, 80, 3, dtype=torch.uint8), bank, torch.Generator())
    backbone.forward(state, None)
    shapes = {name: tuple(backbone.grid(family.site(name), output, state).shape) for name, output in seen.items()}

    sites = family.sites()
    assert count(backbone.module) == family.published.parameters
    assert [site.name for site in sites] == list(seen)
    assert [site.depth for site in sites] == list(range(len(sites)))
    assert shapes == {site.name: (len(bank), *site.grid, site.channels) for site in sites}
    assert {site.grid for site in sites if site.name.startswith(("blocks.", "norm"))} == {GRIDS[model]}
    assert set(family.default_sites()) < set(seen)
    assert len(family.default_sites()) == 5


def record(seen: dict[str, Any], name: str, module: Any, inputs: Any, output: Any) -> None:
    assert name not in seen, "a module that runs twice would be read twice"
    seen[name] = output


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("model", MODELS)
def test_the_whole_file_has_as_many_parameters_as_are_known(model: str) -> None:
    name, expected = WHOLE[model]
    family = family_of(model)
    network: Any = getattr(transformers, name)
    assert name == (family.whole or network.__name__)
    assert count(network(network.config_class.from_dict(dict(family.config)))) == expected


@pytest.mark.parametrize("model", MODELS)
def test_a_published_configuration_says_all_that_the_family_reads(model: str) -> None:
    """What is known of a model before anything is loaded is what the library makes of the same file."""
    plain = family_of(model)
    local = family_of(model, checkpoint=str(Path(plain.published_configs) / model))
    assert local.config is not plain.config
    assert list(local.sites()) == list(plain.sites())
    assert local.preprocessing() == plain.preprocessing()
    assert local.settings() == plain.settings()


@pytest.mark.parametrize("model", MODELS)
def test_facts_need_no_torch(model: str) -> None:
    code = (
        f"import sys; from extract.registry import make_family; F = make_family({model!r}); F.sites(); F.settings(); "
        "F.default_sites(); F.preprocessing(); F.window(40, [0, 7]); F.spans(40, [0, 7]); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'diffusers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


@pytest.mark.parametrize("model", MODELS)
def test_sizes_are_multiples_of_a_patch(model: str) -> None:
    plain = family_of(model)
    patch = plain.patch
    rows, columns = GRIDS[model]
    if "size" not in plain.takes:
        with pytest.raises(ExtractError, match=rf"--size 256x256: {model} has one size"):
            family_of(model, size=(256, 256))
        return
    wide = family_of(model, size=(rows * patch, 2 * columns * patch))
    assert wide.site("blocks.0").grid == (rows, 2 * columns)
    assert (wide.preprocessing().height, wide.preprocessing().width) == (rows * patch, 2 * columns * patch)
    with pytest.raises(ExtractError, match=rf"takes multiples of {patch} pixels\. Nearest: {patch}x{2 * patch}\."):
        family_of(model, size=(patch + 1, 2 * patch))
    with pytest.raises(ExtractError, match=rf"takes multiples of {patch} pixels\. Nearest: {patch}x{patch}\."):
        family_of(model, size=(0, patch))


@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_cropped_and_spans_are_single_frames(model: str) -> None:
    family = family_of(model)
    assert family.preprocessing().fit == "stretch"
    assert family.preprocessing().grid_to_image(480, 640) == ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    assert family.spans(76, [0, 1, 73]) == [(0, 0), (1, 1), (73, 73)]
    assert family.window(76, [0, 1, 73]) == ([0, 1, 73], [0, 1, 2])
    assert not family.offloads
    assert not family.layouts
