"""Examples: kept with all they hold, chosen from worst to best, and drawn for every task."""

from __future__ import annotations

import base64
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluate.protocols import TASKS
from evaluate.records import Example, Run, RunWriter
from evaluate.report.clouds import cloud, clouds_of
from evaluate.report.page import render
from evaluate.report.pictures import panels
from evaluate.report.shown import examples
from evaluate.scenes import ranked
from evaluate.table import Axis, build
from tests.evaluate.imagined_examples import CELLS, examples_of, kept
from tests.evaluate.imagined_rooms import CLASSES, THINGS, room
from tests.evaluate.imagined_runs import run_info, write_run

NAMES = {"tagging": THINGS, "segmentation": CLASSES}


def shown_by(task: str, **changes: np.ndarray) -> tuple[Example, list, list, dict]:
    """Return an example with some arrays replaced, and rows by title, legend and bars of its panels."""
    (item,) = examples_of(task, "p", 3)[:1]
    item = Example(**{**item.__dict__, "arrays": {**item.arrays, **changes}})
    drawn = panels(item, NAMES.get(task, []))
    assert drawn is not None
    return item, drawn, drawn.rows, {row.title: row.images for row in drawn.rows}


def pixels(image: str) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(base64.b64decode(image.partition(",")[2])))).astype(float)


def run_with(root: Path, task: str, kept_: list[Example], name: str = "r") -> Run:
    """Write a run whose examples are `kept_`, with statistics of imagined rooms."""
    info = run_info(name, tasks=(task,))
    scored = Run.open(write_run(root / "scored" / name, info, scenes=(1, 3), size=24))
    with RunWriter(root / name, info) as writer:
        for probe in info.probes:
            for split in ("val", "test"):
                scenes, statistics = scored.statistics(task, probe.id, split)
                for index, scene in enumerate(scenes):
                    writer.add(probe.id, scene, split, {key: array[index] for key, array in statistics.items()})
        for item in kept_:
            writer.add_example(item)
    return Run.open(root / name)


def axis_of(run: Run) -> Axis:
    (axis,) = build([run], resamples=20)
    return axis


@pytest.mark.parametrize("task", TASKS)
def test_what_was_kept_is_read(tmp_path: Path, task: str):
    items = examples_of(task, f"{task}/blocks.1/lr0.001/seed0")
    read = run_with(tmp_path, task, items).examples()
    for item, got in zip(items, read, strict=True):
        assert {**got.__dict__, "arrays": None} == {**item.__dict__, "arrays": None}
        assert set(got.arrays) == set(item.arrays)
        for name, array in item.arrays.items():
            np.testing.assert_array_equal(got.arrays[name], array)
            assert got.arrays[name].dtype == array.dtype, name


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_pictures(task: str):
    item, drawn, rows, _ = shown_by(task)
    assert rows[0].title == "frame"
    assert rows[1].cells
    assert {len(row.images) for row in rows} == {len(item.frames)}
    assert len(rows) > 2 or drawn.claims or drawn.drawings


def test_cells_are_kept_as_they_are():
    item, _, rows, _ = shown_by("depth")
    for image, cells in zip(rows[1].images, item.arrays["features_pca"], strict=True):
        assert image.startswith("data:image/png;")
        np.testing.assert_array_equal(pixels(image), cells)
        assert cells.shape == (CELLS, CELLS, 3)


def test_large_pictures_are_made_smaller():
    views = room(3, 1, size=256)
    drawn = panels(kept("depth", "p", "s", views, 0.1), [])
    assert drawn is not None
    assert {pixels(row.images[0]).shape for row in drawn.rows if not row.cells} == {(192, 192, 3)}


def test_normals_are_coloured_by_where_they_point():
    size = np.zeros((3, 32, 32, 3), np.int8)
    right, up, here = (size.copy() for _ in range(3))
    right[..., 0], up[..., 1], here[..., 2] = 127, -127, -127
    for normals, channel in ((right, 0), (up, 1), (here, 2)):
        _, _, _, images = shown_by("normals", normals=normals, normals_pred=normals)
        colour = pixels(images["normals, truth"][0])[16, 16]
        assert colour.argmax() == channel
        assert colour.max() > 245
        assert pixels(images["angle between them"][0]).mean() < 10
    _, _, _, images = shown_by("normals", normals=right, normals_pred=up)
    assert pixels(images["angle between them"][0])[16, 16].tolist() == pytest.approx([252, 255, 164], abs=12)


