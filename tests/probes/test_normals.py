"""Normals of planes, spheres and rooms, and a probe that is told them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.protocols import get_protocol
from extract.datasets import rooms_render
from extract.datasets.roomgen import stored
from probes.geometry import JUMP, normals_from_depth, project, unproject
from probes.inputs import align, open_inputs
from probes.labels import ClipLabels, LabelSpace, PixelPool
from probes.sampling import GridMap
from probes.tasks.normals import NormalsTask
from tests.evaluate.imagined_rooms import room

CAMERA = np.array([[40.0, 0.7, 13.0], [0, 35.0, 9.0], [0, 0, 1]])
"""Off centre, with pixels that are neither square nor quite upright."""


def rays(height: int, width: int, camera: np.ndarray = CAMERA) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(camera).T


def degrees(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((first * second).sum(-1), -1, 1)))


def plane(normal: np.ndarray, distance: float, height: int = 20, width: int = 28) -> np.ndarray:
    """Depth of the plane <n, p> = -distance, all of it before the camera."""
    return -distance / (rays(height, width) @ normal)


@given(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6), st.floats(0.3, 20))
@settings(deadline=None, max_examples=40)
def test_a_plane_has_one_normal_however_it_slants(x: float, y: float, distance: float) -> None:
    normal = np.array([x, y, -1.0]) / np.linalg.norm([x, y, 1])
    normals = normals_from_depth(plane(normal, distance)[None], CAMERA[None])
    np.testing.assert_allclose(normals[0, 1:-1, 1:-1], np.broadcast_to(normal, (18, 26, 3)), atol=1e-5)
    inner = np.zeros((20, 28), bool)
    inner[1:-1, 1:-1] = True
    assert not normals[0, ~inner].any()


def test_normals_are_those_of_the_plane_fitted_to_nine_inverse_depths() -> None:
    rng = np.random.default_rng(0)
    depth = plane(np.array([0.3, -0.2, -0.9]), 2.0) * (1 + 0.001 * rng.normal(size=(20, 28)))
    normals = normals_from_depth(depth[None], CAMERA[None])[0]
    r = rays(20, 28)
    for y in range(1, 19):
        for x in range(1, 27):
            around = np.s_[y - 1 : y + 2, x - 1 : x + 2]
            m, *_ = np.linalg.lstsq(r[around].reshape(9, 3), 1 / depth[around].reshape(9), rcond=None)
            np.testing.assert_allclose(normals[y, x], -m / np.linalg.norm(m), atol=1e-5)


def test_a_steep_plane_is_no_discontinuity() -> None:
    """A floor seen at a grazing angle, whose depth changes by a quarter from one row to the next."""
    normal = np.array([0.0, -1.0, 0.0])
    camera = np.array([[40.0, 0, 14], [0, 40, -3], [0, 0, 1]])
    depth = -1.5 / (rays(20, 28, camera) @ normal)
    assert (depth[1] / depth[2]).max() > 1.2
    normals = normals_from_depth(depth[None], camera[None])[0, 1:-1, 1:-1]
    np.testing.assert_allclose(normals, np.broadcast_to(normal, normals.shape), atol=1e-5)


def test_a_sphere_faces_the_camera_everywhere() -> None:
    camera = np.array([[200.0, 0, 64], [0, 200, 64], [0, 0, 1]])
    r = rays(128, 128, camera)
    centre, radius = np.array([0.1, -0.1, 4.0]), 1.0
    along, square = r @ centre, (r * r).sum(-1)
    inside = along**2 - square * (centre @ centre - radius**2)
    depth = np.where(inside > 0, (along - np.sqrt(np.maximum(inside, 0))) / square, 0)
    true = (r * depth[..., None] - centre) / radius
    normals = normals_from_depth(depth[None].astype(np.float32), camera[None])[0]
    valid = normals.any(-1)
    assert valid.sum() > 0.85 * (depth > 0).sum()
    assert degrees(normals[valid], true[valid]).max() < 3
    assert np.median(degrees(normals[valid], true[valid])) < 0.2
    assert (((r * normals).sum(-1))[valid] < 0).all()
    np.testing.assert_allclose(np.linalg.norm(normals[valid], axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("share", [0.8, 1.25])
def test_no_normal_beside_a_jump(axis: int, share: float) -> None:
    inverse = np.full((12, 14), 0.5)
    inverse[(slice(None),) * axis + (slice(6, None),)] *= 1 + share * JUMP
    valid = normals_from_depth(1 / inverse[None], CAMERA[None])[0].any(-1)
    expected = np.zeros((12, 14), bool)
    expected[1:-1, 1:-1] = True
    if share > 1:
        expected[(slice(None),) * axis + (slice(5, 7),)] = False
    np.testing.assert_array_equal(valid, expected)


def test_unknown_depth_leaves_its_neighbours_without_a_normal() -> None:
    depth = plane(np.array([0.0, 0.0, -1.0]), 2.0)
    depth[7, 9] = 0
    valid = normals_from_depth(depth[None], CAMERA[None])[0].any(-1)
    assert not valid[6:9, 8:11].any()
    assert valid.sum() == 18 * 26 - 9
    assert not normals_from_depth(np.ones((2, 2, 9)), np.tile(CAMERA, (2, 1, 1))).any()


def test_project_and_unproject_are_inverse() -> None:
    rng = np.random.default_rng(0)
    points, camera = rng.uniform(0.5, 3, (50, 3)), np.tile(CAMERA, (50, 1, 1))
    np.testing.assert_allclose(unproject(project(points, camera), points[:, 2], camera), points)
    assert np.isnan(project(points * [1, 1, -1], camera)).all()


@pytest.fixture(scope="module")
def shipped() -> ClipLabels:
    """Every fifth frame of one of the rooms that ship with the project."""
    one = next(stored.read_rooms(rooms_render.HERE))
    depth = one.depth[::5].astype(np.float32)
    arrays = {
        "depth": depth,
        "intrinsics": np.tile(one.intrinsics, (len(depth), 1, 1)),
        "cam_to_world": one.poses[::5],
        "instance": one.instance[::5],
    }
    return ClipLabels(arrays.__getitem__, LabelSpace(height=depth.shape[1], width=depth.shape[2]))


def test_normals_of_a_room_agree_with_planes_fitted_to_points(shipped: ClipLabels) -> None:
    """Independently: the direction of least variance of the nine unprojected points (total least squares)."""
    rng = np.random.default_rng(0)
    r = rays(shipped.space.height, shipped.space.width, shipped.intrinsics[0])
    found = np.argwhere(shipped.normals.any(-1))
    angles = []
    for frame, y, x in found[rng.integers(len(found), size=500)]:
        around = np.s_[y - 1 : y + 2, x - 1 : x + 2]
        points = (r[around] * shipped.depth[frame][around][..., None]).reshape(9, 3)
        _, _, directions = np.linalg.svd(points - points.mean(0))
        normal = directions[2] * -np.sign(directions[2] @ points[4])
        angles.append(degrees(normal, shipped.normals[frame, y, x]))
    assert np.median(angles) < 0.5
    assert np.percentile(angles, 90) < 5


def test_the_floor_of_a_room_faces_up_in_every_frame(shipped: ClipLabels) -> None:
    """Rooms have z up; depth is stored in whole millimetres, which is all the error there is on a plane."""
    world = np.einsum("fij,fyxj->fyxi", shipped.cam_to_world[:, :3, :3], shipped.normals)
    up = shipped.normals.any(-1) & (degrees(world, np.array([0, 0, 1.0])) < 20)
    assert up.mean() > 0.1
    assert np.median(degrees(world[up], np.array([0, 0, 1.0]))) < 1.5
    assert shipped.normals.any(-1).mean() > 0.8


def test_samples_are_the_normals_at_their_pixels(world: Path) -> None:
    features, targets = open_inputs("store/toy", None, None)
    inputs = align(features, targets, ["blocks.0"], ["normals"], 3, None)
    labels, frames, task = inputs.labels(1), np.array([1, 2, 5]), NormalsTask(inputs.space)
    sample = task.sample(PixelPool(labels, task.fields, 0), frames, 100, np.random.default_rng(0))
    column, row = (
        (sample["xy"] * (inputs.space.width, inputs.space.height) - 0.5).round().astype(int).transpose(2, 0, 1)
    )
    assert sample["valid"].all()
    assert sample["normals"].shape == (3, 100, 3)
    np.testing.assert_array_equal(sample["normals"], labels.normals[frames[:, None], row, column])
    np.testing.assert_allclose(np.linalg.norm(sample["normals"], axis=-1), 1, atol=1e-6)
    labels.depth[2] = 0
    del labels.normals
    sample = task.sample(PixelPool(labels, task.fields, 0), frames, 20, np.random.default_rng(0))
    assert sample["valid"].any(axis=1).tolist() == [True, False, True]


def test_the_prior_is_the_mean_direction() -> None:
    task = NormalsTask(LabelSpace(height=4, width=4))
    normals = torch.tensor([[[[0.6, 0, -0.8], [0, 0.6, -0.8], [1, 0, 0]]]])
    valid = torch.tensor([[[True, True, False]]])
    prior = task.prior({"normals": normals, "valid": valid})
    torch.testing.assert_close(prior, torch.nn.functional.normalize(torch.tensor([0.3, 0.3, -0.8]), dim=0))
    torch.testing.assert_close(task.prior({"normals": normals, "valid": ~valid & False}), torch.tensor([0.0, 0, -1]))


@pytest.mark.parametrize("told", [True, False])
def test_a_linear_probe_finds_normals_that_features_hold_and_no_others(told: bool) -> None:
    views = room(0, size=48)
    arrays = {"depth": views.depth, "intrinsics": views.intrinsics}
    labels = ClipLabels(arrays.__getitem__, LabelSpace(height=48, width=48))
    task, rng = NormalsTask(labels.space), np.random.default_rng(0)
    hidden = rng.normal(size=(*labels.depth.shape, 12)).astype(np.float32)
    if told:
        hidden[..., :3] = labels.normals
    mixed, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    cells = torch.from_numpy(hidden @ mixed.astype(np.float32))[None]
    pool, frames = PixelPool(labels, task.fields, 0), np.arange(len(labels.depth))
    sample = task.sample(pool, frames, 600, rng)
    targets = {name: torch.from_numpy(values)[None] for name, values in sample.items()}
    column, row = (sample["xy"] * 48 - 0.5).round().astype(int).transpose(2, 0, 1)
    drawn = cells[0, frames[:, None], row, column][None]
    torch.manual_seed(0)
    head = torch.nn.Linear(12, 3)
    torch.nn.init.zeros_(head.weight)
    with torch.no_grad():
        head.bias.copy_(task.prior(targets))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.03)
    for _ in range(400):
        optimizer.zero_grad()
        task.loss(head(drawn), targets).backward()
        optimizer.step()
    with torch.no_grad():
        prediction = task.predict(head(cells), GridMap())
    protocol = get_protocol("normals")
    statistics = protocol.score_scene(prediction, task.target(labels, np.array([[0, 1]])))
    metrics = protocol.reduce({name: value[None] for name, value in statistics.items()})
    if told:
        assert metrics["mean_angle"] < 3
        assert metrics["within11.25"] > 0.98
    else:
        assert metrics["mean_angle"] > 30
