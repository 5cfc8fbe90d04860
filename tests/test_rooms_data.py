"""The shipped `rooms` dataset is whole, consistent in space, and says of itself what is true."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extract.datasets import rooms_render
from extract.datasets.roomgen import camera, card, catalog, encode, layout, measure, stored, views
from extract.datasets.roomgen.errors import RoomError
from extract.datasets.roomgen.geometry import Placement, facing, touch

ROOMS = rooms_render.HERE
INDEX = stored.read_index(ROOMS)
STORED = list(stored.read_rooms(ROOMS))
SOME = STORED[:: max(len(STORED) // 6, 1)]
IDS = [room.info["id"] for room in SOME]


def by_split(split: str) -> list[stored.StoredRoom]:
    return [room for room in STORED if room.info["split"] == split]


def test_digests_match() -> None:
    for entry in INDEX["rooms"]:
        assert encode.digest(ROOMS / entry["id"]) == entry["sha256"], entry["id"]


def test_index_and_rooms_agree() -> None:
    assert len({entry["id"] for entry in INDEX["rooms"]}) == len(INDEX["rooms"]) >= 40
    for entry, room in zip(INDEX["rooms"], STORED, strict=True):
        assert {k: room.info[k] for k in ("id", "split", "type", "n_frames")} == {
            k: entry[k] for k in ("id", "split", "type", "n_frames")
        }
        assert room.info["image_size"] == INDEX["image_size"]
        assert len(room.info["cam_to_world"]) == room.info["n_frames"]
        for kind, ending in (("rgb", "jpg"), ("depth", "png"), ("instance", "png")):
            names = sorted(path.name for path in (room.folder / kind).iterdir())
            assert names == [f"{n:04d}.{ending}" for n in range(room.info["n_frames"])]


def test_classes_are_those_of_the_generator() -> None:
    assert tuple(c["name"] for c in INDEX["classes"]) == catalog.CLASSES
    assert {c["name"] for c in INDEX["classes"] if c["kind"] == "stuff"} == set(catalog.STUFF)


def test_splits_hold_every_type_and_every_class() -> None:
    assert len(by_split("test")) >= 8
    assert len(by_split("val")) >= 4
    for split in ("train", "test"):
        assert {room.info["type"] for room in by_split(split)} == set(layout.TYPES)
        assert {tag for room in by_split(split) for tag in room.info["tags"]} == set(catalog.CLASSES)


@pytest.mark.parametrize("room", SOME, ids=IDS)
def test_images(room: stored.StoredRoom) -> None:
    width, height = INDEX["image_size"]
    known = {item["id"] for item in room.info["instances"]}
    for n in range(0, room.info["n_frames"], 5):
        with Image.open(room.folder / f"rgb/{n:04d}.jpg") as image:
            rgb = np.asarray(image)
        with Image.open(room.folder / f"depth/{n:04d}.png") as image:
            depth = np.asarray(image)
        with Image.open(room.folder / f"instance/{n:04d}.png") as image:
            ident = np.asarray(image)
        assert rgb.shape == (height, width, 3)
        assert rgb.dtype == np.uint8
        assert 40 < rgb.mean() < 215
        assert rgb.std() > 12
        assert depth.shape == ident.shape == (height, width)
        assert depth.dtype == np.uint16
        assert 100 < depth.min() <= depth.max() < 12000
        assert set(np.unique(ident)) <= known


@pytest.mark.parametrize("room", STORED, ids=[room.info["id"] for room in STORED])
def test_cameras(room: stored.StoredRoom) -> None:
    poses, k = room.poses, room.intrinsics
    turn, at = poses[:, :3, :3], poses[:, :3, 3]
    np.testing.assert_allclose(turn @ turn.transpose(0, 2, 1), np.tile(np.eye(3), (len(poses), 1, 1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(turn), 1, atol=1e-6)
    np.testing.assert_array_equal(poses[:, 3], np.tile([0, 0, 0, 1], (len(poses), 1)))
    assert (at > 0.25).all()
    assert (at < np.asarray(room.info["size_m"]) - 0.15).all()
    # y of an OpenCV camera points down: its world z is negative unless the camera is upside down
    assert (turn[:, 2, 1] < 0).all()
    width, height = room.info["image_size"]
    assert k[0, 2] == width / 2
    assert k[1, 2] == height / 2
    assert 50 <= np.degrees(2 * np.arctan(width / 2 / k[0, 0])) <= 85


@pytest.mark.parametrize("room", SOME, ids=IDS)
def test_depth_pose_and_instances_agree_between_frames(room: stored.StoredRoom) -> None:
    error, same = measure._agreement(room, room.depth, room.instance)
    assert np.median(error) < 0.005
    assert same.mean() > 0.97


@pytest.mark.parametrize("room", SOME[:2], ids=IDS[:2])
def test_points_lie_inside_the_room(room: stored.StoredRoom) -> None:
    width, height = room.info["image_size"]
    ray = views.rays(room.intrinsics, width, height)
    points = (room.depth[0][..., None] * ray) @ room.poses[0][:3, :3].T + room.poses[0][:3, 3]
    # window panes stand back in the wall
    assert (points > -0.2).all()
    assert (points < np.asarray(room.info["size_m"]) + 0.2).all()


def test_position_alone_says_little_about_depth() -> None:
    baseline = measure.PositionBaseline(products=False)
    for room in STORED:
        depth = []
        # a few frames say as much in less time
        for n in range(0, room.info["n_frames"], 7):
            with Image.open(room.folder / f"depth/{n:04d}.png") as image:
                depth.append(np.asarray(image) * INDEX["depth_scale"])
        baseline.add(room.info["split"], np.stack(depth))
    assert baseline.r2()["test"] < 0.35


def test_counts_of_instances_are_true() -> None:
    room = SOME[-1]
    ident = room.instance
    for item in room.info["instances"]:
        assert (ident == item["id"]).sum() == item["pixels"]
        assert (ident == item["id"]).any((1, 2)).sum() == item["frames"]


def test_statistics_and_card_are_current() -> None:
    numbers = json.loads((ROOMS / "statistics.json").read_text(encoding="utf-8"))
    assert sum(numbers["rooms"].values()) == len(STORED)
    assert numbers["frames"] == sum(room.info["n_frames"] for room in STORED)
    assert numbers["depth_missing"] == 0
    assert numbers["unknown_ids"] == 0
    assert numbers["shared_pixels_of_4_random_views"]["all"]["p50"] >= 0.4
    assert (ROOMS / "README.md").read_text(encoding="utf-8") == card.render(ROOMS, numbers)


def test_size() -> None:
    assert sum(path.stat().st_size for path in ROOMS.rglob("*") if path.is_file()) < 45e6


def test_rooms_are_where_the_generator_puts_them() -> None:
    for stored_room in SOME:
        seed, number = stored_room.info["seed"]
        room = layout.make_room(number, seed)
        assert (room.name, room.type, room.split) == tuple(stored_room.info[k] for k in ("id", "type", "split"))
        np.testing.assert_allclose(room.size, stored_room.info["size_m"], atol=1e-3)
        shown = {item["class"] for item in stored_room.info["instances"]}
        assert shown <= room.classes | {"wall", "floor", "ceiling"}


def test_the_same_seed_gives_the_same_room() -> None:
    assert layout.make_room(3, 7) == layout.make_room(3, 7)
    assert layout.make_room(3, 7) != layout.make_room(3, 8)


@pytest.mark.parametrize("number", range(0, 48, 8))
def test_furniture_stands_inside_and_apart(number: int) -> None:
    room = layout.make_room(number, layout.SEED)
    solid = [item for item in room.items if item.solid]
    for n, item in enumerate(solid):
        assert (item.corners() > -1e-6).all()
        assert (item.corners() < np.asarray(room.size[:2]) + 1e-6).all()
        for other in solid[n + 1 :]:
            # what sits on a sofa or bed is inside its bounding box
            assert "teddyBear" in (item.model, other.model) or not touch(item, other, -0.002)


def test_touch_and_facing() -> None:
    one = Placement("a", "table", 0.0, 0.0, 0.0, 0.0, (1.0, 1.0, 1.0))
    assert touch(one, Placement("b", "table", 1.1, 0.0, 0.0, 45.0, (1.0, 1.0, 1.0)))
    assert not touch(one, Placement("b", "table", 1.3, 0.0, 0.0, 45.0, (1.0, 1.0, 1.0)))
    assert not touch(one, Placement("b", "lamp", 0.0, 0.0, 1.0, 0.0, (1.0, 1.0, 1.0)))
    assert one.distance(1.5, 0.0) == 1
    assert facing(0.0, 0.0, 0.0, -1.0) == 0
    assert facing(0.0, 0.0, 1.0, 0.0) == 90


def test_pose_is_opencv() -> None:
    level = camera.pose(np.array([1.0, 2.0, 3.0]), yaw=90.0, pitch=0.0, roll=0.0)
    np.testing.assert_allclose(level[:3, :3] @ [0, 0, 1], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(level[:3, :3] @ [1, 0, 0], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(level[:3, :3] @ [0, 1, 0], [0, 0, -1], atol=1e-12)
    assert camera.pose(np.zeros(3), 0.0, 30.0, 0.0)[2, 2] == pytest.approx(0.5)


def test_shared_pixels_of_a_plane() -> None:
    k = views.intrinsics(90.0, 64, 64)
    depth = np.full((2, 64, 64), 2.0)
    poses = np.stack([np.eye(4), np.eye(4)])
    assert views.co_visible(depth, poses, k, np.array([0, 1])) == [1.0, 1.0]
    # a quarter of the 4 m that a view spans
    poses[1, 0, 3] = 1.0
    assert views.co_visible(depth, poses, k, np.array([0, 1])) == [0.75, 0.75]
    poses[1, 2, 3] = 1.0
    assert views.co_visible(depth, poses, k, np.array([0, 1])) == [0.0, 0.0]


def test_depth_is_rounded_as_the_card_says() -> None:
    metres = np.linspace(0.2, 9, 10001).astype(np.float32)
    error = np.abs(encode.round_depth(metres) * encode.DEPTH_SCALE - metres)
    assert (error <= np.maximum(0.000501, 0.000502 * metres)).all()
    assert encode.round_depth(np.zeros(1, np.float32))[0] == 0


def test_models_are_named_sourced_and_of_known_classes() -> None:
    for model in catalog.models().values():
        assert model.cls in catalog.CLASSES
        assert min(model.width, model.depth, model.height) > 0
        if model.path:
            assert model.source.startswith("https://www.blendswap.com/")
    assert all(catalog.by_class(cls) for cls in catalog.THINGS)


def test_messages_say_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RoomError, match="apt-get install sweethome3d-furniture"):
        catalog.open_pack(tmp_path / "none.sh3f")
    monkeypatch.setitem(sys.modules, "bpy", None)
    assert rooms_render.main(["make", str(tmp_path / "out")]) == 1
    assert "pip install 'bpy==4.5.*'" in capsys.readouterr().err
    assert rooms_render.main(["measure", str(tmp_path)]) == 1
    assert "rooms.json" in capsys.readouterr().err
