"""Every model's tiny checkpoint, built once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.extract.encoders.tiny import Tiny, all_tiny


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Tiny], Path]:
    """Folder of a checkpoint; not to be changed."""
    built: dict[object, Path] = {}

    def get(tiny: Tiny) -> Path:
        key = tiny.model, tiny.build
        if key not in built:
            built[key] = tiny.build(tmp_path_factory.mktemp("encoder") / "tiny")
        return built[key]

    return get


@pytest.fixture(params=all_tiny(), ids=lambda tiny: tiny.id)
def tiny(request: pytest.FixtureRequest) -> Tiny:
    each: Tiny = request.param
    return each


@pytest.fixture
def folder(tiny: Tiny, checkpoint: Callable[[Tiny], Path]) -> Path:
    return checkpoint(tiny)
