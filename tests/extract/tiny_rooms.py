"""Tiny rooms on disk: a box with balls in it, ray-cast exactly, in the layout that `extract.datasets.rooms` reads.

`python -m tests.extract.tiny_rooms DIR` writes four.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES: tuple[tuple[str, Literal["thing", "stuff"]], ...] = (
    ("floor", "stuff"),
    ("wall", "stuff"),
    ("ball", "thing"),
    ("lamp", "thing"),
)
COLOURS = np.array([(40, 40, 60), (150, 90, 50), (200, 200, 190), (60, 160, 70), (230, 190, 40)])  # nothing first
DEPTH_SCALE = 0.001
FLOOR, WALL = 1, 2  # instance ids; the ceiling is nothing and has no depth


@dataclass(frozen=True)
class TinyRoom:
    """What was written. rgb is what it was before JPEG; depth is in metres, rounded as on disk."""

    id: str
    split: str
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float64]
    instance: NDArray[np.uint16]
    instance_class: dict[int, str]
    cam_to_world: NDArray[np.float64]
    intrinsics: NDArray[np.float64]


def write_rooms(
    root: Path,
    splits: Sequence[str] = ("train", "train", "val", "test"),
    size: tuple[int, int] = (48, 48),
    frames: int = 3,
    seed: int = 0,
) -> list[TinyRoom]:
    """One room per entry of `splits`, frames of `size` (height, width). The same arguments write the same bytes."""
    rooms = [make_room(f"tiny_{n:02d}", split, size, frames, seed + n) for n, split in enumerate(splits)]
    listing = [
        {"id": r.id, "split": r.split, "type": "tiny", "n_frames": frames, "sha256": _write(root, r)} for r in rooms
    ]
    index = {
        "name": "rooms",
        "version": "1.0",
        "image_size": list(size),
        "depth_scale": DEPTH_SCALE,
        "classes": [{"name": name, "kind": kind} for name, kind in CLASSES],
        "rooms": listing,
    }
    (root / "rooms.json").write_text(json.dumps(index))
    return rooms


def make_room(name: str, split: str, size: tuple[int, int], frames: int, seed: int) -> TinyRoom:
    """A box of random size with 2 to 4 balls, filmed by a camera that walks sideways and looks at the far wall."""
    rng = np.random.default_rng(seed)
    height, width = size
    half = rng.uniform(1.5, 3.0, 2)
    low, high = np.array([*-half, 0.0]), np.array([*half, 2.5])
    things = [str(rng.choice(["ball", "lamp"])) for _ in range(rng.integers(2, 5))]
    radii = rng.uniform(0.2, 0.5, len(things))
    centres = np.column_stack(
        [rng.uniform(-0.8, 0.8, len(things)) * half[0], rng.uniform(0.3, 0.8, len(things)) * half[1], radii]
    )
    classes = {FLOOR: "floor", WALL: "wall"} | {WALL + 1 + n: thing for n, thing in enumerate(things)}

    focal = 0.7 * width
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    poses = np.stack([_pose(rng, x, half[1]) for x in np.linspace(-0.3, 0.3, frames) * half[0]])
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(intrinsics).T
    hits = [_cast(pose[:3, 3], rays @ pose[:3, :3].T, low, high, centres, radii) for pose in poses]
    depth = np.stack([depth for depth, _ in hits])
    instance = np.stack([instance for _, instance in hits])

    lut = np.zeros(max(classes) + 1, int)
    for ident, cls in classes.items():
        lut[ident] = 1 + [name for name, _ in CLASSES].index(cls)
    rgb = np.clip(COLOURS[lut[instance]] * rng.uniform(0.8, 1.1), 0, 255).astype(np.uint8)
    return TinyRoom(name, split, rgb, depth, instance.astype(np.uint16), classes, poses, intrinsics)


def _pose(rng: np.random.Generator, x: float, half: float) -> NDArray[np.float64]:
    """Camera to world (z up): at eye height near the -y wall, looking along +y, a little down and to one side."""
    forward = np.array([rng.uniform(-0.2, 0.2), 1.0, rng.uniform(-0.4, -0.1)])
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.column_stack([right, np.cross(forward, right), forward, [x, -0.8 * half, rng.uniform(1.2, 1.6)]])
    return pose


def _cast(
    origin: NDArray[np.float64],
    rays: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    centres: NDArray[np.float64],
    radii: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Planar depth (the rays have z = 1 in the camera) and instance ids (y, x), from inside the box [low, high]."""
    with np.errstate(divide="ignore"):
        exits = np.where(rays > 0, (high - origin) / rays, (low - origin) / rays)
    axis, depth = exits.argmin(-1), exits.min(-1)
    ceiling = (axis == 2) & (rays[..., 2] > 0)
    instance = np.where(axis == 2, FLOOR, WALL)
    for n, (centre, radius) in enumerate(zip(centres, radii, strict=True)):
        a, b = (rays**2).sum(-1), rays @ (origin - centre)
        root = b**2 - a * (((origin - centre) ** 2).sum() - radius**2)
        near = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
        hit = (near > 0) & (near < depth)
        depth, instance, ceiling = np.where(hit, near, depth), np.where(hit, WALL + 1 + n, instance), ceiling & ~hit
    depth = np.round(depth / DEPTH_SCALE) * DEPTH_SCALE
    return np.where(ceiling, 0, depth), np.where(ceiling, 0, instance)


def _write(root: Path, room: TinyRoom) -> str:
    """Write one room's files. Returns the SHA-256 over the sorted lines `path NUL sha256-of-content LF`."""
    directory = root / room.id
    for folder in ("rgb", "depth", "instance"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    for n in range(len(room.rgb)):
        Image.fromarray(room.rgb[n]).save(directory / f"rgb/{n:04d}.jpg", quality=95, subsampling=0)
        raw = np.round(room.depth[n] / DEPTH_SCALE).astype(np.uint16)
        Image.fromarray(raw).save(directory / f"depth/{n:04d}.png")
        Image.fromarray(room.instance[n].astype(np.uint8)).save(directory / f"instance/{n:04d}.png")
    listing = {
        "intrinsics": room.intrinsics.tolist(),
        "cam_to_world": room.cam_to_world.tolist(),
        "instances": [
            {"id": ident, "class": cls, "model": "", "name": f"{cls} {ident}"}
            for ident, cls in room.instance_class.items()
        ],
    }
    (directory / "room.json").write_text(json.dumps(listing))
    contents = {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*.*")}
    lines = [f"{name}\0{hashlib.sha256(content).hexdigest()}\n" for name, content in sorted(contents.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


if __name__ == "__main__":
    write_rooms(Path(sys.argv[1]))
