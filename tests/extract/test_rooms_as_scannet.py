"""Rooms exported as ScanNet and read as ScanNet are the rooms: two codes that know only the format agree."""

from __future__ import annotations

import json
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from extract.datasets import rooms_render
from extract.datasets.base import Targets
from extract.datasets.roomgen import as_scannet, produce
from extract.datasets.rooms import Rooms
from extract.datasets.sampling import Sampling
from extract.datasets.scannet import ScanNet, ScanNet200
from store import FeatureStore, resolve
from tests.extract.test_command import extract

ROOMS = rooms_render.HERE
NAMES = ("room_000", "room_007")  # of train and of test
SCENES = ("scene0000_00", "scene0007_00")
COLOUR = (1296, 968)  # width and height of ScanNet's colour, which its reader gives all frames
TARGET = (640, 480)
WHOLE = Sampling(frames=20, window="whole", bank=20)
SAME_CLIPS = ("--clip-frames", "20", "--clip-window", "whole", "--bank", "20")
BENCHMARK = {
    "wall": "wall", "floor": "floor", "cabinet": "cabinet", "bed": "bed", "chair": "chair", "armchair": "chair",
    "sofa": "sofa", "table": "table", "door": "door", "window": "window", "picture": "picture", "desk": "desk",
    "curtain": "curtain", "refrigerator": "refrigerator", "toilet": "toilet", "sink": "sink", "bath": "bathtub",
    "piano": "otherfurniture", "game table": "otherfurniture", "radiator": "otherfurniture", "bin": "otherfurniture",
}  # fmt: skip
"""Classes of the rooms in the benchmark of 20; the others are in none of its classes."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shipped rooms as they are, exported."""
    out = tmp_path_factory.mktemp("small") / "scannet"
    as_scannet.export(ROOMS, out, [0, 7])
    return out


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same rooms in ScanNet's size, and their export: the reader does not stretch these."""
    root = tmp_path_factory.mktemp("large")
    for name in NAMES:
        enlarge(ROOMS / name, root / "rooms" / name)
    produce.write_index(root / "rooms")
    index = json.loads((root / "rooms/rooms.json").read_text())
    (root / "rooms/rooms.json").write_text(json.dumps(index | {"image_size": COLOUR[::-1]}))
    as_scannet.export(root / "rooms", root / "scannet")
    return root / "rooms", root / "scannet"


def enlarge(room: Path, out: Path) -> None:
    shutil.copytree(room, out)
    for path in out.rglob("*.*"):
        if path.suffix != ".json":
            smooth = Image.Resampling.BICUBIC if path.suffix == ".jpg" else Image.Resampling.NEAREST
            content = BytesIO(path.read_bytes())
            with Image.open(content) as image:
                image.resize(COLOUR, smooth).save(path)
    info = json.loads((out / "room.json").read_text())
    scale = np.diag([COLOUR[0] / 256, COLOUR[1] / 256, 1])
    info["intrinsics"] = (scale @ np.array(info["intrinsics"])).tolist()
    info["image_size"] = COLOUR[::-1]
    (out / "room.json").write_text(json.dumps(info))


