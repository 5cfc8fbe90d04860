"""A release of Hypersim: rooms that were ray-cast through its cameras, written after its README and example code."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.extract.scannet.tiny_scans import COLOURS
from tests.extract.tiny_rooms import FLOOR, WALL, _cast, _pose

SIZE = (768, 1024)
METRES_PER_UNIT = 0.0254
SEMANTIC = np.array([-1, 2, 1, 5, -1, 35])
"""NYU40 id of each id in the room: the ceiling, floor, wall, three balls. The second ball is without a class."""
INSTANCE = np.array([-1, -1, -1, 7, 8, 300])
assert (FLOOR, WALL) == (1, 2)
VIEWS = 4
"""So many different poses; image k has pose k % VIEWS."""
EXCLUDED = {("ai_001_001", "cam_00"): (3, 7)}
N_POSES = 22
SCENES = {"ai_001_001": "train", "ai_002_001": "val", "ai_003_010": "test"}


def standard() -> NDArray[np.float64]:
    """Rays of u, v at the release's usual field of view, pi / 3 across."""
    across = np.tan(np.pi / 6)
    return np.array([[across, 0, 0], [0, across * 3 / 4, 0], [0, 0, -1]])


def shifted(right: float, up: float, tilt: float, turn: float) -> NDArray[np.float64]:
    """A lens moved in its plane, and tilted as V-Ray does it: z = -1 - tilt y - turn x. Its scale is arbitrary."""
    matrix = standard()
    matrix[:2, 2] = right, up
    matrix[:2] /= np.sqrt(1 + np.array([[turn], [tilt]]) ** 2)
    matrix[2] -= tilt * matrix[1] + turn * matrix[0]
    return 1.07 * matrix


LENSES = {
    "ai_001_001": standard(),
    "ai_002_001": shifted(0, -0.1, 0.12, 0),
    "ai_003_010": shifted(0.09, -0.05, -0.1, 0.05),
    "ai_009_009": standard(),
}


@dataclass(frozen=True)
class View:
    """What is written of one image, and the OpenCV pose of the camera as it stands."""

    pose: NDArray[np.float64]
    rgb: NDArray[np.uint8]
    distance: NDArray[np.float16]
    semantic: NDArray[np.int16]
    instance: NDArray[np.int16]


@cache
def room() -> tuple[NDArray[np.float64], ...]:
    half, radii = np.array([2.0, 2.4]), np.array([0.4, 0.35, 0.3])
    centres = np.column_stack([[-0.9, 0.1, 0.9], [1.2, 1.5, 0.9], radii])
    return np.array([*-half, 0.0]), np.array([*half, 2.0]), centres, radii


@cache
def views(scene: str) -> Sequence[View]:
    """Rays as in the release's example: M (u, v, 1), u to the right, v upwards, half a pixel from the borders."""
    rng = np.random.default_rng(11)
    u, v = np.meshgrid((np.arange(1024) + 0.5) / 512 - 1, 1 - (np.arange(768) + 0.5) / 384)
    local = np.stack([u, v, np.ones_like(u)], -1) @ LENSES[scene].T
    local /= np.linalg.norm(local, axis=-1, keepdims=True)
    made = []
    for x in np.linspace(-0.5, 0.5, VIEWS):
        pose = _pose(rng, x, 2.4)
        distance, ids = _cast(pose[:3, 3], local @ opengl(pose).T, *room())
        distance = np.where(ids == 0, np.nan, distance)
        distance[100:110, 100:110] = np.inf
        made.append(
            View(
                pose,
                COLOURS[ids].astype(np.uint8),
                distance.astype(np.float16),
                SEMANTIC[ids].astype(np.int16),
                INSTANCE[ids].astype(np.int16),
            )
        )
    return made


