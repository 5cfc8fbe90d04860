"""A store that is in order, to be forged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.store.truth import whole


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pristine") / "known"
    whole(path, 2)
    return path


@pytest.fixture
def store(pristine: Path, tmp_path: Path) -> Path:
    """A closed store."""
    return shutil.copytree(pristine, tmp_path / "known")


@pytest.fixture
def unclosed(store: Path) -> Path:
    """A store without a manifest."""
    for name in list(store.glob("manifest*")):
        name.unlink()
    return store


@pytest.fixture(params=["open", pytest.param("closed", marks=pytest.mark.long)])
def either(store: Path, request: pytest.FixtureRequest) -> Path:
    """A store that is closed or not."""
    for name in list(store.glob("manifest*")) if request.param == "open" else ():
        name.unlink()
    return store
