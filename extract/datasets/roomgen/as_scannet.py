"""Writes rooms in the layout of ScanNet's official release, so that what reads ScanNet can be tried without it.

scannetv2-labels.combined.tsv                                the release's columns; a row for each class of the rooms
scannetv2_train.txt, scannetv2_val.txt                       rooms of train and val; rooms of test
scannetv2_test.txt                                           empty
scans/<scene>/<scene>.sens                                   colour, depth, poses and intrinsics: see `sens`
scans/<scene>/<scene>_2d-instance-filt.zip                   instance-filt/<frame>.png with objectId + 1, 0 = nothing
scans/<scene>/<scene>.aggregation.json                       objects: their ids, segments and labels
scans/<scene>/<scene>_vh_clean_2.0.010000.segs.json          segment of each vertex of the mesh
scans/<scene>/<scene>.txt                                    sizes, intrinsics, frame counts, type of the scene

Room 12 becomes scene0012_00, and instance k of a room the object k - 1. JPEG files and instance images are taken over
byte for byte. Rooms have no mesh: none is written, and the segments are those of one with one vertex per object.

The release's lists are used as its users do. Its test scenes lie in scans_test/ and have no labels, so results are
reported on its val list, and what is chosen is chosen within its train list. All rooms have labels: none is listed as
test, those of the rooms' own test split are val, the others train. The lists name all rooms of the source, also those
that were not asked for, as the release's name scans that one need not have downloaded.
"""

from __future__ import annotations

import csv
import json
import logging
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.datasets.roomgen import encode, stored
from extract.datasets.roomgen.errors import RoomError
from extract.datasets.roomgen.sens import DEPTH_SHIFT, HALF, SensFrame, write_sens

log = logging.getLogger(__name__)

LABELS = Path(__file__).parent / "scannet_labels.tsv"
"""Class of the rooms -> ScanNet's label. Names, ids and NYU40 classes are those of the release's label map where it has
such a category, also where it files one under otherprop, otherfurniture or otherstructure. Ids from 2001 are new."""
COLUMNS = (
    "id", "raw_category", "category", "count", "nyu40id", "eigen13id", "nyuClass", "nyu40class", "eigen13class",
    "ModelNet40", "ModelNet10", "ShapeNetCore55", "synsetoffset", "wnsynsetid", "wnsynsetkey", "mpcat40",
    "mpcat40index",
)  # fmt: skip
"""Of the release's label map. What `LABELS` does not know stays empty; the release has empty fields too."""
LISTS = {"train": ("train", "val"), "val": ("test",), "test": ()}
"""List of the release -> splits of the rooms in it."""
SCENE_TYPES = {
    "living": "Living room / Lounge",
    "bedroom": "Bedroom / Hotel",
    "kitchen": "Kitchen",
    "office": "Office",
    "bathroom": "Bathroom",
}
"""Types of rooms to those that the scanning app offers; all others are `Misc.`"""
Label = dict[str, str]


def export(source: Path, out: Path, numbers: Collection[int] | None = None) -> list[str]:
    """Write rooms as scenes of ScanNet, all or nothing. The same rooms give the same bytes.

    Args:
        source: a rooms folder, with rooms.json.
        out: a folder that is empty or does not exist.
        numbers: of the rooms; without it all of them.

    Returns:
        The names of the scenes.

    Raises:
        RoomError: `out` holds something, there is no such room, or a room is damaged or has an unknown class.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise RoomError(f"{out} is there already, and not an empty folder\n  remedy: give a new folder")
    index = stored.read_index(source)
    scenes = _scenes(source, index)
    if missing := sorted(set(numbers or ()) - set(scenes)):
        raise RoomError(
            f"{source / 'rooms.json'}: there is no room {', '.join(map(str, missing))}\n"
            f"  remedy: choose among {', '.join(map(str, scenes))}"
        )
    chosen = [n for n in scenes if numbers is None or n in numbers]
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f"{out.name}.") as temporary:
        whole = Path(temporary) / "whole"
        whole.mkdir()
        _write_scans(whole, source, index, {_name(n): scenes[n] for n in chosen})
        _write_lists(whole, scenes)
        whole.rename(out)
    return [_name(n) for n in chosen]


def _write_scans(out: Path, source: Path, index: dict[str, Any], chosen: Mapping[str, dict[str, Any]]) -> None:
    labels = read_labels()
    count: Counter[str] = Counter()
    for scene, entry in chosen.items():
        room = _open(source, index, entry, labels)
        _write_scene(out / "scans" / scene, room, labels)
        count.update(item["class"] for item in room.info["instances"])
        log.info("%s is %s", entry["id"], scene)
    _write_label_map(out / "scannetv2-labels.combined.tsv", labels, count)


def _write_lists(out: Path, scenes: Mapping[int, dict[str, Any]]) -> None:
    for name, splits in LISTS.items():
        listed = [_name(n) for n, entry in scenes.items() if entry["split"] in splits]
        _write_text(out / f"scannetv2_{name}.txt", "".join(f"{scene}\n" for scene in listed))


def _name(number: int) -> str:
    return f"scene{number:04d}_00"


def read_labels() -> dict[str, Label]:
    """Class of the rooms -> its columns of the label map."""
    with LABELS.open(encoding="utf-8", newline="") as file:
        return {row.pop("class"): row for row in csv.DictReader(file, delimiter="\t")}


def _scenes(source: Path, index: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Number of the room -> its entry in rooms.json, in the same order."""
    found: dict[int, dict[str, Any]] = {}
    for entry in index["rooms"]:
        match = re.fullmatch(r"(?:.*\D)?(\d{1,4})", entry["id"])
        if match is None or int(match[1]) in found:
            raise RoomError(
                f"{source / 'rooms.json'}: room {entry['id']!r} does not end in a number of its own, below 10000\n"
                "  remedy: name rooms as the generator does: room_000, room_001, ..."
            )
        found[int(match[1])] = entry
    return found


