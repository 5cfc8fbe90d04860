"""Runs that several test files read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluate.imagined_runs import run_info, write_run


@pytest.fixture(scope="session")
def runs_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backbone, its untrained twin, and two controls, on all tasks."""
    root = tmp_path_factory.mktemp("runs")
    for model, kind, untrained, taps, error in (
        ("net-a", "encoder", False, ("blocks.0", "blocks.3", "blocks.5"), 0.1),
        ("net-a", "encoder", True, ("blocks.0", "blocks.3", "blocks.5"), 0.6),
        ("video-b", "vgm", False, ("mid@t100", "up.1@t100", "mid@t502", "up.1@t502"), 0.15),
        ("pixels", "control", False, ("pixels",), 0.7),
    ):
        name = f"{model}{'-untrained' if untrained else ''}-rooms"
        info = run_info(name, model=model, kind=kind, untrained=untrained, taps=taps)
        write_run(root / name, info, best_error=error, size=32, scenes=(2, 4))
    return root
