"""Recordings for the viewer: read back, they hold what the example holds, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from evaluate.cli import app
from evaluate.errors import InputError
from evaluate.protocols import TASKS
from evaluate.records import Example, Run
from evaluate.report.clouds import unproject
from tests.evaluate.imagined_examples import examples_of
from tests.evaluate.test_examples import run_with

CAMERAS = {"/world/camera", "/world/camera/image", "/world/camera/image/rgb", "/pictures/features"}
HELD = {
    "tagging": set(),
    "segmentation": {"/pictures/classes", "/pictures/classes/truth", "/pictures/classes/prediction"},
    "grouping": {"/pictures/instances/truth", "/pictures/instances/prediction"},
    "depth": {"/pictures/depth/truth", "/pictures/depth/prediction", "/world/points", "/world/points_predicted"},
    "points": {"/world/points", "/world/points_predicted"},
    "camera": {"/world/camera_predicted", "/world/camera_predicted/image"},
    "normals": {"/pictures/normals/truth", "/pictures/normals/prediction"},
    "correspondence": set(),
}
SAID = {"/world", "/what", "/__properties"}


def test_without_the_viewer_the_error_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = run_with(tmp_path, "depth", examples_of("depth", "depth/blocks.1/lr0.001/seed0"))
    monkeypatch.setitem(sys.modules, "rerun", None)
    done = CliRunner().invoke(app, ["--runs", str(run.path), "--rerun", str(tmp_path / "rrd")])
    assert done.exit_code == 1
    assert "--rerun needs rerun-sdk, which is not installed; pip install 'spatial-probing[view]'" in done.stderr
    assert not (tmp_path / "rrd").exists()


def recordings(run: Run, folder: Path) -> list[Path]:
    pytest.importorskip("rerun.chunk", reason="rerun-sdk is not installed: pip install -e '.[view]'")
    from evaluate.recordings import write_recordings

    return write_recordings([run], folder)


def read(file: Path) -> dict[str, dict[str, list[Any]]]:
    """Entity -> column -> values, in the order of time."""
    from rerun.chunk import RrdReader

    found: dict[str, dict[str, list[Any]]] = {}
    for chunk in RrdReader(file).stream():
        batch = chunk.to_record_batch()
        columns = found.setdefault(chunk.entity_path, {})
        for name in batch.schema.names:
            columns.setdefault(name, []).extend(batch.column(name).to_pylist())
    for columns in found.values():
        if "view" in columns:
            order = np.argsort(columns["view"], kind="stable")
            columns |= {name: [v[k] for k in order] for name, v in columns.items() if len(v) == len(order)}
    return found


def column(found: dict[str, dict[str, list[Any]]], entity: str, name: str) -> list[Any]:
    (key,) = [key for key in found[entity] if key.endswith(f":{name}")]
    return found[entity][key]


@pytest.mark.parametrize("task", TASKS)
def test_a_recording_holds_what_the_example_holds(tmp_path: Path, task: str):
    run = run_with(tmp_path, task, examples_of(task, f"{task}/blocks.1/lr0.001/seed0"))
    files = recordings(run, tmp_path / "rrd")
    stems = [f"{task}-worst-1-room-0", f"{task}-median-room-1", f"{task}-best-1-room-2"]
    assert files == [tmp_path / "rrd" / "r" / f"{stem}.rrd" for stem in stems]
    for file in files:
        found = read(file)
        assert set(found) == CAMERAS | HELD[task] | SAID
        assert found["/world/camera"]["view"] == [0, 1, 2]
        assert found["/world/camera"]["frame"] == [0, 5, 10]
        assert len(found["/world/camera/image/rgb"]["view"]) == 3
    assert (
        list((tmp_path / "rrd" / "r").iterdir()) == sorted(files) or len(list((tmp_path / "rrd" / "r").iterdir())) == 3
    )


def test_cameras_and_points_are_where_they_are(tmp_path: Path):
    item = examples_of("depth", "depth/blocks.1/lr0.001/seed0")[0]
    found = read(recordings(run_with(tmp_path, "depth", [item]), tmp_path / "rrd")[0])
    poses = np.linalg.inv(item.arrays["cam_to_world"][0]) @ item.arrays["cam_to_world"]
    for view, pose in enumerate(poses):
        (place,) = column(found, "/world/camera", "translation")[view]
        np.testing.assert_allclose(place, pose[:3, 3], atol=1e-6)
        (turned,) = column(found, "/world/camera", "mat3x3")[view]
        np.testing.assert_allclose(np.reshape(turned, (3, 3)).T, pose[:3, :3], atol=1e-6)
        (matrix,) = column(found, "/world/camera/image", "image_from_camera")[view]
        np.testing.assert_allclose(np.reshape(matrix, (3, 3)).T, item.arrays["intrinsics"][view], rtol=1e-6)
    for entity, name in (("/world/points", "depth"), ("/world/points_predicted", "depth_pred")):
        depth = item.arrays[name].astype(np.float64)
        places = unproject(depth, item.arrays["intrinsics"], item.arrays["cam_to_world"])
        for view, said in enumerate(column(found, entity, "positions")):
            np.testing.assert_allclose(said, places[view].reshape(-1, 3), rtol=1e-4, atol=1e-4)


def test_predicted_cameras_are_those_of_the_example(tmp_path: Path):
    item = examples_of("camera", "camera/blocks.1/lr0.001/seed0")[0]
    found = read(recordings(run_with(tmp_path, "camera", [item]), tmp_path / "rrd")[0])
    poses = np.linalg.inv(item.arrays["cam_to_world"][0]) @ item.arrays["cam_to_world_pred"]
    said = [place for (place,) in column(found, "/world/camera_predicted", "translation")]
    np.testing.assert_allclose(said, poses[:, :3, 3], atol=1e-6)


def test_nothing_is_invented(tmp_path: Path):
    item = examples_of("depth", "depth/blocks.1/lr0.001/seed0")[0]
    bare = Example(**{**item.__dict__, "arrays": {name: item.arrays[name] for name in ("rgb", "depth", "depth_pred")}})
    found = read(recordings(run_with(tmp_path, "depth", [bare]), tmp_path / "rrd")[0])
    assert set(found) == {"/pictures/rgb", "/pictures/depth/truth", "/pictures/depth/prediction"} | SAID


def test_names_are_those_of_files_and_differ(tmp_path: Path):
    items = examples_of("tagging", "tagging/blocks.1/lr0.001/seed0", 2)
    scenes = ["a/b:c", "a b c"]
    same = [Example(**{**item.__dict__, "scene": scene, "why": ""}) for item, scene in zip(items, scenes, strict=True)]
    run = run_with(tmp_path, "tagging", same)
    first = recordings(run, tmp_path / "rrd")
    assert [file.name for file in first] == ["tagging-a-b-c.rrd", "tagging-a-b-c-2.rrd"]
    assert recordings(run, tmp_path / "rrd") == first
    assert sorted(file.name for file in (tmp_path / "rrd" / "r").iterdir()) == sorted(file.name for file in first)


def test_an_error_leaves_no_half_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed: pip install -e '.[view]'")
    run = run_with(tmp_path, "depth", examples_of("depth", "depth/blocks.1/lr0.001/seed0"))

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("evaluate.recordings._log", full)
    with pytest.raises(OSError, match="no space left"):
        recordings(run, tmp_path / "rrd")
    assert list((tmp_path / "rrd" / "r").iterdir()) == []


def test_runs_without_examples_or_with_one_name_are_refused(tmp_path: Path):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed: pip install -e '.[view]'")
    from evaluate.recordings import write_recordings

    run = run_with(tmp_path, "depth", [])
    with pytest.raises(InputError, match="no examples in r; "):
        write_recordings([run], tmp_path / "rrd")
    with pytest.raises(InputError, match="several runs are called r"):
        write_recordings([run, run], tmp_path / "rrd")


def test_the_command_prints_what_it_wrote(tmp_path: Path):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed: pip install -e '.[view]'")
    run = run_with(tmp_path, "tagging", examples_of("tagging", "tagging/blocks.1/lr0.001/seed0"))
    done = CliRunner().invoke(app, ["--runs", str(run.path), "--rerun", str(tmp_path / "rrd")])
    assert done.exit_code == 0, done.stderr
    assert [Path(line).is_file() for line in done.stdout.split()] == [True] * 3
    done = CliRunner().invoke(app, ["--runs", str(run.path), "--rerun", "x", "--compare", "paper"])
    assert done.exit_code == 1
    assert "give one of them" in done.stderr
