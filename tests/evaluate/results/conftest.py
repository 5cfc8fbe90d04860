"""Runs and their scores, computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import evaluate
from evaluate.protocols import PROBE3D, protocol_of
from evaluate.records import RunWriter
from tests.evaluate.imagined_rooms import room
from tests.evaluate.imagined_runs import prediction, run_info


@pytest.fixture(scope="session")
def scores(runs_root: Path) -> pd.DataFrame:
    """Return the scores of all imagined runs."""
    return evaluate.load_scores(runs_root, resamples=40)


def write_probe3d(directory: Path, views: int = 4, seed: int = 0) -> Path:
    """Write a run that was measured by Probe3D's rules."""
    changes = {"protocols": {"depth": f"{PROBE3D}/depth@1"}, "config": {"views": views}}
    info = run_info(directory.name, model="net-a", tasks=("depth",), **changes)
    protocol = protocol_of(info.protocols["depth"])
    with RunWriter(directory, info) as writer:
        for probe in info.probes:
            for index, split in enumerate(("val", "test", "test")):
                rng = np.random.default_rng(seed + index)
                writer.add(
                    probe.id, f"room-{index}", split, protocol.score_scene(*prediction("depth", room(index), 0.3, rng))
                )
    return directory
