"""Shared by the tests of the data set `dl3dv`."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where scenes go; stores lie beside it."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"
