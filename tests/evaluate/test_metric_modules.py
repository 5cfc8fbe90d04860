"""The torchmetrics classes say exactly what the protocols say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluate.metrics import modules
from evaluate.protocols import TASKS, get_protocol
from tests.evaluate.imagined_rooms import room
from tests.evaluate.imagined_runs import CLASS_LISTS, prediction

METRICS = {
    "tagging": modules.TaggingMetric,
    "segmentation": modules.SegmentationMetric,
    "grouping": modules.GroupingMetric,
    "depth": modules.DepthMetric,
    "points": modules.PointsMetric,
    "camera": modules.CameraMetric,
    "normals": modules.NormalsMetric,
    "correspondence": modules.CorrespondenceMetric,
}


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


@pytest.mark.parametrize("task", TASKS)
def test_computes_what_the_protocol_reduces_in_one_process_or_in_two(task):
    classes = CLASS_LISTS.get(task, ())
    scenes = [prediction(task, room(seed, size=24), 0.3, np.random.default_rng(seed)) for seed in range(3)]
    protocol = get_protocol(task, classes)
    rows = [protocol.score_scene(*scene) for scene in scenes]
    expected = protocol.reduce({name: np.stack([row[name] for row in rows]) for name in rows[0]})

    whole, first, second = (METRICS[task](classes) for _ in range(3))
    for index, (guess, truth) in enumerate(scenes):
        whole.update(_tensors(guess), _tensors(truth))
        (first if index < 1 else second).update(_tensors(guess), _tensors(truth))
    # What torchmetrics does when it gathers from several processes.
    first.merge_state(second)
    for metric in (whole, first):
        got = {name: float(value) for name, value in metric.compute().items()}
        assert got == pytest.approx(expected, nan_ok=True)
    whole.reset()
    assert not whole.metric_state[f"stat_{next(iter(protocol.dims))}"]
