"""Tiny scans on disk: a ray-cast room in the files of ScanNet's release, written after their definition."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.extract.tiny_rooms import FLOOR, WALL, _cast, _pose

LABELS = {FLOOR: "floor", WALL: "wall", 3: "office chair", 4: "pillow", 5: "gizmo"}
"""Instance id -> raw category. ScanNet20 has no pillow; the label table has no gizmo."""
TABLE = [
    ("id", "raw_category", "category", "count", "nyu40id"),
    ("1", "wall", "wall", "8277", "1"),
    ("2", "chair", "chair", "4646", "5"),
    ("3", "floor", "floor", "1553", "2"),
    ("10", "office chair", "office chair", "595", "5"),
    ("13", "pillow", "pillow", "937", "18"),
]
COLOURS = np.array([(40, 40, 60), (150, 90, 50), (200, 200, 190), (60, 160, 70), (230, 190, 40), (90, 40, 160)])
LOST = np.full((4, 4), -np.inf)


@dataclass(frozen=True)
class TinyScan:
    """What is written. Intrinsics span [0, width] x [0, height]; depth is in millimetres."""

    id: str
    rgb: NDArray[np.uint8]
    depth: NDArray[np.uint16]
    instance: NDArray[np.uint8]
    poses: NDArray[np.float64]
    color_matrix: NDArray[np.float64]
    depth_matrix: NDArray[np.float64]
    room: tuple[NDArray[np.float64], ...]

    def seen(
        self, frame: int, matrix: NDArray[np.float64], size: tuple[int, int]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Planar depth in metres and instance ids that a pinhole camera at this frame's pose sees."""
        return cast(self.room, self.poses[frame], matrix, size)


