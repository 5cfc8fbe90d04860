"""What is not known of a clip counts nowhere, and scenes of any unit are brought to one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluate.protocols import get_protocol
from probes.inputs import length_unit
from probes.labels import ClipLabels, LabelSpace, PixelPool
from probes.tasks import get_task
from store.feature_store import FeatureStore
from tests.probes.world import Size, clip_targets

SIZE = Size()
SPACE = LabelSpace(height=32, width=32)
FRAMES, WINDOWS = np.array([0, 2, 5]), np.array([[0, 2, 4], [1, 3, 5]])


def labels(arrays: dict[str, NDArray[Any]], space: LabelSpace = SPACE) -> ClipLabels:
    return ClipLabels(lambda name: arrays[name], space)


def lost(frames: list[int], array: str) -> dict[str, NDArray[Any]]:
    arrays = clip_targets(1, SIZE)
    arrays[array] = arrays[array].copy()
    arrays[array][frames] = 0
    return arrays


def sample(name: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    task = get_task(name, SPACE)
    return task.sample(PixelPool(labels(arrays), task.fields, 0), FRAMES, 32, np.random.default_rng(0))


def test_a_pair_with_an_unknown_pose_counts_nowhere() -> None:
    assert sample("camera", lost([2], "cam_to_world"))["valid"].tolist() == [False, True]
    assert sample("camera", lost([0], "cam_to_world"))["valid"].tolist() == [False, False]
    task, protocol = get_task("camera", SPACE), get_protocol("camera")
    target = task.target(labels(lost([3], "cam_to_world")), WINDOWS)
    assert target["known"].tolist() == [[True, True], [False, True]]
    assert protocol.score_scene(target, target)["pairs"] == 3
    drawn = {
        name: torch.from_numpy(values[None]) for name, values in sample("camera", lost([2], "cam_to_world")).items()
    }
    outputs = torch.full((1, 2, 7), 5.0, requires_grad=True)
    task.loss(outputs, drawn).backward()
    assert outputs.grad is not None
    assert not outputs.grad[0, 0].any()
    assert outputs.grad[0, 1].any()
    assert torch.isfinite(task.prior(drawn)).all()


@pytest.mark.parametrize(("array", "frames", "valid"), [
    ("cam_to_world", [2], [True, False, True]),
    ("cam_to_world", [0], [True, False, False]),  # its own points are known in its own frame
    ("intrinsics", [2], [True, False, True]),
    ("intrinsics", [0], [False, False, False]),  # nothing says what the unit of length is
])  # fmt: skip
def test_points_of_views_that_cannot_be_placed_count_nowhere(array: str, frames: list[int], valid: list[bool]) -> None:
    drawn = sample("points", lost(frames, array))
    assert drawn["valid"].all(1).tolist() == valid
    assert np.isfinite(drawn["points"]).all()
    target = get_task("points", SPACE).target(labels(lost(frames, array)), FRAMES[None])
    assert np.isfinite(target["points"]).all()
    if valid[0]:
        assert target["valid"].any((2, 3))[0].tolist() == valid


def test_correspondences_and_normals_need_cameras() -> None:
    for array in ("cam_to_world", "intrinsics"):
        target = get_task("correspondence", SPACE).target(labels(lost([2], array)), FRAMES[None])
        assert not target["visible"][0, 0].any()
        assert all(np.isfinite(values).all() for values in target.values())
    normals = labels(lost([2], "intrinsics")).normals
    assert not normals[2].any()
    assert normals[1].any()


@pytest.mark.parametrize("scale", [0.01, 37.0])
def test_where_scenes_have_units_of_their_own_the_unit_does_not_matter(scale: float) -> None:
    free = SPACE.model_copy(update={"metric": False})
    arrays = clip_targets(1, SIZE)
    other = arrays | {"depth": arrays["depth"] * np.float32(scale), "cam_to_world": arrays["cam_to_world"].copy()}
    other["cam_to_world"][:, :3, 3] *= scale
    one, two = labels(arrays, free), labels(other, free)
    assert np.median(one.depth[one.depth > 0]) == pytest.approx(1)
    np.testing.assert_allclose(one.depth, two.depth, rtol=1e-6)
    np.testing.assert_allclose(one.cam_to_world, two.cam_to_world, rtol=1e-6)
    del arrays["depth"], other["depth"]
    one, two = labels(arrays, free), labels(other, free)
    np.testing.assert_allclose(one.cam_to_world, two.cam_to_world, rtol=1e-6)
    centres = one.cam_to_world[:, :3, 3]
    assert np.square(centres - centres.mean(0)).sum(-1).mean() == pytest.approx(1)
    np.testing.assert_array_equal(labels(arrays).cam_to_world, arrays["cam_to_world"])


def test_depth_that_was_measured_is_sure() -> None:
    assert (labels(clip_targets(1, SIZE)).confidence == 1).all()


def test_the_unit_of_length_is_that_of_the_targets():
    assert length_unit(cast(FeatureStore, SimpleNamespace(attrs={"length_unit": "1"}))) == "1"
    assert length_unit(cast(FeatureStore, SimpleNamespace(attrs={}))) == "m"  # targets from before it was said
