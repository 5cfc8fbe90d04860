"""Recordings on disk, written from the formats' definitions: pictures, videos, and the labels of tiny rooms."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import roma
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.extract.tiny_rooms import TinyRoom, make_room

Poses = Literal["nerfstudio", "tum", "colmap-text", "colmap-binary"]
SIZE = (40, 56)
FLIP = np.array([[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1.0]])
START = 1305031102.175304


def room(seed: int = 0, frames: int = 3, size: tuple[int, int] = SIZE) -> TinyRoom:
    return make_room(f"room_{seed}", "train", size, frames, seed)


def say(path: Path, **content: Any) -> None:
    """Write a JSON file of settings."""
    path.write_text(json.dumps(content))


def write(folder: Path, room: TinyRoom, poses: Poses | None = None, *, labels: bool = True) -> Path:
    """One scene with pictures, and, if asked for, depth, instances and poses."""
    images = folder / ("rgb" if poses == "tum" else "images")
    images.mkdir(parents=True)
    names = [f"{START + n / 30:.6f}.png" if poses == "tum" else f"frame_{n:02d}.png" for n in range(len(room.rgb))]
    for name, rgb in zip(names, room.rgb, strict=True):
        Image.fromarray(rgb).save(images / name)
    if labels:
        write_labels(folder, room, names, per_metre=5000 if poses == "tum" else 1000)
    if poses == "tum":
        write_tum(folder, room, names, depth=labels)
    elif poses == "nerfstudio":
        write_transforms(folder, room, [f"images/{name}" for name in names])
    elif poses is not None:
        write_colmap(folder / "sparse/0", room, names, binary=poses == "colmap-binary")
    return folder


def write_labels(folder: Path, room: TinyRoom, names: Sequence[str], per_metre: int = 1000) -> None:
    for kind in ("depth", "instance"):
        (folder / kind).mkdir()
    for n, name in enumerate(names):
        Image.fromarray(np.round(room.depth[n] * per_metre).astype(np.uint16)).save(folder / "depth" / name)
        Image.fromarray(room.instance[n].astype(np.uint8)).save(folder / "instance" / name)
    (folder / "instances.json").write_text(json.dumps({str(k): v for k, v in room.instance_class.items()}))


def write_transforms(folder: Path, room: TinyRoom, names: Sequence[str], **said: Any) -> None:
    height, width = room.rgb.shape[1:3]
    k = room.intrinsics
    camera = {"w": width, "h": height, "fl_x": k[0, 0], "fl_y": k[1, 1], "cx": k[0, 2], "cy": k[1, 2]}
    frames = [
        {"file_path": name, "transform_matrix": (pose @ FLIP).tolist()}
        for name, pose in zip(names, room.cam_to_world, strict=True)
    ]
    (folder / "transforms.json").write_text(
        json.dumps({"camera_model": "OPENCV", "k1": 0.0, **camera, **said, "frames": frames})
    )


def write_tum(folder: Path, room: TinyRoom, names: Sequence[str], *, depth: bool) -> None:
    """Depth is 5 ms late, poses come at 100 Hz beside the ones that count."""
    times = [START + n / 30 for n in range(len(names))]
    (folder / "rgb.txt").write_text(
        "# colour\n" + "".join(f"{t:.6f} rgb/{n}\n" for t, n in zip(times, names, strict=True))
    )
    if depth:
        lines = "".join(f"{t + 0.005:.6f} depth/{n}\n" for t, n in zip(times, names, strict=True))
        (folder / "depth.txt").write_text(lines)
    quaternions = roma.rotmat_to_unitquat(torch.tensor(room.cam_to_world[:, :3, :3])).numpy()
    lines = ""
    for t, pose, q in zip(times, room.cam_to_world, quaternions, strict=True):
        line = " ".join(f"{value:.9f}" for value in (*pose[:3, 3], *q))
        lines += f"{t - 0.010:.4f} 9 9 9 0 0 0 1\n{t + 0.001:.4f} {line}\n{t + 0.011:.4f} 9 9 9 0 0 0 1\n"
    (folder / "groundtruth.txt").write_text("# timestamp tx ty tz qx qy qz qw\n" + lines)
    height, width = room.rgb.shape[1:3]
    k = room.intrinsics
    intrinsics = {"fl_x": k[0, 0], "fl_y": k[1, 1], "cx": k[0, 2], "cy": k[1, 2], "w": width, "h": height}
    (folder / "scene.json").write_text(json.dumps({"intrinsics": intrinsics}))


def write_colmap(folder: Path, room: TinyRoom, names: Sequence[str], *, binary: bool) -> None:
    """Camera 7 is PINHOLE; every image has two 2D points, but the last, which has none."""
    folder.mkdir(parents=True)
    height, width = room.rgb.shape[1:3]
    k = room.intrinsics
    camera = (k[0, 0], k[1, 1], k[0, 2], k[1, 2])
    world_to_cam = np.linalg.inv(room.cam_to_world)
    quaternions = roma.rotmat_to_unitquat(torch.tensor(world_to_cam[:, :3, :3])).numpy()[:, [3, 0, 1, 2]]
    rows = list(zip(names, quaternions, world_to_cam[:, :3, 3], strict=True))
    if binary:
        (folder / "cameras.bin").write_bytes(struct.pack("<QIiQQ4d", 1, 7, 1, width, height, *camera))
        content = struct.pack("<Q", len(rows))
        for n, (name, q, t) in enumerate(rows):
            points = 2 * (n < len(rows) - 1)
            content += struct.pack("<I7dI", n + 3, *q, *t, 7) + name.encode() + b"\0"
            content += struct.pack("<Q", points) + struct.pack("<ddQ", 1.5, 2.5, 2**64 - 1) * points
        (folder / "images.bin").write_bytes(content)
        return
    numbers = " ".join(map(repr, map(float, camera)))
    (folder / "cameras.txt").write_text(f"# Camera list\n7 PINHOLE {width} {height} {numbers}\n")
    text = "# Image list with two lines of data per image:\n"
    for n, (name, q, t) in enumerate(rows):
        text += f"{n + 3} {' '.join(repr(float(v)) for v in (*q, *t))} 7 {name}\n"
        text += "1.5 2.5 -1 3.5 4.5 12\n" if n < len(rows) - 1 else "\n"
    (folder / "images.txt").write_text(text)


def moving_pictures(count: int, size: tuple[int, int] = (48, 64), seed: int = 0) -> NDArray[np.uint8]:
    """Blocks that wander, and a bar that tells the number of the frame."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 255, (size[0] // 8, size[1] // 8, 3), np.uint8)
    frames = np.stack([np.kron(np.roll(blocks, n, axis=1), np.ones((8, 8, 1), np.uint8)) for n in range(count)])
    for n, frame in enumerate(frames):
        frame[:4] = 255 * (np.arange(size[1]) < n)[None, :, None]
    return frames


