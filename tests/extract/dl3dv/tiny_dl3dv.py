"""Tiny scenes of DL3DV on disk, written from the formats' definitions: ray-cast rooms in the layouts of the release."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file
from scipy.spatial.transform import Rotation

from tests.extract.tiny_rooms import TinyRoom, make_room

SIZE = (42, 74)
"""294 x 518, which VGGT sees, is seven times this."""
SEEN = (294, 518)
FRAMES = 24
UNIT = 0.37
"""Metres are so many units of the labels."""
GL = np.diag([1.0, -1.0, -1.0, 1.0])
APPLIED = np.array([[0, 1, 0, 0.0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]])
"""What nerfstudio applies to what COLMAP finds."""


def hash_of(number: int) -> str:
    return hashlib.sha256(f"scene {number}".encode()).hexdigest()


@cache
def room(seed: int = 0, frames: int = FRAMES, size: tuple[int, int] = SIZE) -> TinyRoom:
    return make_room(f"room_{seed}", "train", size, frames, seed)


def names_of(count: int) -> list[str]:
    return [f"frame_{n:05d}.png" for n in range(1, count + 1)]


def write_scene(folder: Path, tiny: TinyRoom | None = None, pictures: str = "images_4", **said: Any) -> Path:
    """The layout of DL3DV-ALL. transforms.json says the camera of pictures four times as large."""
    tiny = tiny or room()
    names = write_pictures(folder / pictures, tiny.rgb)
    write_transforms(folder, tiny, [f"images/{name}" for name in names], **said)
    return folder


def write_pictures(folder: Path, frames: NDArray[np.uint8]) -> list[str]:
    folder.mkdir(parents=True)
    names = names_of(len(frames))
    for name, frame in zip(names, frames, strict=True):
        Image.fromarray(frame).save(folder / name)
    return names


def write_transforms(folder: Path, tiny: TinyRoom, names: Sequence[str], **said: Any) -> None:
    height, width = tiny.rgb.shape[1:3]
    k = 4 * tiny.intrinsics
    camera = {"w": 4 * width, "h": 4 * height, "fl_x": k[0, 0], "fl_y": k[1, 1], "cx": k[0, 2], "cy": k[1, 2]}
    lens = {"camera_model": "OPENCV", "k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0}
    frames = [
        {"file_path": name, "transform_matrix": (APPLIED @ motion @ GL).tolist(), "colmap_im_id": n}
        for n, (name, motion) in enumerate(zip(names, tiny.cam_to_world, strict=True))
    ]
    whole = camera | lens | {"applied_transform": APPLIED[:3].tolist(), "frames": frames} | said
    (folder / "transforms.json").write_text(json.dumps(whole))


def write_colmap(folder: Path, tiny: TinyRoom, names: Sequence[str], distortion: float | None = None) -> None:
    """A binary model: one camera of pictures four times as large, PINHOLE or OPENCV."""
    folder.mkdir(parents=True)
    height, width = tiny.rgb.shape[1:3]
    k = 4 * tiny.intrinsics
    model, params = (1, ()) if distortion is None else (4, (distortion, 0, 0, 0))
    values = (k[0, 0], k[1, 1], k[0, 2], k[1, 2], *params)
    (folder / "cameras.bin").write_bytes(
        struct.pack(f"<QIiQQ{len(values)}d", 1, 1, model, 4 * width, 4 * height, *values)
    )
    content = struct.pack("<Q", len(names))
    for n, (name, motion) in enumerate(zip(names, tiny.cam_to_world, strict=True)):
        out = np.linalg.inv(motion)
        x, y, z, w = Rotation.from_matrix(out[:3, :3]).as_quat()
        content += struct.pack("<I7dI", n, w, x, y, z, *out[:3, 3], 1) + name.encode() + b"\0" + struct.pack("<Q", 0)
    (folder / "images.bin").write_bytes(content)


def write_depth(folder: Path, depth: NDArray[np.floating], scale: float | None = 0.001, start: int = 1) -> Path:
    """`depth` of every frame: PNG of multiples of `scale`, or .npy. Frames are counted from `start`."""
    (folder / "depth").mkdir(parents=True)
    for n, each in enumerate(depth, start):
        path = folder / f"depth/frame_{n:05d}.npy"
        if scale is None:
            np.save(path, each.astype(np.float32))
        else:
            Image.fromarray(np.round(each / scale).astype(np.uint16)).save(path.with_suffix(".png"))
    return folder / "depth"


def label_arrays(seed: int = 0, start: int = 5, count: int = 8, frames: int = FRAMES) -> dict[str, NDArray[Any]]:
    """What the published code writes of frames start … of a scene, as VGGT would if it made no error."""
    fine, coarse = room(seed, frames, SEEN), room(seed, frames)
    rows = slice(start, start + count)
    images = [Image.fromarray(each).resize((SEEN[1], SEEN[0]), Image.Resampling.BICUBIC) for each in coarse.rgb[rows]]
    depth = (fine.depth[rows] * UNIT).astype(np.float32)
    extrinsic = np.linalg.inv(fine.cam_to_world[rows])[:, :3]
    extrinsic[:, :, 3] *= UNIT
    intrinsic = np.repeat(fine.intrinsics[None], count, axis=0)
    intrinsic[:, :2, 2] -= 0.5  # VGGT counts from the centre of the first pixel
    return {
        "images": np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)),
        "depthmaps": depth[..., None],
        "confmaps": np.random.default_rng(seed).uniform(1, 30, (*depth.shape, 1)).astype(np.float32),
        "pointmaps": unprojected_as_vggt(depth, intrinsic, extrinsic),
        "intrinsic": intrinsic.astype(np.float32),
        "extrinsic": extrinsic.astype(np.float32),
        "start_idx": np.array(start, np.int32),
    }


def unprojected_as_vggt(depth: NDArray[Any], intrinsic: NDArray[Any], extrinsic: NDArray[Any]) -> NDArray[np.float32]:
    """Points of pixels (column, row) counted from 0, then from the camera to the world."""
    columns, rows = np.meshgrid(np.arange(depth.shape[2]), np.arange(depth.shape[1]))
    points = []
    for d, k, e in zip(depth, intrinsic, extrinsic, strict=True):
        camera = np.stack([(columns - k[0, 2]) * d / k[0, 0], (rows - k[1, 2]) * d / k[1, 1], d], -1)
        points.append((camera - e[:, 3]) @ e[:, :3])
    return np.stack(points).astype(np.float32)


def write_labels(root: Path, subset: str, scene: str, arrays: dict[str, NDArray[Any]]) -> Path:
    path = root / "DL3DV-processed" / subset / f"{scene}.sft"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays, path)
    return path