def cast(
    room: tuple[NDArray[np.float64], ...], pose: NDArray[np.float64], matrix: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    u, v = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(matrix).T
    return _cast(pose[:3, 3], rays @ pose[:3, :3].T, *room)


def make_scan(
    name: str = "scene0001_00",
    frames: int = 20,
    color_size: tuple[int, int] = (30, 40),
    depth_size: tuple[int, int] = (24, 32),
    depth_change: Sequence[float] = (1, 0, 0),
    seed: int = 0,
) -> TinyScan:
    """A room with three balls. The depth camera is the colour camera at its own size, changed by (zoom, shift x, y)."""
    rng = np.random.default_rng(seed)
    half = np.array([2.0, 2.4])
    radii = np.array([0.4, 0.35, 0.3])
    centres = np.column_stack([[-0.9, 0.1, 0.9], [1.2, 1.5, 0.9], radii])
    room = np.array([*-half, 0.0]), np.array([*half, 2.0]), centres, radii
    poses = np.stack([_pose(rng, x, half[1]) for x in np.linspace(-0.5, 0.5, frames)])
    height, width = color_size
    color = np.array([[0.72 * width, 0, 0.505 * width], [0, 0.97 * height, 0.49 * height], [0, 0, 1]])
    depth = np.diag([depth_size[1] / width, depth_size[0] / height, 1]) @ color
    zoom, *shift = depth_change
    depth[[0, 1], [0, 1]] *= zoom
    depth[:2, 2] += shift
    instance = np.stack([cast(room, pose, color, color_size)[1] for pose in poses])
    metres = np.stack([cast(room, pose, depth, depth_size)[0] for pose in poses])
    rgb = COLOURS[instance].astype(np.uint8)
    return TinyScan(
        name,
        rgb,
        np.round(metres * 1000).astype(np.uint16),
        instance.astype(np.uint8),
        poses,
        color,
        depth,
        room,
    )


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    stream = BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue()


def png(picture: NDArray[np.generic]) -> bytes:
    stream = BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def as_stored(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intrinsics as ScanNet keeps them: 4x4, counted from the centre of the first pixel."""
    stored = np.eye(4)
    stored[:3, :3] = matrix
    stored[:2, 2] -= 0.5
    return stored


def header(scan: TinyScan, **changes: Any) -> bytes:
    """The bytes before the first frame. `changes` are lies about single fields."""
    (height, width), (depth_height, depth_width) = scan.rgb.shape[1:3], scan.depth.shape[1:]
    said: dict[str, Any] = {
        "version": 4,
        "name": b"StructureSensor (calibrated)",
        "color": as_stored(scan.color_matrix),
        "color_extrinsics": np.eye(4),
        "depth": as_stored(scan.depth_matrix),
        "depth_extrinsics": np.eye(4),
        "compressions": (2, 1),
        "sizes": (width, height, depth_width, depth_height),
        "shift": 1000.0,
        "frames": len(scan.rgb),
    } | changes
    name = said["name"]
    parts = [struct.pack("<I", said["version"]), struct.pack("<Q", changes.get("name_length", len(name))), name]
    parts += [np.asarray(said[key]).astype("<f4").tobytes() for key in ("color", "color_extrinsics", "depth")]
    parts += [np.asarray(said["depth_extrinsics"]).astype("<f4").tobytes()]
    parts += [struct.pack("<2i", *said["compressions"]), struct.pack("<4I", *said["sizes"])]
    parts += [struct.pack("<f", said["shift"]), struct.pack("<Q", said["frames"])]
    return b"".join(parts)


def frame_bytes(pose: NDArray[np.float64], color: bytes, depth: bytes, sizes: tuple[int, int] | None = None) -> bytes:
    said = sizes or (len(color), len(depth))
    return pose.astype("<f4").tobytes() + struct.pack("<2Q2Q", 123456, 123457, *said) + color + depth


def frames_of(scan: TinyScan) -> list[bytes]:
    return [
        frame_bytes(pose, jpeg(rgb), zlib.compress(depth.astype("<u2").tobytes()))
        for pose, rgb, depth in zip(scan.poses, scan.rgb, scan.depth, strict=True)
    ]


def write_sens(folder: Path, scan: TinyScan, **changes: Any) -> Path:
    """`<scan>.sens`, with one inertial measurement after the frames."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{scan.id}.sens"
    inertial = struct.pack("<Q15dQ", 1, *range(15), 99)
    path.write_bytes(header(scan, **changes) + b"".join(frames_of(scan)) + inertial)
    return path


def write_exported(folder: Path, scan: TinyScan, step: int = 1, parts: Collection[str] = ("depth",)) -> Path:
    """As the python reader of ScanNet writes it with all its options; every `step`-th frame."""
    for part in ("color", "pose", "intrinsic", *parts):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for k in range(0, len(scan.rgb), step):
        (folder / f"color/{k}.jpg").write_bytes(jpeg(scan.rgb[k]))
        np.savetxt(folder / f"pose/{k}.txt", scan.poses[k], fmt="%f")
        if "depth" in parts:
            (folder / f"depth/{k}.png").write_bytes(png(scan.depth[k]))
    for camera, matrix in (("color", scan.color_matrix), ("depth", scan.depth_matrix)):
        np.savetxt(folder / f"intrinsic/intrinsic_{camera}.txt", as_stored(matrix), fmt="%f")
        np.savetxt(folder / f"intrinsic/extrinsic_{camera}.txt", np.eye(4), fmt="%f")
    return folder


def write_instances(path: Path, pictures: Mapping[str, bytes]) -> None:
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in pictures.items():
            archive.writestr(name, content)


def write_labels(folder: Path, scan: TinyScan) -> None:
    pictures = {f"instance-filt/{k}.png": png(picture) for k, picture in enumerate(scan.instance)}
    write_instances(folder / f"{scan.id}_2d-instance-filt.zip", pictures)
    groups = [{"id": i - 1, "objectId": i - 1, "segments": [i], "label": label} for i, label in LABELS.items()]
    said = {"sceneId": f"scannet.{scan.id}", "appId": "Aggregator.v2", "segGroups": groups, "segmentsFile": ""}
    (folder / f"{scan.id}.aggregation.json").write_text(json.dumps(said))


def write_lists(root: Path, train: Sequence[str], val: Sequence[str], place: str = "") -> None:
    (root / place).mkdir(parents=True, exist_ok=True)
    for name, scans in (("train", train), ("val", val)):
        (root / place / f"scannetv2_{name}.txt").write_text("".join(f"{scan}\n" for scan in scans))
    (root / "scannetv2-labels.combined.tsv").write_text("".join("\t".join(row) + "\n" for row in TABLE))


def write_release(root: Path, scan: TinyScan, val: str = "scene0568_00") -> Path:
    """A root with one scan of the official train list as `.sens`, and one of val. Returns the first one's folder."""
    write_lists(root, [scan.id], [val])
    for each in (scan, replace(scan, id=val)):
        folder = root / "scans" / each.id
        write_sens(folder, each)
        write_labels(folder, each)
    return root / "scans" / scan.id
