"""Tiny checkpoints, each built once. A folder of tests says which there are by a fixture `tiny` of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Path]:
    """Folder of a checkpoint; not to be changed."""
    built: dict[object, Path] = {}

    def get(tiny: Any) -> Path:
        key = tiny.model, tiny.build
        if key not in built:
            built[key] = tiny.build(tmp_path_factory.mktemp("checkpoint") / "tiny")
        return built[key]

    return get


@pytest.fixture
def folder(tiny: Any, checkpoint: Callable[[Any], Path]) -> Path:
    return checkpoint(tiny)