def opengl(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """World from camera with x right, y up, z backwards."""
    return np.asarray(pose[:3, :3] * (1, -1, -1))


def hdf5(values: NDArray[Any], **packing: Any) -> bytes:
    stream = BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("dataset", data=values, **packing)
    return stream.getvalue()


def images_of(scene: str, camera: str) -> list[int]:
    """Numbers of the images that were released."""
    excluded = EXCLUDED.get((scene, camera), ())
    return [k for k in range(N_POSES) if k not in excluded]


def paths() -> Iterator[tuple[str, str]]:
    """Scene and camera of every camera path on the disk."""
    yield "ai_001_001", "cam_00"
    yield "ai_001_001", "cam_01"
    yield "ai_002_001", "cam_00"
    yield "ai_003_010", "cam_00"


@cache
def encoded(scene: str, view: int) -> Mapping[str, bytes]:
    seen, stream = views(scene)[view], BytesIO()
    Image.fromarray(seen.rgb).save(stream, "JPEG", quality=95, subsampling=0)
    packing = {"compression": "gzip", "compression_opts": 1}
    return {
        "tonemap.jpg": stream.getvalue(),
        "depth_meters.hdf5": hdf5(seen.distance, **packing),
        "semantic.hdf5": hdf5(seen.semantic, **packing),
        "semantic_instance.hdf5": hdf5(seen.instance, **packing),
    }


def write_path(scenes: Path, scene: str, camera: str) -> None:
    detail, images = scenes / scene / "_detail", scenes / scene / "images"
    (detail / camera).mkdir(parents=True)
    (detail / "metadata_scene.csv").write_text(
        f"parameter_name,parameter_value\nmeters_per_asset_unit,{METRES_PER_UNIT}\n"
    )
    poses = [views(scene)[k % VIEWS].pose for k in range(N_POSES)]
    positions = np.stack([pose[:3, 3] for pose in poses]) / METRES_PER_UNIT
    (detail / camera / "camera_keyframe_positions.hdf5").write_bytes(hdf5(positions))
    orientations = np.stack([opengl(pose) for pose in poses])
    (detail / camera / "camera_keyframe_orientations.hdf5").write_bytes(hdf5(orientations))
    for k in images_of(scene, camera):
        for ending, content in encoded(scene, k % VIEWS).items():
            kind = "final_preview" if ending == "tonemap.jpg" else "geometry_hdf5"
            folder = images / f"scene_{camera}_{kind}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"frame.{k:04d}.{ending}").write_bytes(content)


def image_rows() -> list[list[str]]:
    """The table of images; one scene of it was not downloaded."""
    rows = [["scene_name", "camera_name", "frame_id", "included_in_public_release", "exclude_reason"]]
    rows[0].append("split_partition_name")
    for scene, camera in [*paths(), ("ai_009_009", "cam_00")]:
        released = images_of(scene, camera)
        for k in range(N_POSES):
            said = ["True", "", SCENES.get(scene, "train")] if k in released else ["False", "CONTENT FLAGGED", ""]
            rows.append([scene, camera, str(k), *said])
    return rows


def camera_rows() -> list[list[str]]:
    """The table of cameras, with some of the columns that are not read."""
    cells = [f"M_cam_from_uv_{i}{j}" for i in range(3) for j in range(3)]
    rows = [["scene_name", "settings_output_img_height", "settings_output_img_width", "use_camera_physical"]]
    rows[0] += ["camera_physical_lens_file", *cells, "M_proj_00"]
    for scene, matrix in LENSES.items():
        rows.append([scene, "768.0", "1024.0", "False", "", *map(repr, matrix.ravel().tolist()), "1.73"])
    return rows


def write_table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_release(root: Path) -> Path:
    """Scenes as they are unpacked, and the two tables beside them."""
    for scene, camera in paths():
        write_path(root, scene, camera)
    write_table(root / "metadata_images_split_scene_v1.csv", image_rows())
    write_table(root / "metadata_camera_parameters.csv", camera_rows())
    return root
