"""Every task: what is sampled is what the images say, and a perfect prediction gets a perfect score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from evaluate.protocols import get_protocol
from probes.errors import UnknownNameError
from probes.geometry import to_first_view, transform, unproject
from probes.inputs import Inputs, align, open_inputs
from probes.labels import LabelSpace, PixelPool
from probes.sampling import GridMap, pixel_centres
from probes.tasks import TASKS, get_task
from probes.tasks.camera import CameraTask
from probes.tasks.correspondence import QUERIES
from probes.tasks.depth import DEPTH_RANGE, DepthTask
from probes.tasks.tagging import TaggingTask

WINDOWS = np.array([[0, 2, 4], [1, 3, 5]])
ALONE = np.array([[0, 0, 0], [3, 3, 3]])
"""No two frames of the tiny world show the same surface, so that points can be found again in the frame itself only."""
RNG = np.random.default_rng(0)


@pytest.fixture
def inputs(world: Path) -> Inputs:
    features, targets = open_inputs("store/toy", None, None)
    return align(features, targets, ["blocks.1@t500"], list(TASKS), 3, None)


def pool(inputs: Inputs, name: str) -> PixelPool:
    return PixelPool(inputs.labels(1), get_task(name, inputs.space).fields, 0, "clip")


def positions(sample: dict[str, np.ndarray], space: LabelSpace) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of every sampled pixel."""
    xy = sample["xy"] * (space.width, space.height) - 0.5
    assert np.abs(xy - xy.round()).max() < 1e-3, "samples lie at pixel centres"
    column, row = xy.round().astype(int).transpose(2, 0, 1)
    return row, column


@pytest.mark.parametrize("name", ["segmentation", "grouping", "depth"])
def test_samples_say_what_the_image_says_there(inputs: Inputs, name: str) -> None:
    labels, frames = inputs.labels(1), np.array([1, 2, 5])
    sample = get_task(name, inputs.space).sample(pool(inputs, name), frames, 200, np.random.default_rng(0))
    row, column = positions(sample, inputs.space)
    at = frames[:, None], row, column
    if name == "segmentation":
        np.testing.assert_array_equal(sample["classes"], labels.classes[at])
        assert len(np.unique(sample["classes"])) == 4
    elif name == "grouping":
        np.testing.assert_array_equal(sample["ids"], labels.thing_instance[at])
        assert (sample["ids"] > 0).all()
        things = set(np.unique(labels.instance)) - set(np.unique(sample["ids"]))
        assert all(labels.space.names[labels._read("instance_class")[i] - 1] in ("wall", "floor") for i in things)
    else:
        assert sample["valid"].all()
        np.testing.assert_allclose(np.exp(sample["log_depth"]), labels.depth[at], rtol=1e-5)


def test_points_are_where_the_cameras_saw_them(inputs: Inputs) -> None:
    """Projecting a sampled point back into its own view gives the pixel and depth it came from."""
    labels, frames = inputs.labels(1), np.array([0, 3, 4])
    task = get_task("points", inputs.space)
    sample = task.sample(pool(inputs, "points"), frames, 50, np.random.default_rng(0))
    row, column = positions(sample, inputs.space)
    depth = labels.depth[frames[:, None], row, column]
    first = np.linalg.inv(labels.cam_to_world[frames[0]])
    rays = np.linalg.norm(
        unproject(np.stack([column[0], row[0]], -1) + 0.5, depth[0], np.tile(labels.intrinsics[0], (50, 1, 1))), axis=-1
    )
    for view, frame in enumerate(frames):
        world = np.linalg.inv(first) @ np.c_[sample["points"][view] * rays.mean(), np.ones(50)].T
        seen = (np.linalg.inv(labels.cam_to_world[frame]) @ world)[:3]
        np.testing.assert_allclose(seen[2], depth[view], rtol=1e-4)
        pixel = labels.intrinsics[frame] @ (seen / seen[2])
        np.testing.assert_allclose(pixel[0], column[view] + 0.5, atol=1e-3)
        np.testing.assert_allclose(pixel[1], row[view] + 0.5, atol=1e-3)


def test_points_of_evaluation_agree_with_those_of_training(inputs: Inputs) -> None:
    task = get_task("points", inputs.space)
    target = task.target(inputs.labels(1), WINDOWS)
    sample = task.sample(pool(inputs, "points"), WINDOWS[0], 100, np.random.default_rng(0))
    row, column = positions(sample, inputs.space)
    expected = target["points"][0][np.arange(3)[:, None], row, column]
    unit = np.linalg.norm(expected[0], axis=-1).mean()
    np.testing.assert_allclose(sample["points"], expected / unit, rtol=1e-4, atol=1e-5)


