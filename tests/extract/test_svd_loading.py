"""Loading Stable Video Diffusion: untrained twins, number types, frozen parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from extract.backbones._svd_backbone import SVDBackbone
from extract.backbones.base import Options
from extract.backbones.svd import SVD
from extract.checkpoints.loading import check_attention
from extract.errors import WeightsError
from tests.extract.svd_features import CPU, SIZE, Grids, encode, equal, features, random_clip
from tests.extract.tiny_svd import build


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("svd"))


@pytest.fixture(scope="module")
def backbone(folder: Path) -> SVDBackbone:
    return SVD("svd", Options(checkpoint=str(folder), size=SIZE)).load(CPU, torch.float32)


@pytest.fixture(scope="module")
def clip() -> Tensor:
    return random_clip()


def test_untrained_is_a_function_of_its_seed(folder: Path, backbone: SVDBackbone, clip: Tensor) -> None:
    def run(seed: int) -> tuple[str, Grids]:
        family = SVD("svd", Options(checkpoint=str(folder), size=SIZE, untrained=seed))
        network = family.load(CPU, torch.float32)
        return family.weights().digest, features(network, encode(network, clip, [0, 8]))

    torch.manual_seed(7)
    before = torch.get_rng_state()
    (digest, grids), again, other = run(0), run(0), run(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert digest == again[0] != other[0]
    assert equal(grids, again[1])
    assert not equal(grids, other[1])
    assert not equal(grids, features(backbone, encode(backbone, clip, [0, 8])))


@pytest.mark.parametrize("untrained", [None, 0])
def test_half_precision_leaves_the_vae_in_single(folder: Path, untrained: int | None, clip: Tensor) -> None:
    family = SVD("svd", Options(checkpoint=str(folder), size=SIZE, untrained=untrained))
    half, brain = family.load(CPU, torch.float16), family.load(CPU, torch.bfloat16)
    assert {p.dtype for p in [*half.unet.parameters(), *half.image_encoder.parameters()]} == {torch.float16}
    assert {p.dtype for p in half.vae.parameters()} == {torch.float32}
    assert {p.dtype for p in brain.module.parameters()} == {torch.bfloat16}
    exact = features(family.load(CPU, torch.float32), encode(family.load(CPU, torch.float32), clip, [0, 8]))
    close = features(brain, encode(brain, clip, [0, 8]))
    for name, grid in exact.items():
        assert close[name].dtype == torch.bfloat16
        torch.testing.assert_close(close[name].float(), grid, atol=0.1 * float(grid.abs().max()), rtol=0)


def test_nothing_can_be_trained(backbone: SVDBackbone) -> None:
    assert not backbone.module.training
    assert not any(p.requires_grad for p in backbone.module.parameters())


def test_another_attention_than_the_recipe_names_is_refused(backbone: SVDBackbone) -> None:
    from diffusers.models.attention_processor import AttnProcessor

    networks = dict(backbone.module.items())
    check_attention(networks)
    layer = next(module for module in networks["unet"].modules() if hasattr(module, "processor"))
    usual = layer.processor
    layer.processor = AttnProcessor()
    try:
        with pytest.raises(WeightsError, match="runs as AttnProcessor, but the recipe says sdpa"):
            check_attention(networks)
    finally:
        layer.processor = usual
