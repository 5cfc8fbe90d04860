"""Every way in which a release can be wrong: refused by name, with what to do; one bad file spoils no other clip."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from extract.datasets._pictures import nearest
from extract.datasets.hypersim import Hypersim
from extract.datasets.hypersim_files.arrays import read_array
from extract.datasets.hypersim_files.clip import HypersimClip
from extract.datasets.sampling import Sampling
from extract.errors import DataError
from tests.extract.hypersim.tiny_interiors import camera_rows, encoded, hdf5, image_rows, opengl, views, write_table

FEW = Sampling(frames=3, window="whole", bank=2)
IMAGES, CAMERAS = "metadata_images_split_scene_v1.csv", "metadata_camera_parameters.csv"
SCENE = "ai_002_001"
FILES = {
    "tonemap.jpg": "images/scene_cam_00_final_preview/frame.0000.tonemap.jpg",
    **{
        f"{what}.hdf5": f"images/scene_cam_00_geometry_hdf5/frame.0000.{what}.hdf5"
        for what in ("depth_meters", "semantic", "semantic_instance")
    },
    "orientations": "_detail/cam_00/camera_keyframe_orientations.hdf5",
    "positions": "_detail/cam_00/camera_keyframe_positions.hdf5",
    "scene": "_detail/metadata_scene.csv",
}


def clip_of(root: Path) -> HypersimClip:
    (clip,) = (clip for clip in Hypersim(root, FEW).clips() if clip.scene == SCENE)
    return clip


def put(root: Path, name: str, content: bytes | None) -> None:
    """Another content for a file of the scene; `None` takes it away."""
    path = root / SCENE / FILES[name]
    path.unlink()
    if content is not None:
        path.write_bytes(content)


def refused(name: str, message: str) -> Any:
    """A `DataError` that names the file (which names scene and camera) and says what to do."""
    return pytest.raises(DataError, match=rf"(?s){SCENE}/{re.escape(FILES[name])}.*{message}.*Remedy: unpack")


@pytest.mark.parametrize("name", FILES)
def test_missing_and_empty_files(root: Path, name: str) -> None:
    clip = clip_of(root)
    put(root, name, None)
    with refused(name, "missing"):
        clip.targets()
    with refused(name, "missing"):
        clip.digest()
    (root / SCENE / FILES[name]).write_bytes(b"")
    with refused(name, ""):
        clip.targets()
    assert clip_of(root).frames([1]).shape == (1, 768, 1024, 3)


@pytest.mark.parametrize("name", FILES)
def test_truncated_files(root: Path, name: str) -> None:
    clip, whole = clip_of(root), (root / SCENE / FILES[name]).read_bytes()
    for part in (0.1, 0.5, 0.9):
        put(root, name, whole[: int(len(whole) * part)])
        with refused(name, ""):
            clip.targets()
    put(root, name, whole)
    clip.targets()


@pytest.mark.parametrize(("size", "mode"), [((512, 384), "RGB"), ((768, 1024), "RGB"), ((1024, 768), "L")])
def test_images_of_another_size(root: Path, size: tuple[int, int], mode: str) -> None:
    stream = BytesIO()
    Image.new(mode, size).save(stream, "JPEG")
    clip = clip_of(root)
    put(root, "tonemap.jpg", stream.getvalue())
    with refused("tonemap.jpg", f"{size[0]}x{size[1]} pixels, mode {mode}; expected 1024x768, mode RGB"):
        clip.frames([0])


def changed(name: str, change: Callable[[NDArray[Any]], object]) -> bytes:
    """A view's depth or labels after a change in place."""
    view = views(SCENE)[0]
    values = {"depth_meters.hdf5": view.distance, "semantic.hdf5": view.semantic}.get(name, view.instance).copy()
    change(values)
    return hdf5(values, compression="gzip", compression_opts=1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("depth_meters.hdf5", hdf5(np.zeros((384, 512), np.float16)), r"\(384, 512\) values of float16; expected 768"),
        ("depth_meters.hdf5", hdf5(np.zeros((768, 1024), np.int16)), "of int16; expected 768 x 1024 of <f2 or <f4"),
        ("semantic.hdf5", hdf5(np.zeros((768, 1024), np.float16)), "of float16; expected"),
        ("semantic_instance.hdf5", hdf5(np.zeros((768, 1024, 1), np.int16)), r"\(768, 1024, 1\)"),
        ("positions", hdf5(np.zeros((22, 2))), r"\(22, 2\) values of float64; expected any x 3"),
        ("orientations", hdf5(np.zeros((22, 9))), r"\(22, 9\)"),
        ("orientations", hdf5(np.zeros((22, 3, 3))), "no rigid motion"),
        ("orientations", hdf5(np.tile(np.diag([1.0, 1, -1]), (22, 1, 1))), "no rigid motion"),
    ],
)
def test_arrays_that_are_no_such(root: Path, name: str, content: bytes, message: str) -> None:
    clip = clip_of(root)
    put(root, name, content)
    with pytest.raises(DataError, match=rf"(?s){SCENE}/{re.escape(FILES[name])}.*{message}.*Remedy"):
        clip.targets()


