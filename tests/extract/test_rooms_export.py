"""Rooms exported as ScanNet: every byte is read back, by code that shares nothing with what wrote it."""

from __future__ import annotations

import csv
import hashlib
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from extract.datasets import rooms_render
from extract.datasets.roomgen import as_scannet, catalog
from tests.extract.sens_reader import picture, read_sens, scan, scene_of

ROOMS = rooms_render.HERE
NUMBERS = [0, 7, 18]  # one of each split
OFFICIAL_HEADER = (
    "id\traw_category\tcategory\tcount\tnyu40id\teigen13id\tnyuClass\tnyu40class\teigen13class\tModelNet40\tModelNet10\t"
    "ShapeNetCore55\tsynsetoffset\twnsynsetid\twnsynsetkey\tmpcat40\tmpcat40index"
)
NYU40 = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
    "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books",
    "refridgerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand",
    "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop",
)  # fmt: skip
EIGEN13 = (
    "Bed", "Books", "Ceiling", "Chair", "Floor", "Furniture", "Objects", "Picture", "Sofa", "Table", "TV", "Wall",
    "Window",
)  # fmt: skip


def info_of(number: int) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOMS / f"room_{number:03d}/room.json").read_text())
    return content


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("as") / "scannet"
    assert rooms_render.main(["export", str(out), "--as", "scannet", "--rooms", ",".join(map(str, NUMBERS))]) == 0
    return out


def test_the_files_are_those_of_the_release(exported: Path) -> None:
    files = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    endings = (".sens", "_2d-instance-filt.zip", ".aggregation.json", "_vh_clean_2.0.010000.segs.json", ".txt")
    scans = {f"scans/{scene_of(n)}/{scene_of(n)}{ending}" for n in NUMBERS for ending in endings}
    lists = {f"scannetv2_{split}.txt" for split in ("train", "val", "test")}
    assert files == scans | lists | {"scannetv2-labels.combined.tsv"}


def test_results_are_reported_on_the_val_list_which_holds_the_test_rooms(exported: Path) -> None:
    """The lists name all rooms, as those of the release name scans that were not downloaded."""
    listed = {name: (exported / f"scannetv2_{name}.txt").read_text().splitlines() for name in ("train", "val", "test")}
    numbers = {split: [n for n in range(48) if info_of(n)["split"] == split] for split in ("train", "val", "test")}
    assert listed["train"] == [scene_of(n) for n in sorted(numbers["train"] + numbers["val"])]
    assert listed["val"] == [scene_of(n) for n in numbers["test"]]
    assert listed["test"] == []