def _open(source: Path, index: dict[str, Any], entry: dict[str, Any], labels: Mapping[str, Label]) -> stored.StoredRoom:
    """A room, once its files are those that rooms.json lists and its classes have labels."""
    folder = source / entry["id"]
    if encode.digest(folder) != entry["sha256"]:
        raise RoomError(
            f"{folder}: its files are not those that rooms.json lists\n"
            "  remedy: copy the room anew, or `rooms_render index` if it was changed on purpose"
        )
    info = json.loads((folder / "room.json").read_text(encoding="utf-8"))
    if unknown := sorted({item["class"] for item in info["instances"]} - set(labels)):
        raise RoomError(
            f"{folder / 'room.json'}: ScanNet's label of the class {', '.join(unknown)} is not known\n"
            f"  remedy: add a row to {LABELS}"
        )
    return stored.StoredRoom(folder, info, index["depth_scale"])


def _write_scene(folder: Path, room: stored.StoredRoom, labels: Mapping[str, Label]) -> None:
    folder.mkdir(parents=True)
    scene, count = folder.name, room.info["n_frames"]
    jpegs = [(room.folder / f"rgb/{n:04d}.jpg").read_bytes() for n in range(count)]
    depth = _millimetres(room)
    frames = [SensFrame(*parts) for parts in zip(jpegs, depth, room.poses, strict=True)]
    size = (depth.shape[1], depth.shape[2])
    write_sens(folder / f"{scene}.sens", frames, room.intrinsics, size, sensor="rooms")
    _write_instances(folder / f"{scene}_2d-instance-filt.zip", room)
    segments = f"{scene}_vh_clean_2.0.010000.segs.json"
    objects = [(item["id"] - 1, labels[item["class"]]["raw_category"]) for item in room.info["instances"]]
    groups = [{"id": n, "objectId": n, "segments": [n], "label": label} for n, label in objects]
    _write_json(
        folder / f"{scene}.aggregation.json",
        {
            "sceneId": f"scannet.{scene}",
            "appId": "rooms_render",
            "segGroups": groups,
            "segmentsFile": f"scannet.{segments}",
        },
    )
    parameters = {"kThresh": "0.010000", "segMinVerts": "1"}
    _write_json(folder / segments, {"params": parameters, "sceneId": scene, "segIndices": [n for n, _ in objects]})
    _write_text(folder / f"{scene}.txt", _facts(room, size))


def _millimetres(room: stored.StoredRoom) -> NDArray[np.uint16]:
    """Depth (frame, y, x), rounded."""
    depth = np.rint(room.depth * DEPTH_SHIFT)
    if depth.max() > np.iinfo(np.uint16).max:
        raise RoomError(
            f"{room.folder}: depth of {depth.max() / DEPTH_SHIFT:g} m, but ScanNet's 16 bits of millimetres end at "
            "65.535 m\n  remedy: leave the room out: --rooms"
        )
    return depth.astype(np.uint16)


def _write_instances(path: Path, room: stored.StoredRoom) -> None:
    """The stored images: instance id = object id + 1. Stored, since PNG is compressed, and at ZIP's first date."""
    known = {0, *(item["id"] for item in room.info["instances"])}
    if strangers := sorted(set(np.unique(room.instance).tolist()) - known):
        raise RoomError(
            f"{room.folder / 'instance'}: instance ids {strangers} are not listed in room.json\n"
            "  remedy: render or copy the room anew"
        )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for n in range(room.info["n_frames"]):
            member = zipfile.ZipInfo(f"instance-filt/{n}.png")
            member.create_system, member.external_attr = 3, 0o644 << 16
            archive.writestr(member, (room.folder / f"instance/{n:04d}.png").read_bytes())


def _facts(room: stored.StoredRoom, size: tuple[int, int]) -> str:
    """<scene>.txt: `name = value`, sorted by name. World z points up in rooms, as it does after `axisAlignment`."""
    facts: dict[str, Any] = {"axisAlignment": " ".join(f"{value:.6f}" for value in np.eye(4).ravel())}
    k, count = room.intrinsics, room.info["n_frames"]
    for camera in ("color", "depth"):
        facts |= {f"{camera}Height": size[0], f"{camera}Width": size[1]}
        facts |= {f"fx_{camera}": f"{k[0, 0]:.6f}", f"fy_{camera}": f"{k[1, 1]:.6f}"}
        facts |= {f"mx_{camera}": f"{k[0, 2] - HALF:.6f}", f"my_{camera}": f"{k[1, 2] - HALF:.6f}"}
    facts |= {"numColorFrames": count, "numDepthFrames": count, "numIMUmeasurements": 0}
    facts["sceneType"] = SCENE_TYPES.get(room.info["type"], "Misc.")
    return "".join(f"{name} = {value}\n" for name, value in sorted(facts.items()))


def _write_label_map(path: Path, labels: Mapping[str, Label], count: Mapping[str, int]) -> None:
    """All labels, also those that no exported room shows; `count` is how many objects have one."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", delimiter="\t", lineterminator="\n")
        writer.writeheader()
        for name, label in labels.items():
            writer.writerow({**label, "count": count[name]})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write_text(path, encode.flat_lists(json.dumps(content, indent=1)) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
