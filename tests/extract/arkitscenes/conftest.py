"""One tiny release that tests read, and copies that they may damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.extract.arkitscenes.tiny_arkit import Filmed, film, write_release


@pytest.fixture(scope="session")
def filmed() -> Filmed:
    return film()


@pytest.fixture(scope="session")
def release(filmed: Filmed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("arkitscenes")
    write_release(root, filmed)
    return root


@pytest.fixture
def root(release: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(release, tmp_path / "copy"))


@pytest.fixture
def folder(root: Path) -> Path:
    """The parts of the first video."""
    return root / "3dod/Training/41000001/41000001_frames"