@pytest.mark.parametrize("number", NUMBERS)
def test_recordings_hold_the_frames_depth_poses_and_intrinsics(exported: Path, number: int) -> None:
    recording, info = read_sens(scan(exported, number, ".sens")), info_of(number)
    room = ROOMS / f"room_{number:03d}"
    assert recording.sensor == "rooms"
    assert recording.colour_size == recording.depth_size == (256, 256)
    assert recording.jpegs == [path.read_bytes() for path in sorted(room.glob("rgb/*.jpg"))]
    assert recording.times == [(0, 0)] * 20
    stored = np.stack([picture(path) for path in sorted(room.glob("depth/*.png"))])
    np.testing.assert_array_equal(recording.depth, stored)  # units of a millimetre already
    np.testing.assert_array_equal(recording.poses, np.array(info["cam_to_world"]).astype(np.float32))
    colour, colour_extrinsics, depth, depth_extrinsics = recording.matrices
    np.testing.assert_array_equal(colour, depth)
    np.testing.assert_array_equal(colour_extrinsics, np.eye(4))
    np.testing.assert_array_equal(depth_extrinsics, np.eye(4))
    (fx, _, cx), (_, fy, cy), _ = info["intrinsics"]
    wanted = [[fx, 0, cx - 0.5, 0], [0, fy, cy - 0.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(colour, np.array(wanted, np.float32))


def test_points_by_the_official_tools_lie_where_the_room_has_them(exported: Path) -> None:
    """They unproject column x and row y, counted from 0, as depth K^-1 (x, y, 1)."""
    recording, info = read_sens(scan(exported, 0, ".sens")), info_of(0)
    y, x = np.mgrid[:256, :256]
    depth = recording.depth[3] / 1000
    theirs = np.stack([x * depth, y * depth, depth], -1) @ np.linalg.inv(recording.matrices[2][:3, :3]).T
    k = np.array(info["intrinsics"])
    ours = np.stack([x + 0.5, y + 0.5, np.ones_like(x)], -1) @ np.linalg.inv(k).T * depth[..., None]
    np.testing.assert_allclose(theirs, ours, atol=1e-6 * depth.max())


@pytest.mark.parametrize("number", NUMBERS)
def test_instance_images_are_object_ids_plus_one(exported: Path, number: int) -> None:
    room, info = ROOMS / f"room_{number:03d}", info_of(number)
    aggregation = json.loads(scan(exported, number, ".aggregation.json").read_text())
    labels = {group["objectId"]: group["label"] for group in aggregation["segGroups"]}
    names = {"sofa": "couch", "screen": "tv", "bath": "bathtub", "bin": "trash can"}
    assert labels == {item["id"] - 1: names.get(item["class"], item["class"]) for item in info["instances"]}
    with zipfile.ZipFile(scan(exported, number, "_2d-instance-filt.zip")) as archive:
        assert archive.namelist() == [f"instance-filt/{n}.png" for n in range(20)]
        for n in range(20):
            with archive.open(f"instance-filt/{n}.png") as file, Image.open(file) as image:
                assert image.mode == "L"
                values = np.asarray(image)
            np.testing.assert_array_equal(values, picture(room / f"instance/{n:04d}.png"))
            assert set(np.unique(values).tolist()) <= {0, *(ident + 1 for ident in labels)}


@pytest.mark.parametrize("number", NUMBERS)
def test_objects_and_segments_agree(exported: Path, number: int) -> None:
    scene = scene_of(number)
    aggregation = json.loads(scan(exported, number, ".aggregation.json").read_text())
    segmentation = json.loads(scan(exported, number, "_vh_clean_2.0.010000.segs.json").read_text())
    assert aggregation["sceneId"] == f"scannet.{scene}"
    assert aggregation["segmentsFile"] == f"scannet.{scene}_vh_clean_2.0.010000.segs.json"
    assert segmentation["sceneId"] == scene
    groups = aggregation["segGroups"]
    assert all(set(group) == {"id", "objectId", "segments", "label"} for group in groups)
    assert all(group["id"] == group["objectId"] for group in groups)
    segments = [segment for group in groups for segment in group["segments"]]
    assert len(segments) == len(set(segments))
    assert set(segments) == set(segmentation["segIndices"])


def test_facts_of_a_scene(exported: Path) -> None:
    lines = scan(exported, 7, ".txt").read_text().splitlines()
    facts = dict(line.split(" = ") for line in lines)
    assert list(facts) == sorted(facts)
    assert np.array_equal(np.array(facts.pop("axisAlignment").split(), float).reshape(4, 4), np.eye(4))
    (fx, _, cx), (_, fy, cy), _ = info_of(7)["intrinsics"]
    for camera in ("color", "depth"):
        assert (facts.pop(f"{camera}Width"), facts.pop(f"{camera}Height")) == ("256", "256")
        values = [float(facts.pop(f"{name}_{camera}")) for name in ("fx", "fy", "mx", "my")]
        np.testing.assert_allclose(values, np.array([fx, fy, cx - 0.5, cy - 0.5]), atol=1e-6)
    assert info_of(7)["type"] == "bedroom"
    assert facts == {
        "numColorFrames": "20",
        "numDepthFrames": "20",
        "numIMUmeasurements": "0",
        "sceneType": "Bedroom / Hotel",
    }


def test_label_map_has_the_columns_of_the_release(exported: Path) -> None:
    path = exported / "scannetv2-labels.combined.tsv"
    assert path.read_text().splitlines()[0] == OFFICIAL_HEADER
    with path.open(newline="") as file:
        rows = {row["raw_category"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert len(rows) == len(catalog.CLASSES)
    shown = Counter(
        group["label"]
        for n in NUMBERS
        for group in json.loads(scan(exported, n, ".aggregation.json").read_text())["segGroups"]
    )
    assert {name: int(row["count"]) for name, row in rows.items() if row["count"] != "0"} == shown


def test_labels_cover_the_classes_and_name_classes_of_nyu40() -> None:
    labels = as_scannet.read_labels()
    assert tuple(labels) == catalog.CLASSES
    assert len({label["id"] for label in labels.values()}) == len(labels)
    assert len({label["raw_category"] for label in labels.values()}) == len(labels)
    for label in labels.values():
        assert set(label) <= set(as_scannet.COLUMNS)
        assert label["nyu40class"] == NYU40[int(label["nyu40id"]) - 1]
        assert label["eigen13class"] == EIGEN13[int(label["eigen13id"]) - 1]
    as_nyu40 = {name: label["nyu40class"] for name, label in labels.items()}
    assert as_nyu40["sofa"] == "sofa"
    assert as_nyu40["armchair"] == "chair"
    assert as_nyu40["screen"] == "television"
    assert as_nyu40["game table"] == "otherfurniture"
    assert as_nyu40["kitchenware"] == "otherprop"


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_rooms_give_the_same_bytes(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    out.mkdir()  # an empty folder is taken
    assert as_scannet.export(ROOMS, out, NUMBERS) == [scene_of(n) for n in NUMBERS]
    assert digests(out) == digests(exported)
    assert not list(tmp_path.glob("again.*"))
