"""One tiny release that tests read, and copies that they may damage."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.extract.hypersim.tiny_interiors import write_release


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("hypersim"))


@pytest.fixture
def root(release: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage: its files are links, to be replaced and not written to."""
    return Path(shutil.copytree(release, tmp_path / "copy", copy_function=os.link))