def test_points_need_depth_in_the_first_view(inputs: Inputs) -> None:
    task, labels = get_task("points", inputs.space), inputs.labels(1)
    labels.depth[2] = 0
    blind = PixelPool(labels, task.fields, 0)
    assert not task.sample(blind, np.array([2, 3, 4]), 20, RNG)["valid"].any()
    assert task.sample(blind, np.array([1, 2, 3]), 20, RNG)["valid"].any(axis=1).tolist() == [True, False, True]


def test_a_class_is_tagged_from_200_pixels_of_256_squared() -> None:
    space = LabelSpace(names=("chair", "wall", "lamp"), things=(True, False, True), height=128, width=128)
    pixels = np.array([[[25, 9999, 49], [25, 0, 0]], [[0, 0, 50], [0, 0, 0]]])
    assert TaggingTask(space).visible(pixels).tolist() == [[True, False], [False, True]]


def test_the_paper_tags_all_classes_from_200_pixels_of_540_by_720() -> None:
    space = LabelSpace(names=("chair", "wall", "lamp"), things=(True, False, True), height=270, width=360)
    task = get_task("tagging", space, "paper", {"clip"})
    assert isinstance(task, TaggingTask)
    assert (task.classes, task.outputs) == (["chair", "wall", "lamp"], 3)
    pixels = np.array([[[25, 50, 49], [25, 0, 0]], [[0, 49, 50], [0, 0, 0]]])
    assert task.visible(pixels).tolist() == [[True, True, False], [False, False, True]]


def test_camera_targets_are_relative_to_the_first_view(inputs: Inputs) -> None:
    labels, task = inputs.labels(1), CameraTask(inputs.space)
    target = task.target(labels, WINDOWS)
    point = np.array([0.3, -0.2, 2.0, 1.0])
    for w, window in enumerate(WINDOWS):
        for pair, frame in enumerate(window[1:]):
            expected = np.linalg.inv(labels.cam_to_world[window[0]]) @ labels.cam_to_world[frame] @ point
            got = target["rotation"][w, pair] @ point[:3] + target["translation"][w, pair]
            np.testing.assert_allclose(got, expected[:3], atol=1e-12)


@pytest.mark.parametrize("sign", [1.0, -0.4])
def test_camera_outputs_of_any_quaternion_length_and_sign_are_the_rotation(inputs: Inputs, sign: float) -> None:
    task = CameraTask(inputs.space)
    sample = task.sample(pool(inputs, "camera"), WINDOWS[0], 0, RNG)
    assert (sample["quaternion"][:, 3] >= 0).all()
    outputs = np.concatenate([sample["translation"], sign * sample["quaternion"]], -1)[None]
    target = task.target(inputs.labels(1), WINDOWS[:1])
    prediction = task.predict(torch.from_numpy(outputs), GridMap())
    np.testing.assert_allclose(prediction["rotation"], target["rotation"], atol=1e-6)
    np.testing.assert_allclose(prediction["translation"], target["translation"], atol=1e-6)


def test_depth_is_clipped(inputs: Inputs) -> None:
    outputs = torch.tensor([-50.0, 0.0, 50.0]).reshape(1, 3, 1, 1, 1)
    depth = DepthTask(inputs.space).predict(outputs, GridMap())["depth"]
    np.testing.assert_allclose(depth[:, 0, 0], [DEPTH_RANGE[0], 1.0, DEPTH_RANGE[1]], rtol=1e-6)


def perfect(name: str, inputs: Inputs) -> torch.Tensor:
    """What an all-knowing head would put out, at one cell per pixel."""
    labels = inputs.labels(1)
    target = get_task(name, inputs.space).target(labels, WINDOWS)
    if name == "tagging":
        return torch.from_numpy(np.where(target["labels"], 9.0, -9.0).astype(np.float32))[:, None].expand(-1, 3, -1)
    if name == "segmentation":
        return torch.from_numpy(9 * np.eye(5, dtype=np.float32)[labels.classes - 1][None])
    if name == "grouping":
        slots = labels.instance[WINDOWS] + 0 * RNG.random()
        noise = 1e-3 * RNG.normal(size=(*slots.shape, 32))
        return torch.from_numpy((np.eye(32)[slots.astype(int)] + noise).astype(np.float32))
    if name == "depth":
        return torch.from_numpy(np.log(np.maximum(labels.depth, 0.1))[None, ..., None])
    if name == "points":
        return torch.from_numpy(target["points"] / 7)
    if name == "normals":
        return torch.from_numpy(3 * target["normals"][None])
    if name == "correspondence":
        return marked(get_task(name, inputs.space).target(labels, ALONE), inputs.space)
    rotation = Rotation.from_matrix(target["rotation"].reshape(-1, 3, 3)).as_quat().reshape(2, 2, 4)
    return torch.from_numpy(np.concatenate([target["translation"], rotation], -1).astype(np.float32))


