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
        "extract.diffusion.backbone",
    ],
    "beartype.beartype",
)

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def store_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own root of feature stores, its own caches, and runs in its own directory."""
    root = tmp_path / "stores"
    root.mkdir()
    monkeypatch.setenv("FEATURE_STORE", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return root
