"""A tiny release of ARKitScenes: a ray-cast room with balls, in the files that DATA.md of the release describes.

Poses are written as the release has them, world-to-camera as axis times angle and translation; cameras as ARKit's
numbers for 1920x1440, counted from the centre of the first pixel, over 7.5. Nothing here uses the reader's code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.extract.tiny_rooms import _cast, _pose

SIZE = (192, 256)
FRAMES = 24
START = 6845.706
COLOURS = np.array([(40, 40, 60), (150, 90, 50), (200, 200, 190), (60, 160, 70), (230, 190, 40), (90, 40, 160)])
TABLE = "video_id,visit_id,fold\n"


@dataclass(frozen=True)
class Filmed:
    """What a video shows. Depth is in millimetres; the matrix is of pictures that span [0, 256] x [0, 192]."""

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
    matrix = np.array([[212.0, 0, 131.2], [0, 211.6, 94.7], [0, 0, 1]])
    u, v = np.meshgrid(np.arange(SIZE[1]) + 0.5, np.arange(SIZE[0]) + 0.5)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(matrix).T
    hits = [_cast(pose[:3, 3], rays @ pose[:3, :3].T, *room) for pose in poses]
    instance = np.stack([ids for _, ids in hits])
    rgb = COLOURS[instance].astype(np.uint8)
    rgb[:, :8] = 10 * np.arange(frames)[:, None, None, None]  # the number of the frame
    depth = np.round(np.stack([depth for depth, _ in hits]) * 1000).astype(np.uint16)
    return Filmed(rgb, depth, instance, poses, matrix)


def seconds(frame: int) -> float:
    """Of a frame: ten a second."""
    return START + frame / 10


def name(video: str, frame: int) -> str:
    return f"{video}_{seconds(frame):.3f}"


def write_video(release: Path, fold: str, video: str, filmed: Filmed) -> Path:
    """Of `3dod` or `raw`, which the last part of `release` says. Returns the folder of its parts."""
    raw = release.name == "raw"
    folder = release / fold / video / ("" if raw else f"{video}_frames")
    for part in ("lowres_wide", "lowres_depth", "lowres_wide_intrinsics", *(["confidence"] if raw else [])):
        (folder / part).mkdir(parents=True)
    for n in range(len(filmed.rgb)):
        write_frame(folder, name(video, n), filmed.rgb[n], filmed.depth[n])
        # Names of cameras may be a millisecond off.
        camera = f"{video}_{seconds(n) + (n % 3 - 1) / 1000:.3f}"
        (folder / f"lowres_wide_intrinsics/{camera}.pincam").write_text(pincam(filmed.matrix))
    if raw:  # 60 frames a second, poses of 10
        for n in range(len(filmed.rgb) - 1):
            between = f"{video}_{seconds(n) + 1 / 60:.3f}"
            write_frame(folder, between, np.zeros_like(filmed.rgb[n]), np.zeros_like(filmed.depth[n]))
            (folder / f"lowres_wide_intrinsics/{between}.pincam").write_text(pincam(filmed.matrix))
    (folder / "lowres_wide.traj").write_text(trajectory(filmed.cam_to_world))
    return folder


def write_frame(folder: Path, name: str, rgb: NDArray[np.uint8], depth: NDArray[np.uint16]) -> None:
    Image.fromarray(rgb).save(folder / f"lowres_wide/{name}.png", compress_level=1)
    Image.fromarray(depth).save(folder / f"lowres_depth/{name}.png", compress_level=1)
    if (folder / "confidence").is_dir():
        Image.fromarray(np.zeros(SIZE, np.uint8)).save(folder / f"confidence/{name}.png")


def pincam(matrix: NDArray[np.float64]) -> str:
    """ARKit's matrix is of 1920x1440, its origin the centre of the first pixel."""
    full = matrix[:2] * 7.5
    full[:, 2] -= 0.5
    scaled = full / 7.5
    return f"256 192 {scaled[0, 0]:g} {scaled[1, 1]:g} {scaled[0, 2]:g} {scaled[1, 2]:g}"


def trajectory(cam_to_world: NDArray[np.float64]) -> str:
    """Ten poses a second, up to 4 ms off their frames."""
    world_to_cam = np.linalg.inv(cam_to_world)
    turns = roma.rotmat_to_rotvec(torch.tensor(world_to_cam[:, :3, :3])).numpy()
    lines = []
    for n, (turn, pose) in enumerate(zip(turns, world_to_cam, strict=True)):
        time = seconds(n) + (n % 9 - 4) / 1000
        lines.append(f"{time:.8f} " + " ".join(f"{value:.12g}" for value in (*turn, *pose[:3, 3])))
    return "\n".join(lines) + "\n"


def write_release(root: Path, filmed: Filmed, release: str = "3dod") -> Path:
    """Three videos: of a visit of train, of one of val, and of official Validation. Returns the first one's parts."""
    folder = root / release
    first = write_video(folder, "Training", "41000001", filmed)
    write_video(folder, "Training", "41000002", filmed)
    write_video(folder, "Validation", "42000001", filmed)
    rows = "41000001,420011,Training\n41000002,420015,Training\n42000001,420050,Validation\n"
    (folder / "metadata.csv").write_text(TABLE + rows)
    return first
