"""One tiny release that tests read, and copies that they may damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.extract.seven_scenes.tiny_sequences import write_release


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("7scenes"))


@pytest.fixture
def root(release: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(release, tmp_path / "copy"))
