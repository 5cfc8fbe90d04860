"""Exporting rooms that are not the shipped ones, and every way in which an export can be refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from extract.datasets import rooms_render
from extract.datasets.roomgen import as_scannet, produce, sens
from extract.datasets.roomgen.errors import RoomError
from tests.extract.sens_reader import picture, read_sens, scan

ROOMS = rooms_render.HERE


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    """Two rooms that a test may change."""
    root = tmp_path / "rooms"
    for name in ("room_000", "room_007"):
        shutil.copytree(ROOMS / name, root / name)
    produce.write_index(root)
    return root


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_other_rooms_and_all_of_them(rooms: Path, tmp_path: Path) -> None:
    assert rooms_render.main(["export", str(tmp_path / "out"), "--as", "scannet", "--from", str(rooms)]) == 0
    assert sorted(path.name for path in (tmp_path / "out/scans").iterdir()) == ["scene0000_00", "scene0007_00"]
    assert (tmp_path / "out/scannetv2_val.txt").read_text() == "scene0007_00\n"


def test_depth_is_rounded_to_millimetres(rooms: Path, tmp_path: Path) -> None:
    edit(rooms / "rooms.json", '"depth_scale": 0.001', '"depth_scale": 0.0003')
    as_scannet.export(rooms, tmp_path / "out", [0])
    depth = read_sens(scan(tmp_path / "out", 0, ".sens")).depth
    stored = np.stack([picture(path) for path in sorted((rooms / "room_000").glob("depth/*.png"))])
    assert np.abs(depth - stored * 0.3).max() <= 0.5 + 1e-9
    assert np.abs(depth - stored * 0.3).mean() > 0.1


def test_more_objects_than_eight_bits_hold(rooms: Path, tmp_path: Path) -> None:
    path = rooms / "room_000/room.json"
    content = json.loads(path.read_text())
    last = content["instances"][-1]
    was, last["id"] = last["id"], 300
    path.write_text(json.dumps(content))
    for image in (rooms / "room_000/instance").iterdir():
        values = picture(image).astype(np.uint16)
        Image.fromarray(np.where(values == was, 300, values).astype(np.uint16)).save(image)
    produce.write_index(rooms)
    as_scannet.export(rooms, tmp_path / "out", [0])
    with zipfile.ZipFile(scan(tmp_path / "out", 0, "_2d-instance-filt.zip")) as archive:
        images = [np.asarray(Image.open(BytesIO(archive.read(name)))) for name in archive.namelist()]
    assert {image.dtype for image in images} == {np.dtype(np.uint16)}
    assert max(image.max() for image in images) == 300
    groups = json.loads(scan(tmp_path / "out", 0, ".aggregation.json").read_text())["segGroups"]
    assert groups[-1]["objectId"] == 299


def test_depth_of_another_size_has_intrinsics_of_its_own(tmp_path: Path) -> None:
    k = np.array([[200.0, 0, 130], [0, 100, 60], [0, 0, 1]])
    frame = sens.SensFrame(b"\xff\xd8\xff\xd9", np.full((60, 64), 1234, np.uint16), np.eye(4))
    sens.write_sens(tmp_path / "a.sens", [frame, frame], k, (120, 256), "none")
    recording = read_sens(tmp_path / "a.sens")
    assert (recording.colour_size, recording.depth_size) == ((256, 120), (64, 60))
    np.testing.assert_allclose(recording.matrices[0][:2, :3], np.array([[200, 0, 129.5], [0, 100, 59.5]]))
    np.testing.assert_allclose(recording.matrices[2][:2, :3], np.array([[50, 0, 32], [0, 50, 29.5]]))
    assert recording.depth.shape == (2, 60, 64)
    assert (recording.depth == 1234).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda root: (root / "room_000/rgb/0003.jpg").write_bytes(b"\xff\xd8\xff\xd9"), "not those that rooms.json"),
        (lambda root: shutil.rmtree(root / "room_007"), "room_007: its files are not those that rooms.json"),
        (lambda root: edit(root / "rooms.json", '"room_007"', '"other"'), "'other' does not end in a number"),
        (
            lambda root: edit(root / "rooms.json", '"room_007"', '"x_000"'),
            "'x_000' does not end in a number of its own",
        ),
        (
            lambda root: edit(root / "rooms.json", '"room_007"', '"room_10007"'),
            "'room_10007' does not end in a number of its own",
        ),
        (lambda root: edit(root / "rooms.json", '"depth_scale": 0.001', '"depth_scale": 0.1'), "end at 65.535 m"),
        (lambda root: (root / "rooms.json").write_text("{"), "rooms.json: cannot be read .*\n  remedy"),
        (lambda root: edit(root / "rooms.json", '"sha256"', '"md5"'), "a room is not as .*\n  remedy"),
        (lambda root: edit(root / "rooms.json", '"room_007"', '"../room_007"'), "a room is not as"),
        (lambda root: edit(root / "rooms.json", '"depth_scale": 0.001', '"depth_scale": "x"'), "cannot be read"),
    ],
    ids=[
        "damaged",
        "missing",
        "without a number",
        "twice",
        "too long a number",
        "too deep",
        "no JSON",
        "no digest",
        "elsewhere",
        "no scale",
    ],
)
def test_faults_are_named(rooms: Path, tmp_path: Path, change: Any, says: str) -> None:
    change(rooms)
    with pytest.raises(RoomError, match=says):
        as_scannet.export(rooms, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"class": "piano"', '"class": "anvil"', "label of the class anvil"),
        ('"id": 3,', '"id": 200,', r"instance ids \[3\] are not listed"),
    ],
)
def test_rooms_that_contradict_themselves(rooms: Path, tmp_path: Path, old: str, new: str, says: str) -> None:
    edit(rooms / "room_000/room.json", old, new)
    produce.write_index(rooms)
    with pytest.raises(RoomError, match=says):
        as_scannet.export(rooms, tmp_path / "out")


def test_messages_say_the_remedy(rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rooms_render.main(["export", str(rooms), "--as", "scannet"]) == 1
    assert "remedy: give a new folder" in capsys.readouterr().err
    out = str(tmp_path / "out")
    assert rooms_render.main(["export", out, "--as", "scannet", "--from", str(rooms), "--rooms", "0-2"]) == 1
    assert "there is no room 1, 2\n  remedy: choose among 0, 7" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        rooms_render.main(["export", out, "--as", "kitti"])
    with pytest.raises(SystemExit):
        rooms_render.main(["export", out])