def test_fewer_poses_than_images(root: Path) -> None:
    clip = clip_of(root)
    put(root, "positions", hdf5(np.zeros((21, 3))))
    with refused("positions", "21 positions and 22 orientations; there are images up to number 21"):
        clip.targets()
    put(root, "orientations", hdf5(np.tile(opengl(views(SCENE)[0].pose), (21, 1, 1))))
    with refused("positions", "21 positions and 21 orientations"):
        clip.targets()


def test_a_pose_that_is_not_finite_is_unknown(root: Path) -> None:
    positions = np.zeros((22, 3))
    positions[0] = np.nan
    put(root, "positions", hdf5(positions))
    poses = clip_of(root).targets().cam_to_world
    assert poses is not None
    assert [pose.any() for pose in poses] == [False, True]


def _set(values: NDArray[Any], value: int) -> None:
    values[300:320, 300:320] = value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("semantic.hdf5", 41, r"classes \[41\]"),
        ("semantic.hdf5", 0, r"classes \[0\]"),
        ("semantic.hdf5", -2, r"classes \[-2\]"),
        ("semantic_instance.hdf5", -2, "instances from -2"),
        ("semantic_instance.hdf5", 8192, "instances from -1 to 8192"),
    ],
)
def test_ids_that_there_are_not(root: Path, name: str, value: int, message: str) -> None:
    clip = clip_of(root)
    put(root, name, changed(name, lambda values: _set(values, value)))
    with refused("semantic_instance.hdf5", message):
        clip.targets()


@pytest.mark.parametrize("frame", [0, 21])
@pytest.mark.parametrize("other", [6, -1])
def test_an_instance_of_two_classes_has_that_of_most_pixels(root: Path, frame: int, other: int) -> None:
    """As 64 of the release's have, of which 59 are labelled in part. In one image, or in two."""
    view = views(SCENE)[frame % 4]
    right = Hypersim(root, FEW).clips()[0].targets().instance_class
    assert right is not None
    semantic = np.where(view.instance == 7, other, view.semantic).astype(np.int16)
    if frame == 0:
        semantic[:, ::2] = view.semantic[:, ::2]
    clip = clip_of(root)
    path = root / SCENE / f"images/scene_cam_00_geometry_hdf5/frame.{frame:04d}.semantic.hdf5"
    assert (view.instance == 7).any()
    path.unlink()
    path.write_bytes(hdf5(semantic, compression="gzip", compression_opts=1))
    targets = clip.targets()
    assert targets.instance is not None
    assert targets.instance_class is not None
    shown = {int(value): int(count) for value, count in zip(*_votes(clip, 7), strict=True) if value > 0}
    assert targets.instance_class[41 + 7] == max(shown, key=lambda label: shown[label])
    if other == -1:
        np.testing.assert_array_equal(targets.instance_class, right)