def seen_by_rays(rooms: Targets, scannet: Targets, frame: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Which pixel of a room's picture the ray of each of ScanNet's target pixels meets, (row, column) x y x x.

    Also whether that is beyond doubt: the ray passes no edge between pixels.
    """
    assert rooms.intrinsics is not None
    assert scannet.intrinsics is not None
    x, y = np.meshgrid(np.arange(TARGET[0]) + 0.5, np.arange(TARGET[1]) + 0.5)
    rays = np.linalg.inv(scannet.intrinsics[frame]) @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    u, v, _ = (rooms.intrinsics[frame] @ rays).reshape(3, *x.shape)
    place = np.stack([v, u])
    clear = (np.abs(place - np.round(place)) > 1e-3).all(0)
    return np.floor(place).astype(np.intp), clear


def assert_same(rooms: Targets, scannet: Targets) -> None:
    """Up to millimetres, float32 and the size of ScanNet's targets."""
    for targets in (rooms, scannet):
        assert targets.depth is not None
        assert targets.instance is not None
        assert targets.cam_to_world is not None
        assert targets.intrinsics is not None
        assert len(targets.depth) == len(targets.instance) == 20
    assert rooms.depth is not None  # once more, for mypy
    assert scannet.depth is not None
    assert rooms.instance is not None
    assert scannet.instance is not None
    assert rooms.cam_to_world is not None
    assert scannet.cam_to_world is not None
    assert rooms.intrinsics is not None
    assert scannet.intrinsics is not None
    np.testing.assert_array_equal(scannet.cam_to_world, rooms.cam_to_world.astype(np.float32))
    height, width = rooms.depth.shape[1:]
    scale = np.diag([TARGET[0] / width, TARGET[1] / height, 1])
    np.testing.assert_allclose(scannet.intrinsics, scale @ rooms.intrinsics, rtol=1e-6)
    for frame in range(20):
        (row, column), clear = seen_by_rays(rooms, scannet, frame)
        assert clear.mean() > 0.5
        there = row[clear], column[clear]
        np.testing.assert_array_equal(scannet.instance[frame][clear], rooms.instance[frame][there])
        np.testing.assert_allclose(scannet.depth[frame][clear], rooms.depth[frame][there], rtol=1e-6)


def named(classes: NDArray[np.uint8], names: list[str]) -> dict[int, str]:
    return {instance: names[k - 1] for instance, k in enumerate(classes.tolist()) if k}


def test_targets_of_the_shipped_rooms(small: Path) -> None:
    of_rooms = {clip.id: clip for clip in Rooms().clips()}
    clips = ScanNet(small, WHOLE).clips()
    assert tuple(clip.id for clip in clips) == SCENES
    assert [clip.split for clip in clips][1] == "test"
    for clip, name in zip(clips, NAMES, strict=True):
        room = of_rooms[name]
        assert (clip.n_frames, clip.bank) == (room.n_frames, room.bank)
        assert_same(room.targets(), clip.targets())


def test_frames_of_the_shipped_rooms_are_only_stretched(small: Path) -> None:
    room, clip = Rooms().clips()[7], ScanNet(small, WHOLE).clips()[1]
    for ours, theirs in zip(room.frames([0, 19]), clip.frames([0, 19]), strict=True):
        stretched = Image.fromarray(ours).resize(COLOUR, Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(theirs, np.asarray(stretched))


def test_classes_are_those_that_the_label_map_says(small: Path) -> None:
    rooms = Rooms()
    labels = as_scannet.read_labels()
    for dataset, wanted in (
        (ScanNet(small, WHOLE), BENCHMARK),
        (ScanNet200(small, WHOLE), {name: label["raw_category"] for name, label in labels.items()}),
    ):
        names = [info.name for info in dataset.classes]
        mapped = {name: label for name, label in wanted.items() if label in names}
        assert len(mapped) >= len(BENCHMARK)
        for clip, name in zip(dataset.clips(), NAMES, strict=True):
            listed = json.loads((rooms.root / name / "room.json").read_text())["instances"]
            found = clip.targets().instance_class
            assert found is not None
            expected = {item["id"]: mapped[item["class"]] for item in listed if item["class"] in mapped}
            assert named(found, names) == expected
            assert len(set(expected.values())) > 3


def targets_of(store: FeatureStore, row: int) -> Targets:
    names = ("rgb", "depth", "instance", "instance_class", "cam_to_world", "intrinsics")
    return Targets(**{name: store.read(name, row) for name in names})


def test_features_and_targets_through_the_command_line(large: tuple[Path, Path]) -> None:
    rooms, scannet = large
    for model, grid in (("pixels", "12x16"), ("mobilenetv2", "6x8")):
        for dataset, root, options in (("rooms", rooms, ()), ("scannet", scannet, SAME_CLIPS)):
            wanted = ("--model", model, "--dataset", dataset, "--root", str(root), "--grid", grid, "--json")
            done = extract(*wanted, *options)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["done"] == 2
        ours, theirs = (FeatureStore.open(resolve(f"{model}/{name}")) for name in ("rooms", "scannet"))
        assert [clip.id for clip in ours.clips] == list(NAMES)
        assert [clip.id for clip in theirs.clips] == list(SCENES)
        assert [clip.bank for clip in ours.clips] == [clip.bank for clip in theirs.clips]
        assert list(ours.arrays) == list(theirs.arrays)
        for array in ours.arrays:
            for row in (0, 1):
                features = ours.read(array, row)
                assert np.unique(features).size > 1000
                np.testing.assert_array_equal(theirs.read(array, row), features)
    ours, theirs = (FeatureStore.open(resolve(f"targets/{name}")) for name in ("rooms", "scannet"))
    for row in (0, 1):
        of_rooms, of_scannet = targets_of(ours, row), targets_of(theirs, row)
        assert_same(of_rooms, of_scannet)
        for large_picture, picture in zip(of_rooms.rgb, of_scannet.rgb, strict=True):
            shrunk = Image.fromarray(large_picture).resize(TARGET, Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(picture, np.asarray(shrunk))
