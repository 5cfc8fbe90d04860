"""Matching by features alone: exact, fair where it cannot know, perfect where features say where they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluate.metrics.correspondence import DIAGONAL, PIXELS
from evaluate.protocols import get_protocol
from probes.labels import ClipLabels, LabelSpace
from probes.sampling import GridMap, sample_cells
from probes.tasks import TASKS, get_task
from probes.tasks import correspondence as module
from probes.tasks.correspondence import CorrespondenceTask, nearest
from tests.evaluate.imagined_rooms import Room, room
from tests.evaluate.imagined_runs import first_view_points

SIZE = 64
WINDOWS = np.array([[0, 1, 2, 3]])


def labels_of(views: Room) -> ClipLabels:
    arrays = {"depth": views.depth, "intrinsics": views.intrinsics, "cam_to_world": views.cam_to_world}
    return ClipLabels(arrays.__getitem__, LabelSpace(height=views.depth.shape[1], width=views.depth.shape[2]))


@pytest.fixture(scope="module")
def views() -> Room:
    return room(0, size=SIZE)


@pytest.fixture(scope="module")
def labels(views: Room) -> ClipLabels:
    return labels_of(views)


def metrics(task: CorrespondenceTask, labels: ClipLabels, outputs: torch.Tensor) -> dict[str, float]:
    protocol = get_protocol("correspondence")
    statistics = protocol.score_scene(task.predict(outputs, GridMap()), task.target(labels, WINDOWS))
    return protocol.reduce({name: value[None] for name, value in statistics.items()})


@pytest.mark.parametrize("grid_map", [GridMap(), GridMap(0.5, 0.25, 0.8, 0.1)])
@pytest.mark.parametrize("size", [(40, 24), (300, 200)])
def test_matches_are_the_largest_cosine_over_all_candidates(
    grid_map: GridMap, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against features that are read at every candidate, normalised, and multiplied out in double precision."""
    monkeypatch.setattr(module, "CHUNK", 7)
    width, height = size
    task = CorrespondenceTask(LabelSpace(height=height, width=width))
    outputs = torch.randn(2, 3, 4, 6, 9, generator=torch.Generator().manual_seed(0))
    matches = task.predict(outputs, grid_map)["matches"]

    def read(step: int, view: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = np.arange(step // 2, height, step), np.arange(step // 2, width, step)
        xy = np.array([((c + 0.5) / width, (r + 0.5) / height) for r in rows for c in columns])
        values = sample_cells(view[None].double(), torch.from_numpy(xy)[None], grid_map)[0].numpy()
        return xy, values / np.linalg.norm(values, axis=1, keepdims=True)

    for window in range(2):
        _, asked = read(-(-width // module.QUERIES), outputs[window, 0])
        assert matches.shape == (2, 2, len(asked), 2)
        for pair in range(2):
            xy, offered = read(-(-width // module.CANDIDATES), outputs[window, pair + 1])
            cosines = asked @ offered.T
            index = np.abs(matches[window, pair][:, None] - xy[None]).sum(-1).argmin(1)
            np.testing.assert_allclose(xy[index], matches[window, pair], atol=1e-6)
            np.testing.assert_allclose(cosines[np.arange(len(asked)), index], cosines.max(1), atol=2e-5)


def test_a_tie_is_drawn_among_equals_and_nothing_else() -> None:
    cosines = torch.tensor([[0.1, 0.9, 0.3, 0.9, 0.9 - 1e-7]]).expand(3000, -1)
    draws = torch.rand(3000, generator=torch.Generator().manual_seed(0))
    share = torch.bincount(nearest(cosines, draws), minlength=5) / 3000
    torch.testing.assert_close(share, torch.tensor([0, 1 / 3, 0, 1 / 3, 1 / 3]), atol=0.03, rtol=0)
    edges = torch.tensor([0.0, 1 - 2**-24])
    assert nearest(torch.zeros(2, 16384), edges).tolist() == [0, 16383]
    assert nearest(torch.tensor([[0.2, 0.5, 0.4]]), torch.tensor([0.99])).tolist() == [1]


def test_targets_are_where_the_cameras_see_each_point(views: Room, labels: ClipLabels) -> None:
    """Query by query, with homogeneous matrices."""
    task = CorrespondenceTask(labels.space)
    target = task.target(labels, WINDOWS)
    step = SIZE // module.QUERIES
    places = [(y, x) for y in range(step // 2, SIZE, step) for x in range(step // 2, SIZE, step)]
    seen = 0
    for pair in range(3):
        there = pair + 1
        relative = np.linalg.inv(views.cam_to_world[there]) @ views.cam_to_world[0]
        cosine = np.clip((np.trace(relative[:3, :3]) - 1) / 2, -1, 1)
        assert target["angle"][0, pair] == pytest.approx(np.degrees(np.arccos(cosine)), abs=1e-4)
        for query, (y, x) in enumerate(places):
            local = np.linalg.inv(views.intrinsics[0]) @ [x + 0.5, y + 0.5, 1] * views.depth[0, y, x]
            point = (relative @ [*local, 1])[:3]
            np.testing.assert_allclose(target["points"][0, pair, query], point, atol=1e-4)
            u, v, w = views.intrinsics[there] @ point
            inside = w > 0 and 0 <= u / w < SIZE and 0 <= v / w < SIZE
            visible = inside and abs(views.depth[there, int(v / w), int(u / w)] - point[2]) <= 0.03 * point[2]
            assert target["visible"][0, pair, query] == visible
            if visible:
                np.testing.assert_allclose(target["positions"][0, pair, query] * SIZE, [u / w, v / w], atol=1e-3)
                seen += 1
    assert 0.2 < seen / (3 * len(places)) < 0.95
    np.testing.assert_allclose(target["surface_x"][0], (np.arange(SIZE) + 0.5) / SIZE)
    np.testing.assert_allclose(target["surface"][0, :, ..., 2], views.depth[1:], rtol=1e-6)
    world = target["surface"][0, 1] @ views.cam_to_world[2, :3, :3].T + views.cam_to_world[2, :3, 3]
    home = np.linalg.inv(views.cam_to_world[0])
    np.testing.assert_allclose(world @ home[:3, :3].T + home[:3, 3], first_view_points(views)[2], atol=1e-4)


def test_what_is_hidden_unknown_or_outside_is_not_asked_for() -> None:
    """Two cameras side by side before a wall, half of which the second sees a screen of, at half the distance."""
    depth = np.full((2, 32, 32), 2.0, np.float32)
    depth[1, :16] = 1.0
    depth[0, :, 12:16] = 0
    pose = np.tile(np.eye(4), (2, 1, 1))
    pose[1, 0, 3] = 0.5
    camera = np.tile(np.array([[32.0, 0, 16], [0, 32, 16], [0, 0, 1]]), (2, 1, 1))
    arrays = {"depth": depth, "intrinsics": camera, "cam_to_world": pose}
    task = CorrespondenceTask(LabelSpace(height=32, width=32))
    target = task.target(ClipLabels(arrays.__getitem__, task.space), np.array([[0, 1]]))
    visible = target["visible"].reshape(16, 16)
    columns = np.arange(1, 32, 2) + 0.5
    expected = (columns >= 8) & ((columns < 12) | (columns > 16))  # the shift is 0.5 m * 32 px / 2 m
    np.testing.assert_array_equal(visible[8:], np.tile(expected, (8, 1)))
    assert not visible[:8].any()
    np.testing.assert_allclose(target["positions"].reshape(16, 16, 2)[8, expected, 0] * 32, columns[expected] - 8)


def test_a_query_without_depth_is_not_the_camera_itself() -> None:
    """The second camera is two metres behind the first, and sees a surface just where the first one stands."""
    depth = np.zeros((2, 32, 32), np.float32)
    depth[1] = 2.0
    pose = np.tile(np.eye(4), (2, 1, 1))
    pose[1, 2, 3] = -2.0
    camera = np.tile(np.array([[32.0, 0, 16], [0, 32, 16], [0, 0, 1]]), (2, 1, 1))
    arrays = {"depth": depth, "intrinsics": camera, "cam_to_world": pose}
    task = CorrespondenceTask(LabelSpace(height=32, width=32))
    assert not task.target(ClipLabels(arrays.__getitem__, task.space), np.array([[0, 1]]))["visible"].any()


def test_features_that_hold_the_place_in_the_world_are_matched(views: Room, labels: ClipLabels) -> None:
    """The world put on a sphere (inverse stereographic projection), where the nearest has the largest cosine."""
    points = first_view_points(views) - first_view_points(views).mean((0, 1, 2))
    square = (points**2).sum(-1, keepdims=True)
    sphere = np.concatenate([2 * points, square - 1], -1) / (square + 1)
    found = metrics(CorrespondenceTask(labels.space), labels, torch.from_numpy(sphere.astype(np.float32))[None])
    assert found["recall20px"] > 0.97
    assert found["recall10px"] > 0.9
    assert found["recall10cm"] > 0.95


def chance(task: CorrespondenceTask, labels: ClipLabels) -> tuple[float, int]:
    """Mean recall at 20 px of a match that is drawn from all candidates, and how many queries it is a mean of."""
    target = task.target(labels, WINDOWS)
    x, y = np.meshgrid(target["surface_x"][0], target["surface_y"][0])
    candidates = np.stack([x, y], -1).reshape(-1, 2)
    positions = target["positions"][target["visible"]]
    error = np.linalg.norm(positions[:, None] - candidates[None], axis=-1) * DIAGONAL / np.sqrt(2)
    return float((error < PIXELS[-1]).mean()), len(positions)


@pytest.mark.parametrize("kind", ["noise", "one everywhere", "nothing"])
def test_features_that_do_not_tell_places_apart_score_chance(kind: str) -> None:
    """No place of the picture is favoured, neither its corner nor its middle."""
    hits = asked = expected = 0.0
    for seed in range(6):
        labels = labels_of(room(seed, size=SIZE))
        task = CorrespondenceTask(labels.space)
        rng = torch.Generator().manual_seed(seed)
        outputs = {
            "noise": torch.randn(1, 4, 16, 16, 32, generator=rng),
            "one everywhere": torch.randn(1, 1, 1, 1, 700, generator=rng).expand(1, 4, 16, 16, 700),
            "nothing": torch.zeros(1, 4, 16, 16, 5),
        }[kind]
        share, count = chance(task, labels)
        hits += metrics(task, labels, outputs)["recall20px"] * count
        expected += share * count
        asked += count
    spread = np.sqrt(expected)  # of a count of rare events
    assert abs(hits - expected) < 3 * spread
    assert expected / asked < 0.005


def test_matches_of_constant_features_are_spread_evenly() -> None:
    task = CorrespondenceTask(LabelSpace(height=SIZE, width=SIZE))
    matches = task.predict(torch.ones(9, 5, 16, 16, 700), GridMap())["matches"].reshape(-1, 2)
    counts, _, _ = np.histogram2d(*matches.T, bins=4, range=[[0, 1], [0, 1]])
    assert np.abs(counts / counts.mean() - 1).max() < 0.2


def test_nothing_is_trained() -> None:
    task = CorrespondenceTask(LabelSpace(height=8, width=8))
    for call in (lambda: task.prior({}), lambda: task.loss(torch.zeros(1), {})):
        with pytest.raises(TypeError, match="nothing is trained"):
            call()


@pytest.mark.parametrize("name", list(TASKS))
def test_the_table_of_tasks_says_which_are_trained(name: str) -> None:
    task = get_task(name, LabelSpace(names=("a",), things=(True,), height=8, width=8))
    assert task.trained == TASKS[name].trained == (name != "correspondence")
