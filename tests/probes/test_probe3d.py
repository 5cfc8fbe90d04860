"""Matches of every pixel and how sure they are, against slow loops; and the rules of Probe3D from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate.protocols import PROBE3D, get_protocol
from evaluate.records import Run
from probes.errors import ProbesError
from probes.heads.base import Grid
from probes.labels import ClipLabels, LabelSpace
from probes.sampling import GridMap, sample_cells
from probes.tasks import TASKS, get_task
from probes.tasks import probe3d as module
from probes.tasks.probe3d import Probe3dCorrespondenceTask
from tests.evaluate.imagined_rooms import Room, room
from tests.evaluate.imagined_runs import first_view_points
from tests.probes.test_alternating import run
from tests.probes.test_correspondence import labels_of

SIZE = 48
WINDOWS = np.array([[0, 1, 2, 3]])


@pytest.fixture(scope="module")
def views() -> Room:
    return room(0, size=SIZE)


def _reduce(prediction: dict, target: dict) -> dict[str, float]:
    protocol = get_protocol("correspondence", family=PROBE3D)
    return protocol.reduce({name: value[None] for name, value in protocol.score_scene(prediction, target).items()})


@pytest.mark.parametrize("grid_map", [GridMap(), GridMap(0.5, 0.25, 0.8, 0.1)])
def test_matches_are_the_nearest_of_known_depth_and_sure_by_the_ratio_of_distances(
    grid_map: GridMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against features that are read at every place, normalised, and multiplied out in double precision."""
    monkeypatch.setattr(module, "CHUNK", 7)
    monkeypatch.setattr(module, "LONGEST", 20)
    width, height, step = 40, 24, 2
    task = Probe3dCorrespondenceTask(LabelSpace(height=height, width=width))
    outputs = torch.randn(2, 3, 4, 6, 9, generator=torch.Generator().manual_seed(0))
    depth = np.random.default_rng(0).uniform(-0.5, 1, (3, height, width)).clip(0).astype(np.float32)
    windows = np.array([[0, 1, 2], [2, 0, 1]])
    labels = ClipLabels({"depth": depth}.__getitem__, task.space)
    found = task.predict_seeing(outputs, grid_map, labels, windows)
    places = [(x, y) for y in range(step // 2, height, step) for x in range(step // 2, width, step)]
    xy = torch.tensor([[(x + 0.5) / width, (y + 0.5) / height] for x, y in places], dtype=torch.float64)[None]
    checked = 0
    for window, pair in np.ndindex(2, 2):
        first, other = (
            torch.nn.functional.normalize(sample_cells(outputs[window, view][None].double(), xy, grid_map)[0], dim=-1)
            for view in (0, pair + 1)
        )
        seen = [
            depth[windows[window, view]][[y for _, y in places], [x for x, _ in places]] > 0 for view in (0, pair + 1)
        ]
        distances = (1 - first @ other.T).numpy()
        distances[:, ~seen[1]] = np.inf
        nearest = np.sort(distances, axis=1)[:, :2]
        match, sure = found["matches"][window, pair], found["confidence"][window, pair]
        for query in np.flatnonzero(seen[0]):
            assert distances[query, match[query]] == pytest.approx(nearest[query, 0], abs=2e-6)
            expected = 1 - nearest[query, 0] / nearest[query, 1]
            assert sure[query] == pytest.approx(expected, abs=4e-6 / nearest[query, 1])
            checked += 1
        assert not match[~seen[0]].any()
        assert not sure[~seen[0]].any()
    assert checked > 300


def test_targets_are_where_every_point_is_projected_to_seen_or_not(views: Room) -> None:
    labels = labels_of(views)
    target = Probe3dCorrespondenceTask(labels.space).target(labels, WINDOWS)
    outside = 0
    rng = np.random.default_rng(0)
    for pair in range(3):
        relative = np.linalg.inv(views.cam_to_world[pair + 1]) @ views.cam_to_world[0]
        for y, x in rng.integers(0, SIZE, (60, 2)):
            local = np.linalg.inv(views.intrinsics[0]) @ [x + 0.5, y + 0.5, 1] * views.depth[0, y, x]
            point = (relative @ [*local, 1])[:3]
            np.testing.assert_allclose(target["points"][0, pair, y * SIZE + x], point, atol=1e-4)
            u, v, w = views.intrinsics[pair + 1] @ point
            position = target["positions"][0, pair, y * SIZE + x]
            if w > 0:
                np.testing.assert_allclose(position * SIZE, [u / w, v / w], rtol=1e-4, atol=1e-3)
            outside += not (w > 0 and 0 <= u / w < SIZE and 0 <= v / w < SIZE)
        cosine = (np.trace(relative[:3, :3]) - 1) / 2
        assert target["angle"][0, pair] == pytest.approx(np.degrees(np.arccos(cosine)), abs=1e-4)
    assert outside > 10
    assert target["asked"].all()
    np.testing.assert_allclose(target["places"][0].reshape(SIZE, SIZE, 2)[3, 5] * SIZE, [5.5, 3.5])
    depths = target["surface"][0].reshape(3, SIZE, SIZE, 3)[..., 2]
    np.testing.assert_allclose(depths, views.depth[1:], rtol=1e-6)


def test_what_has_no_depth_or_no_pose_is_not_asked_for(views: Room) -> None:
    depth, poses = views.depth.copy(), views.cam_to_world.copy()
    depth[0, :10] = 0
    depth[2] = 0
    poses[3] = 0
    arrays = {"depth": depth, "intrinsics": views.intrinsics, "cam_to_world": poses}
    task = Probe3dCorrespondenceTask(LabelSpace(height=SIZE, width=SIZE))
    labels = ClipLabels(arrays.__getitem__, task.space)
    target = task.target(labels, WINDOWS)
    asked = target["asked"].reshape(3, SIZE, SIZE)
    assert asked[0, 10:].all()
    assert not asked[0, :10].any()
    assert not asked[1:].any()
    outputs = torch.randn(1, 4, 6, 6, 5, generator=torch.Generator().manual_seed(0))
    found = task.predict_seeing(outputs, GridMap(), labels, WINDOWS)
    assert np.isfinite(_reduce(found, target)["recall10px"])


def test_features_that_hold_the_place_in_the_world_are_matched(views: Room) -> None:
    """The world put on a sphere (inverse stereographic projection), where the nearest has the largest cosine."""
    labels = labels_of(views)
    points = first_view_points(views) - first_view_points(views).mean((0, 1, 2))
    square = (points**2).sum(-1, keepdims=True)
    sphere = torch.from_numpy((np.concatenate([2 * points, square - 1], -1) / (square + 1)).astype(np.float32))[None]
    task = Probe3dCorrespondenceTask(labels.space)
    target = task.target(labels, WINDOWS)
    found = _reduce(task.predict_seeing(sphere, GridMap(), labels, WINDOWS), target)
    assert found["recall10px"] > 0.9
    assert found["recall5cm"] > 0.6
    noise = torch.randn(sphere.shape, generator=torch.Generator().manual_seed(0))
    assert _reduce(task.predict_seeing(noise, GridMap(), labels, WINDOWS), target)["recall10px"] < 0.1
    constant = task.predict(torch.ones(1, 4, 6, 6, 700), GridMap())
    assert np.isfinite(constant["confidence"]).all()


def test_features_are_compared_as_they_are_stored() -> None:
    cells = torch.randn(2, 4, 3, 3, 5, generator=torch.Generator().manual_seed(0)).half()
    views = torch.tensor([[0, 2], [1, 3]])
    windows = Grid(cells, lambda values: values.float() * 3 + 1).windows(views)
    assert torch.equal(windows.raw, cells[0, views].float())
    assert torch.equal(windows.cells, cells[0, views].float() * 3 + 1)


def test_the_rules_end_to_end(world: Path) -> None:
    """Probes are those of the standard rules; what is scored, and how, is not."""
    arguments = ["--epochs", "2", "--learning-rate", "0.01", "--weight-decay", "0.01"]
    found = run("--protocol", "probe3d", *arguments)
    usual = run(*arguments, "--task", "depth,normals,correspondence", out="runs/usual")
    info = Run.open(found).info
    assert info.protocols == {name: f"{PROBE3D}/{name}@1" for name, entry in TASKS.items() if entry.probe3d}
    assert list(info.protocols) == ["depth", "normals", "correspondence"]
    assert {probe.head for probe in info.probes if probe.task == "correspondence"} == {"raw"}
    for probe in info.probes:
        scenes, statistics = Run.open(found).statistics(probe.task, probe.id, "test")
        assert len(scenes) == 4
        assert all(np.isfinite(values).all() for values in statistics.values()), probe.id
    from safetensors.torch import load_file

    ours, theirs = (load_file(place / "probes.safetensors") for place in (found, usual))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    shown = [example for example in Run.open(found).examples() if example.task == "correspondence"]
    assert shown
    for example in shown:
        pairs, queries = example.arrays["visible"].shape
        assert example.arrays["queries"].shape == (queries, 2)
        assert example.arrays["matches"].shape == example.arrays["positions"].shape == (pairs, queries, 2)


def test_tasks_that_the_rules_lack_are_refused(world: Path) -> None:
    with pytest.raises(ProbesError, match=r"Probe3D .* has no task camera. It has: depth, normals, correspondence"):
        run("--protocol", "probe3d", "--task", "camera")
    with pytest.raises(ProbesError, match="has no task tagging"):
        get_task("tagging", LabelSpace(names=("a",), things=(True,), height=8, width=8), "probe3d")
