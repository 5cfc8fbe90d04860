"""Depth that a user laid beside the pictures: units, sizes, geometry, and which scenes and sources count."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from extract.__main__ import app
from extract.datasets.base import Targets
from extract.datasets.dl3dv import Dl3dv
from extract.datasets.sampling import Sampling
from extract.errors import DataError, ExtractError
from probes.inputs import choose_tasks
from store import FeatureStore
from tests.extract.dl3dv.test_reader import reprojected
from tests.extract.dl3dv.tiny_dl3dv import (
    FRAMES,
    SIZE,
    UNIT,
    hash_of,
    label_arrays,
    names_of,
    room,
    write_colmap,
    write_depth,
    write_labels,
    write_pictures,
    write_scene,
)
from tests.extract.tiny_rooms import TinyRoom

ALL = Sampling(window="whole", bank=FRAMES)
SCENE = hash_of(0)
FINE = (84, 148)


def in_units(tiny: TinyRoom, unit: float = UNIT) -> TinyRoom:
    """The same room, measured in units of 1 / `unit` metres, as structure from motion would."""
    poses = tiny.cam_to_world.copy()
    poses[:, :3, 3] *= unit
    return replace(tiny, cam_to_world=poses, depth=tiny.depth * unit)


def say(path: Path, **content: float) -> None:
    path.write_text(json.dumps(content))


def targets_of(root: Path) -> Targets:
    (clip,) = Dl3dv(root, ALL).clips()
    return clip.targets()


def depth_of(root: Path) -> NDArray[np.float32]:
    depth = targets_of(root).depth
    assert depth is not None
    return depth


def test_points_of_one_frame_land_on_another(root: Path) -> None:
    tiny = in_units(room(0, FRAMES, FINE))
    folder = write_scene(root / "1K" / SCENE, tiny)
    write_depth(folder, tiny.depth, 0.001 * UNIT)
    say(folder / "scene.json", depth_scale=0.001 * UNIT)
    targets = targets_of(root)
    assert targets.depth is not None
    np.testing.assert_allclose(targets.depth, tiny.depth, rtol=1e-6)
    np.testing.assert_allclose(targets.cam_to_world, tiny.cam_to_world, atol=1e-9)
    assert reprojected(targets.depth, targets, 2, 17, 0.05 * UNIT) > 0.9
    assert reprojected(targets.depth, targets, 20, 3, 0.05 * UNIT) > 0.9
    assert reprojected(targets.depth / np.float32(UNIT), targets, 2, 17, 0.05) < 0.5, "control: metres"


def test_into_a_store_in_one_command(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for n in range(2):
        tiny = in_units(room(n, FRAMES, FINE))
        write_depth(write_scene(root / "1K" / hash_of(n), tiny), tiny.depth, None)
    command = ["--model", "position", "--dataset", "dl3dv", "--root", str(root), "--clip-frames", "24", "--bank", "6"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "nothing says its unit" in caplog.text
    features, targets = FeatureStore.open("position", "dl3dv"), FeatureStore.open("targets", "dl3dv")
    settings = features.recipe.dataset.settings
    assert settings["targets"] == "release and supplied depth"
    assert settings["depth"] == {
        "from": "depth",
        "unit": "of the scene's poses",
        "settings": {"depth_scale": None, "pose_scale": None},
    }
    assert set(targets.arrays) == {"rgb", "depth", "cam_to_world", "intrinsics"}
    assert (targets.arrays["depth"].attrs["units"], targets.attrs["length_unit"]) == ("1", "1")
    assert {"depth", "points", "normals", "camera", "correspondence"} <= set(choose_tasks(["all"], targets))
    row = next(clip.row for clip in targets.clips if clip.id == hash_of(1))
    read = {name: targets.read(name, row=row) for name in ("rgb", "depth", "cam_to_world", "intrinsics")}
    np.testing.assert_allclose(read["depth"], in_units(room(1, FRAMES, FINE)).depth[list(targets.clips[row].bank)])
    stored = Targets(**read, instance=None, instance_class=None)
    assert reprojected(read["depth"], stored, 1, 4, 0.05 * UNIT) > 0.9


def test_units(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As scene.json says, else dataset.json, else thousandths of the unit of the poses, which is warned of."""
    folder = write_scene(root / "1K" / SCENE)
    write_depth(folder, room().depth)
    np.testing.assert_allclose(depth_of(root), room().depth, rtol=1e-6)
    assert f"scenes {SCENE} have depth, and nothing says its unit" in caplog.text
    caplog.clear()
    say(root / "dataset.json", depth_scale=0.002)
    np.testing.assert_allclose(depth_of(root), 2 * room().depth, rtol=1e-6)
    say(folder / "scene.json", depth_scale=0.003)
    np.testing.assert_allclose(depth_of(root), 3 * room().depth, rtol=1e-6)
    say(folder / "scene.json", pose_scale=2)
    targets = targets_of(root)
    assert targets.depth is not None
    assert targets.cam_to_world is not None
    np.testing.assert_allclose(targets.depth, 2 * room().depth, rtol=1e-6)
    np.testing.assert_allclose(targets.cam_to_world[:, :3, 3], 2 * room().cam_to_world[:, :3, 3])
    np.testing.assert_allclose(targets.cam_to_world[:, :3, :3], room().cam_to_world[:, :3, :3], atol=1e-9)
    assert not caplog.text
    facts = Dl3dv(root, ALL).facts()
    assert facts["depth"]["settings"] == {"depth_scale": 0.002, "pose_scale": None}