def test_points_are_measured_in_the_first_views_mean_distance():
    (item,) = examples_of("points", "p")[:1]
    valid = item.arrays["points_valid"]
    unit = np.linalg.norm(item.arrays["points"][0][valid[0]], axis=-1).mean()
    off = item.arrays["points"] + np.float32([0.5 * unit, 0, 0])
    title = "distance between them, in mean distances of the first view"
    _, _, _, images = shown_by("points", points_pred=off, points_valid=np.ones_like(valid))
    assert pixels(images[title][0])[16, 16].tolist() == pytest.approx([252, 255, 164], abs=14)
    _, _, _, images = shown_by("points", points_pred=item.arrays["points"], points_valid=np.ones_like(valid))
    assert pixels(images[title][0]).mean() < 10


def test_point_maps_become_clouds_of_valid_points():
    (item,) = examples_of("points", "p")[:1]
    found = clouds_of(item)
    assert found is not None
    truth, guess, colours = found
    assert len(truth) == item.arrays["points_valid"].sum() < item.arrays["points_valid"].size
    np.testing.assert_allclose(truth, item.arrays["points"][item.arrays["points_valid"]])
    np.testing.assert_array_equal(colours, item.arrays["points_rgb"][item.arrays["points_valid"]])
    assert not np.allclose(truth, guess)
    packed = cloud(item, points=50)
    assert packed is not None
    assert (packed.points, packed.placed) == (50, "after the best similarity to the truth")


def test_tags_show_what_is_there_and_what_was_claimed():
    scores = np.array([0.9, 0.2, 0.8, 0.7, 0.1])
    there = np.array([False, True, True, False, False])
    _, drawn, _, _ = shown_by("tagging", scores=scores, labels=there)
    assert [(claim.name, claim.there) for claim in drawn.claims] == [
        (THINGS[0], False), (THINGS[2], True), (THINGS[3], False), (THINGS[1], True), (THINGS[4], False),
    ]  # fmt: skip


def test_matches_are_right_within_a_share_of_the_diagonal():
    (item,) = examples_of("correspondence", "p")[:1]
    positions, visible = item.arrays["positions"], item.arrays["visible"]
    for away, found in ((0.0, visible.sum()), (0.03, visible.sum()), (0.04, 0)):
        _, drawn, _, _ = shown_by("correspondence", matches=positions + np.array([away, 0.0]))
        assert f"({found} of {visible.sum()} found)" in drawn.legend[0].name
    assert visible.sum() > 0


def test_cameras_are_drawn_where_they_are():
    _, drawn, _, _ = shown_by("camera")
    for drawing in drawn.drawings:
        circles = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawing)
        assert len(circles) == 6
        assert circles[0] == circles[3], "both start from the true first camera"
        assert all(0 <= float(x) <= 360 and 0 <= float(y) <= 250 for x, y in circles)
    straight = np.tile(np.eye(4), (3, 1, 1))
    straight[:, 2, 3] = [0, 1, 2]
    _, drawn, _, _ = shown_by("camera", cam_to_world=straight, cam_to_world_pred=straight)
    above, side = (np.array(re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', d)[:3], float) for d in drawn.drawings)
    assert np.ptp(above[:, 0]) == np.ptp(side[:, 1]) == 0
    assert (np.diff(above[:, 1]) < 0).all(), "ahead is up"
    assert (np.diff(side[:, 0]) > 0).all(), "and to the right"


def test_the_worst_and_the_best_are_shown_beside_each_other_and_the_median_is_folded(tmp_path: Path):
    first = axis_of(run_with(tmp_path, "depth", [], "empty"))
    items = examples_of("depth", first.leader.best.probe.id)
    axis = axis_of(run_with(tmp_path, "depth", [items[1], items[2], items[0]]))
    worst, best, usual = examples(axis, ranked(axis, axis.leader))
    assert [item.example.scene for item in (worst, best, usual)] == ["room-0", "room-2", "room-1"]
    assert (worst.rank, worst.value) == ("worst 1 of 3", "AbsRel 0.900")
    assert (worst.usual, best.usual, usual.usual) == (False, False, True)
    assert usual.cloud is None
    assert worst.cloud is not None
    html = render([axis])
    assert html.index("scene room-0") < html.index("scene room-2") < html.index("scene room-1")
    assert "<summary>median of 3: scene room-1 <small>AbsRel 0.800</small>" in html


def test_examples_of_another_head_or_task_are_not_the_leaders(tmp_path: Path):
    axis = axis_of(run_with(tmp_path, "depth", examples_of("depth", "depth/blocks.1/mlp/lr0.001/seed0")))
    assert examples(axis, ranked(axis, axis.leader)) == []


def test_runs_that_do_not_say_why_are_ranked_by_their_records(tmp_path: Path):
    plain = write_run(tmp_path / "old", run_info("old", tasks=("depth",)), scenes=(1, 3), size=24)
    axis = axis_of(Run.open(plain))
    scenes = ranked(axis, axis.leader)
    (only,) = examples(axis, scenes)
    place = [item.scene for item in scenes].index(only.example.scene) + 1
    assert only.rank == f"number {place} of 3 from the worst"