def _votes(clip: HypersimClip, instance: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes of the pixels of an instance at the bank, as the files have them, and how many have each."""
    seen = []
    for frame in (clip.chosen[index] for index in clip.bank):
        semantic, ids = (
            nearest(read_array(clip.parts.geometry(kind, frame), (768, 1024), ("<i2",)), (480, 640))
            for kind in ("semantic", "semantic_instance")
        )
        seen.append(semantic[ids == instance])
    return np.unique(np.concatenate(seen), return_counts=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameter_name,parameter_value\n", "has no number meters_per_asset_unit"),
        ("parameter_name,parameter_value\nmeters_per_asset_unit,inch\n", "has no number meters_per_asset_unit"),
        ("parameter_name,parameter_value\nmeters_per_asset_unit,0\n", "meters_per_asset_unit is 0"),
        ("parameter_name,parameter_value\nmeters_per_asset_unit,nan\n", "meters_per_asset_unit is nan"),
        ("parameter_name,parameter_value\nmeters_per_asset_unit\n", "line 2 has 1 cells, the first 2"),
        ("name,value\nmeters_per_asset_unit,1\n", "has no column parameter_name"),
        ("\udcff", "cannot be read"),
    ],
)
def test_faults_of_the_scale(root: Path, text: str, message: str) -> None:
    put(root, "scene", text.encode(errors="surrogateescape"))
    with refused("scene", message):
        clip_of(root).targets()


Rows = list[list[str]]


def _cell(rows: Rows, line: int, column: str, value: str) -> None:
    rows[line][rows[0].index(column)] = value


TABLES: list[tuple[str, Callable[[Rows], object], str]] = [
    (IMAGES, lambda rows: rows.clear(), "has no column scene_name"),
    (IMAGES, lambda rows: _cell(rows, 0, "frame_id", "frame"), "has no column frame_id"),
    (IMAGES, lambda rows: rows[5].pop(), "line 6 has 5 cells, the first 6"),
    (IMAGES, lambda rows: _cell(rows, 1, "scene_name", "../ai_001_001"), "line 2 names the image"),
    (IMAGES, lambda rows: _cell(rows, 1, "camera_name", "cam_00/.."), "line 2 names the image"),
    (IMAGES, lambda rows: _cell(rows, 1, "frame_id", "-1"), "line 2 names the image"),
    (IMAGES, lambda rows: _cell(rows, 1, "frame_id", "1"), "names an image of ai_001_001, cam_00 twice"),
    (IMAGES, lambda rows: _cell(rows, 1, "split_partition_name", ""), "line 2 has ai_001_001 in ''"),
    (IMAGES, lambda rows: _cell(rows, 40, "split_partition_name", "val"), "has ai_001_001 in 'val', others in 'train'"),
    (CAMERAS, lambda rows: rows.clear(), "has no column scene_name"),
    (CAMERAS, lambda rows: rows.append(rows[1]), "line 6: ai_001_001 has images .* or is listed twice"),
    (CAMERAS, lambda rows: _cell(rows, 2, "settings_output_img_width", "512.0"), "line 3: .*images of 512 x 768"),
    (CAMERAS, lambda rows: _cell(rows, 2, "M_cam_from_uv_11", ""), "line 3: could not convert"),
    (CAMERAS, lambda rows: _cell(rows, 2, "M_cam_from_uv_11", "nan"), "line 3: no camera"),
    (CAMERAS, lambda rows: _cell(rows, 2, "M_cam_from_uv_22", "1"), "line 3: no camera"),
]


@pytest.mark.parametrize(("table", "change", "message"), TABLES)
def test_faults_of_the_tables(root: Path, table: str, change: Callable[[Rows], object], message: str) -> None:
    rows = image_rows() if table == IMAGES else camera_rows()
    change(rows)
    (root / table).unlink()
    write_table(root / table, rows)
    with pytest.raises(DataError, match=rf"(?s){table}: .*{message}.*Remedy: take the file anew"):
        Hypersim(root)


def test_a_scene_without_camera(root: Path) -> None:
    (root / CAMERAS).unlink()
    write_table(root / CAMERAS, [row for row in camera_rows() if row[0] != SCENE])
    with pytest.raises(DataError, match=rf"{CAMERAS}: has no line for {SCENE}\. Remedy: take both tables"):
        Hypersim(root)


@pytest.mark.parametrize("table", [IMAGES, CAMERAS])
def test_tables_that_are_no_text(root: Path, table: str) -> None:
    (root / table).unlink()
    (root / table).write_bytes(encoded(SCENE, 0)["tonemap.jpg"])
    with pytest.raises(DataError, match=rf"{table}: cannot be read .*Remedy"):
        Hypersim(root)


@pytest.mark.parametrize("value", ["inf", "nan", "1e308", "1e200", "0"])
def test_numbers_of_no_camera_are_refused_without_a_warning(root: Path, value: str) -> None:
    rows = camera_rows()
    place = rows[0].index("M_cam_from_uv_00")
    table = [rows[0], *([*row[:place], value, *row[place + 1 :]] for row in rows[1:])]
    (root / CAMERAS).unlink()
    write_table(root / CAMERAS, table)
    with pytest.raises(DataError, match=rf"{CAMERAS}: line 2: no camera maps u, v to rays"):
        Hypersim(root)