def marked(target: dict[str, np.ndarray], space: LabelSpace) -> torch.Tensor:
    """Features that are 0 but for a channel of each query: at its pixel in view 0, and where it is in the others."""
    pairs, queries = target["visible"].shape[1:]
    cells = np.zeros((len(target["visible"]), 1 + pairs, space.height, space.width, queries), np.float32)
    rows, columns = pixel_centres(space.height, space.width, QUERIES)
    cells[:, 0, np.repeat(rows, len(columns)), np.tile(columns, len(rows)), np.arange(queries)] = 1
    for window, pair, query in np.argwhere(target["visible"]):
        column, row = (target["positions"][window, pair, query] * (space.width, space.height)).astype(int)
        cells[window, 1 + pair, row, column, query] = 1
    return torch.from_numpy(cells)


@pytest.mark.parametrize("name", list(TASKS))
def test_a_perfect_prediction_gets_a_perfect_score(inputs: Inputs, name: str) -> None:
    task = get_task(name, inputs.space)
    protocol = get_protocol(name, task.classes)
    prediction = task.predict(perfect(name, inputs), GridMap())
    windows = ALONE if name == "correspondence" else WINDOWS
    statistics = protocol.score_scene(prediction, task.target(inputs.labels(1), windows))
    value = protocol.reduce({key: value[None] for key, value in statistics.items()})[protocol.primary]
    best = 1.0 if protocol.metrics[protocol.primary].higher_is_better else 0.0
    assert value == pytest.approx(best, abs=0.02)


def test_a_class_is_claimed_if_any_view_is_likely_to_show_it(inputs: Inputs) -> None:
    probabilities = RNG.uniform(0.01, 0.99, size=(2, 4, 3))
    outputs = torch.from_numpy(np.log(probabilities / (1 - probabilities)))
    scores = get_task("tagging", inputs.space).predict(outputs, GridMap())["scores"]
    np.testing.assert_allclose(scores, 1 - np.prod(1 - probabilities, axis=1))


def test_the_prior_of_tagging_is_the_log_odds_with_one_more_view_on_either_side(inputs: Inputs) -> None:
    labels = torch.tensor([[[True, False, False], [True, True, False]], [[True, False, False], [False, False, False]]])
    prior = get_task("tagging", inputs.space).prior({"labels": labels})
    torch.testing.assert_close(prior, torch.log(torch.tensor([4 / 2, 2 / 4, 1 / 5])))


@pytest.mark.parametrize("name", ["segmentation", "depth"])
def test_priors_are_the_best_constant_in_their_neighbourhood(inputs: Inputs, name: str) -> None:
    """No small step away from the prior lowers the loss of outputs that ignore the features."""
    task = get_task(name, inputs.space)
    drawn = [
        task.sample(PixelPool(inputs.labels(row), task.fields, 0, row), np.array([0, 2, 4]), 100, RNG)
        for row in range(10)
    ]
    targets = {key: torch.from_numpy(np.stack([entry[key] for entry in drawn])) for key in drawn[0]}
    prior = task.prior(targets)
    assert prior.shape == (task.outputs,)

    def loss(constant: torch.Tensor) -> float:
        return task.loss(constant.expand(10, 3, 100, -1), targets).item()

    for k in range(task.outputs):
        for step in (-0.5, 0.5):
            moved = prior.clone()
            moved[k] += step
            assert loss(moved) >= loss(prior) - 1e-6


def test_unknown_tasks_are_named_with_the_nearest(inputs: Inputs) -> None:
    with pytest.raises(UnknownNameError, match=r"'dept'\. Did you mean depth"):
        get_task("dept", inputs.space)


def test_geometry_by_hand() -> None:
    """A camera at (1, 0, 0) that looks along +x sees, 2 m ahead at its centre, the world point (3, 0, 0)."""
    pose = np.array([[0.0, 0, 1, 1], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
    camera = np.array([[[100.0, 0, 32], [0, 100, 24], [0, 0, 1]]])
    point = unproject(np.array([[32.0, 24.0]]), np.array([2.0]), camera)
    np.testing.assert_allclose(transform(pose[None], point), [[3, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(to_first_view(np.stack([pose, pose]))[1], np.eye(4), atol=1e-12)