def write_video(
    path: Path,
    frames: NDArray[np.uint8],
    codec: str = "libx264rgb",
    times: Sequence[int] | None = None,
    rotation: int | None = None,
    faststart: bool = False,
) -> None:
    """Without loss, but for `bframes`: H.264 with frames out of order, nearly so. `times` are in 1/600 s; `rotation` is
    in degrees anticlockwise, as the display matrix says it.
    """
    options, layout = {
        "libx264rgb": ({"qp": "0", "g": "12"}, "rgb24"),
        "bframes": ({"crf": "4", "x264-params": "keyint=12:bframes=3:b-adapt=0:open-gop=1"}, "rgb24"),
        "ffv1": ({"g": "8"}, "bgr0"),
        "libvpx-vp9": ({"lossless": "1", "g": "10"}, "gbrp"),
    }[codec]
    with av.open(str(path), "w", options={"movflags": "faststart"} if faststart else {}) as container:
        stream = container.add_stream("libx264rgb" if codec == "bframes" else codec, rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], layout
        stream.time_base = stream.codec_context.time_base = Fraction(1, 600)
        for n, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = times[n] if times else 20 * n, Fraction(1, 600)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if rotation is not None:
        turn(path, {90: (0, -1, 1, 0), -90: (0, 1, -1, 0), 180: (-1, 0, 0, -1)}[rotation])


def turn(path: Path, matrix: tuple[float, float, float, float]) -> None:
    """Write a b c d of the display matrix into the track header of an MP4 (ISO/IEC 14496-12, 6.2.2 and 8.3.2)."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    a, b, c, d = (round(65536 * value) for value in matrix)
    content[at : at + 20] = np.array([a, b, 0, c, d], ">i4").tobytes()
    path.write_bytes(content)
