"""A release of two sequences of different sizes, and a size of pictures that their pixels' centres fall on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from extract.datasets import co3dv2
from tests.extract.co3d.tiny_co3d import Written, write_release


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Written]]:
    root = tmp_path_factory.mktemp("co3dv2")
    return root, write_release(root)


@pytest.fixture
def broken(release: tuple[Path, list[Written]], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(release[0], tmp_path / "co3dv2"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Pictures of 90x50 and 30x150 become 30x50: each kept pixel is the middle one of three, or the only one."""
    monkeypatch.setattr(co3dv2, "SIZE", (30, 50))
    return 30, 50


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests that are remembered stay in the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
