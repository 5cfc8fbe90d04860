"""One tiny release that tests read, and copies that they may damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.extract.scannet.tiny_scans import TinyScan, make_scan, write_release


@pytest.fixture(scope="session")
def scan() -> TinyScan:
    return make_scan()


@pytest.fixture(scope="session")
def release(scan: TinyScan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scannet")
    write_release(root, scan)
    return root


@pytest.fixture
def root(release: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(release, tmp_path / "copy"))


@pytest.fixture
def folder(root: Path, scan: TinyScan) -> Path:
    return root / "scans" / scan.id