def test_depth_is_in_the_unit_before_applied_scale(root: Path) -> None:
    """The file's positions are those of COLMAP times applied_scale, which is undone."""
    tiny = room(0, FRAMES, FINE)
    folder = write_scene(root / "1K" / SCENE, in_units(tiny, 3.0), applied_scale=3.0)
    write_depth(folder, tiny.depth, None)
    targets = targets_of(root)
    assert targets.depth is not None
    assert reprojected(targets.depth, targets, 2, 17, 0.05) > 0.9


@pytest.mark.parametrize("place", ["nerfstudio", "colmap"])
def test_beside_the_pictures_or_in_the_scene(root: Path, place: str) -> None:
    folder = root / "1K" / SCENE
    write_pictures(folder / place / "images_4", room().rgb)
    write_colmap(folder / "colmap/sparse/0", room(), names_of(FRAMES))
    write_depth(folder, room().depth + 1)
    say(folder / "scene.json", depth_scale=0.002)
    np.testing.assert_allclose(depth_of(root), 2 * room().depth + 2, rtol=1e-6)
    write_depth(folder / place, room().depth)
    np.testing.assert_allclose(depth_of(root), room().depth, rtol=1e-6)


def test_another_resolution_of_the_same_view(root: Path) -> None:
    """Nearest pixel: of 2x2 the one that lies below and right of the middle, as for `folder`."""
    fine = room(0, FRAMES, FINE)
    write_depth(write_scene(root / "1K" / SCENE), fine.depth, None)
    np.testing.assert_allclose(depth_of(root), fine.depth[:, 1::2, 1::2], rtol=1e-6)


def test_what_is_stretched_keeps_its_depth(root: Path) -> None:
    large = room(2, FRAMES, FINE)
    for n, tiny in enumerate((room(0), room(1), large)):
        write_depth(write_scene(root / "1K" / hash_of(n), tiny), tiny.depth, None)
    clips = {clip.id: clip for clip in Dl3dv(root, ALL).clips()}
    targets = clips[hash_of(2)].targets()
    assert targets.depth is not None
    assert targets.depth.shape[1:] == targets.rgb.shape[1:3] == SIZE
    np.testing.assert_allclose(targets.depth, large.depth[:, 1::2, 1::2], rtol=1e-6)


