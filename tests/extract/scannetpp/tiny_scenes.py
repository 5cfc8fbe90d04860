"""Tiny scenes of ScanNet++ on disk: a ray-cast room in the files of an iPhone, written after their definition.

Poses are ARKit's made OpenCV's, as the release has them; intrinsics count from the centre of the video's first pixel.
Nothing here uses the reader's code; LZ4 blocks are written by hand.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tests.extract.folder.recordings import write_video
from tests.extract.tiny_rooms import _cast, _pose

Packing = Literal["lz4", "deflate", "whole"]
DEPTH_SIZE = (192, 256)
VIDEO_SIZE = (72, 96)
FRAMES = 24
TRAIN, VAL, TEST = "036bce3393", "0cf2e9402d", "0d2ee665be"
COLOURS = np.array([(40, 40, 60), (150, 90, 50), (200, 200, 190), (60, 160, 70), (230, 190, 40), (90, 40, 160)])


@dataclass(frozen=True)
class Filmed:
    """What a video shows. Depth is in millimetres; the matrix is of the video, which spans [0, 96] x [0, 72]."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.uint16]
    instance: NDArray[np.int64]
    cam_to_world: NDArray[np.float64]
    matrix: NDArray[np.float64]


def film(frames: int = FRAMES, seed: int = 0) -> Filmed:
    rng = np.random.default_rng(seed)
    half = np.array([2.0, 2.4])
    radii = np.array([0.4, 0.35, 0.3])
    centres = np.column_stack([[-0.9, 0.1, 0.9], [1.2, 1.5, 0.9], radii])
    room = np.array([*-half, 0.0]), np.array([*half, 2.0]), centres, radii
    poses = np.stack([_pose(rng, x, half[1]) for x in np.linspace(-0.5, 0.5, frames)])
    matrix = np.array([[78.0, 0, 49.1], [0, 77.5, 35.2], [0, 0, 1]])
    color = [_seen(room, pose, matrix, VIDEO_SIZE) for pose in poses]
    scale = np.diag([DEPTH_SIZE[1] / VIDEO_SIZE[1], DEPTH_SIZE[0] / VIDEO_SIZE[0], 1])
    deep = [_seen(room, pose, scale @ matrix, DEPTH_SIZE) for pose in poses]
    rgb = COLOURS[np.stack([ids for _, ids in color])].astype(np.uint8)
    rgb[:, :8] = 10 * np.arange(frames)[:, None, None, None]  # the number of the frame
    depth = np.round(np.stack([depth for depth, _ in deep]) * 1000).astype(np.uint16)
    return Filmed(rgb, depth, np.stack([ids for _, ids in deep]), poses, matrix)


def _seen(room: Any, pose: NDArray[np.float64], matrix: NDArray[np.float64], size: tuple[int, int]) -> Any:
    u, v = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(matrix).T
    return _cast(pose[:3, 3], rays @ pose[:3, :3].T, *room)


def lz4_block(plain: bytes) -> bytes:
    """A block without matches: a token with the literals' length, the length's rest in 255s, and the literals."""
    rest = len(plain) - 15
    return b"\xf0" + b"\xff" * (rest // 255) + bytes([rest % 255]) + plain


def lz4_run(value: bytes, length: int) -> bytes:
    """A block of two equal bytes over and over: two literals, a match of them 2 bytes before, and 6 literals."""
    assert len(value) == 2
    rest = length - 2 - 6 - 4 - 15
    match = struct.pack("<H", 2) + b"\xff" * (rest // 255) + bytes([rest % 255])
    return b"\x2f" + value + match + b"\x60" + value * 3


def deflated(plain: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(plain) + packer.flush()


def depth_bytes(depth: NDArray[np.uint16], packing: Packing) -> bytes:
    metres = (depth / np.float32(1000)).astype("<f4")
    if packing == "whole":
        return deflated(metres.tobytes())
    packed = [
        lz4_block(frame.astype("<u2").tobytes()) if packing == "lz4" else deflated(exact.tobytes())
        for frame, exact in zip(depth, metres, strict=True)
    ]
    return b"".join(struct.pack("<I", len(each)) + each for each in packed)


def cameras(filmed: Filmed, without: Collection[int] = ()) -> dict[str, Any]:
    stored = filmed.matrix.copy()
    stored[:2, 2] -= 0.5
    return {
        f"frame_{n:06d}": {
            "timestamp": 1000.5 + n / 60,
            "pose": np.eye(4).tolist(),
            "intrinsic": stored.tolist(),
            "imu": {"gravity": [0, -1, 0], "rotate_rate": [0, 0, 0], "acceleration": [0, 0, 0]},
            "aligned_pose": pose.astype(np.float32).tolist(),
        }
        for n, pose in enumerate(filmed.cam_to_world)
        if n not in without
    }


def write_scene(
    root: Path, scene: str, filmed: Filmed, packing: Packing = "lz4", without: Collection[int] = ()
) -> Path:
    """The iPhone's part. Poses of the frames `without` are left out."""
    folder = root / "data" / scene / "iphone"
    folder.mkdir(parents=True)
    write_video(folder / "rgb.mkv", filmed.rgb)
    (folder / "depth.bin").write_bytes(depth_bytes(filmed.depth, packing))
    (folder / "pose_intrinsic_imu.json").write_text(json.dumps(cameras(filmed, without)))
    return folder


def write_lists(root: Path, train: Sequence[str], val: Sequence[str]) -> None:
    (root / "splits").mkdir(exist_ok=True)
    for name, scenes in (("nvs_sem_train", train), ("nvs_sem_val", val)):
        (root / f"splits/{name}.txt").write_text("\n".join(scenes) + "\n")


def write_release(root: Path, filmed: Filmed) -> Path:
    """Scenes of train, of val (held out of official train) and of official val. Returns the first one's folder."""
    write_lists(root, [TRAIN, VAL], [TEST])
    write_scene(root, VAL, filmed, "deflate")
    write_scene(root, TEST, filmed, "whole")
    return write_scene(root, TRAIN, filmed)
