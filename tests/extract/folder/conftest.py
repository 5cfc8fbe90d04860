"""Shared by the tests of the data set `folder`."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where recordings go; stores lie beside it."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"
