"""Shared by all tests: no network, a store root of the test's own, and shapes checked at run time."""

from __future__ import annotations

import os

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", MPLBACKEND="agg")

from jaxtyping import install_import_hook

# Shapes and types in signatures are checked in every call, but only here: users do not pay for it.
install_import_hook(
    [
        "store",
        "extract.engine",
        "extract.taps",
        "extract.plan",
        "extract.targets",
        "extract.datasets",
        "extract.backbones._per_frame",
        "extract.backbones._fourier",
        "extract.backbones._mobilenet_v2",
        "extract.backbones._svd_backbone",
        "extract.backbones._opensora_network",
        "extract.backbones._opensora_tokens",
        "extract.diffusion.backbone",
        "extract.encoders.backbone",
        "extract.vision_language.backbone",
    ],
    "beartype.beartype",
)

from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def store_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own root of feature stores, its own caches, and runs in its own directory."""
    root = tmp_path / "stores"
    root.mkdir()
    monkeypatch.setenv("FEATURE_STORE", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return root


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks take many times as long when threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