def test_what_is_no_depth(root: Path) -> None:
    depth = room().depth.copy()
    depth[0, 3, :5] = (np.nan, np.inf, -np.inf, -1, 0)
    write_depth(write_scene(root / "1K" / SCENE), depth, None)
    assert not depth_of(root)[0, 3, :5].any()


def test_a_lens_that_bends_leaves_depth_and_poses(root: Path) -> None:
    write_depth(write_scene(root / "1K" / SCENE, k1=0.02), room().depth)
    targets = targets_of(root)
    assert targets.depth is not None
    assert targets.cam_to_world is not None
    assert targets.intrinsics is None


def test_depth_without_poses(root: Path) -> None:
    write_pictures(root / "1K" / SCENE / "images_4", room().rgb)
    write_depth(root / "1K" / SCENE, room().depth)
    targets = targets_of(root)
    assert targets.depth is not None
    assert targets.cam_to_world is None


def test_scenes_without_depth_are_left_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_depth(write_scene(root / "1K" / SCENE), room().depth)
    write_scene(root / "1K" / hash_of(1), room(1), k1=0.02)
    dataset = Dl3dv(root, ALL)
    assert [clip.id for clip in dataset.clips()] == [SCENE]
    assert f"scenes {hash_of(1)} have no depth/, which others have; they are left out" in caplog.text
    assert "lens distortion" not in caplog.text
    assert dataset.clips()[0].targets().intrinsics is not None
    assert not dataset.damaged


def test_the_recipe_tells_whether_there_is_depth(root: Path) -> None:
    folder = write_scene(root / "1K" / SCENE)
    (before,) = Dl3dv(root, ALL).clips()
    digest, facts = before.digest(), Dl3dv(root, ALL).facts()
    assert (facts["targets"], "depth" in facts) == ("release", False)
    write_depth(folder, room().depth)
    digests = [digest]
    for change in (
        lambda: None,
        lambda: say(folder / "scene.json", depth_scale=0.002),
        lambda: Image.fromarray(np.ones(SIZE, np.uint16)).save(folder / "depth/frame_00007.png"),
    ):
        change()
        (clip,) = Dl3dv(root, ALL).clips()
        digests.append(clip.digest())
        assert clip.digest() == digests[-1]
    assert len(set(digests)) == 4
    assert Dl3dv(root, ALL).facts() != facts


@pytest.mark.parametrize("deep", [0, 1])
def test_labels_of_a_network_and_depth_are_refused(root: Path, deep: int) -> None:
    """Whether one scene has both, or each has one: neither goes before the other."""
    folders = [write_scene(root / "1K" / hash_of(n), room(n)) for n in range(2)]
    write_labels(root, "1K", SCENE, label_arrays())
    write_depth(folders[deep], room(deep).depth)
    with pytest.raises(DataError, match=rf"1 scenes \({SCENE}\).*{hash_of(deep)}.*of one kind. Remedy: move"):
        Dl3dv(root, ALL)
    (root / "excluded.txt").write_text(hash_of(deep))
    (clip,) = Dl3dv(root, Sampling(window="run", frames=8, bank=3)).clips()
    assert (clip.id, clip.labels is None) == (hash_of(1 - deep), deep == 0)


def test_a_network_does_not_label_what_has_depth(root: Path, tmp_path: Path) -> None:
    write_depth(write_scene(root / "1K" / SCENE), room().depth)
    command = ["label", "--dataset", "dl3dv", "--root", str(root), "--device", "cpu"]
    command += ["--with", "tests.extract.dl3dv.fake_labeller:Fake"]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, ExtractError)
    assert f"beside the pictures of scenes {SCENE}" in str(result.exception)
    assert not (root / "DL3DV-processed").exists()
    assert CliRunner().invoke(app, [*command, "--out", str(tmp_path / "labels")]).exit_code == 0
    assert (tmp_path / f"labels/1K/{SCENE}.sft").is_file()
