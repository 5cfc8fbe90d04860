"""One video of ARKitScenes: its frames, their poses and intrinsics.

lowres_wide/<video>_<seconds>.png                    colour, 256x192
lowres_depth/<video>_<seconds>.png                   16 bits, millimetres, 256x192
lowres_wide_intrinsics/<video>_<seconds>.pincam      width height fx fy cx cy; its time may be a millisecond off
lowres_wide.traj                                     seconds, rotation (axis times angle, radians), translation (metres)

Format after DATA.md and threedod/benchmark_scripts/utils/tenFpsDataLoader.py of github.com/apple/ARKitScenes. A line of
the trajectory is world-to-camera: that code inverts it. Camera axes are OpenCV's (x right, y down, z forward), as Apple
says in issue 81 there, and as `rectify_im.py` there takes the world's z in camera axes: -y is up.

Principal points count from the centre of the first pixel of ARKit's picture of 1920x1440 ("The origin is at the center
of the upper-left pixel", ARCamera.h), then divided by 7.5: a released one is (127.933, 95.9333) = (959.5, 719.5) / 7.5.
The corner is half a pixel of *that* picture away, 0.5 / 7.5 of one of 256x192.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from extract.datasets._sources import Faults, content
from extract.datasets.poses.camera import Camera
from extract.datasets.poses.rigid import inverse, pose, unknown
from extract.datasets.poses.tum import nearest

SIZE = (192, 256)
"""(height, width) of colour and depth."""
ARKIT_SIZE = (1440, 1920)
"""(height, width) of the pictures that ARKit's intrinsics are of, before they are scaled to `SIZE`."""
WITHIN = 0.005
"""Seconds that a pose may be from its frame, as in the official code."""
COLOUR, DEPTH, INTRINSICS, TRAJECTORY = "lowres_wide", "lowres_depth", "lowres_wide_intrinsics", "lowres_wide.traj"
FAULTS = Faults("Download the video anew, or move its folder away to leave it out.")
_LARGEST = 1 << 26
_BESIDE = (-0.001, 0.001)
_FARTHEST = 1e10


@dataclass(frozen=True)
class Frame:
    """A frame with colour, depth and pose.

    Attributes:
        name: of its files, `<video>_<seconds>`.
        motion: world to camera: rotation (axis times angle), translation; may be not finite.
    """

    name: str
    motion: tuple[float, ...]

    @property
    def cam_to_world(self) -> Float64[np.ndarray, "4 4"]:
        """OpenCV axes, metres; all zero = unknown."""
        from scipy.spatial.transform import Rotation

        values = np.array(self.motion, np.float64)
        if not np.isfinite(values).all():
            return unknown()
        return inverse(pose(Rotation.from_rotvec(values[:3]).as_matrix(), values[3:]))


def missing_parts(folder: Path) -> list[str]:
    """Names of what a video lacks to be read."""
    absent = [name for name in (COLOUR, DEPTH, INTRINSICS) if not (folder / name).is_dir()]
    return absent + ([] if (folder / TRAJECTORY).is_file() else [TRAJECTORY])


def list_frames(folder: Path, video: str) -> list[Frame]:
    """All frames with colour, depth, and a pose within `WITHIN` seconds, in the order of time. Opens no picture.

    Raw videos have 60 frames a second and 10 poses; of those of the release `3dod` nearly every frame has one.

    Raises:
        DataError: a part cannot be listed, or the trajectory is damaged.
    """
    pattern = re.compile(rf"({re.escape(video)}_([0-9]+\.[0-9]+))\.png")
    try:
        common = set(os.listdir(folder / COLOUR)) & set(os.listdir(folder / DEPTH))
    except OSError as error:
        raise FAULTS.unreadable(error.filename, error) from error
    named = sorted((float(match[2]), match[1]) for match in map(pattern.fullmatch, common) if match)
    if not named:
        return []
    times, motions = _trajectory(folder / TRAJECTORY)
    found = nearest(times, np.array([time for time, _ in named]), WITHIN)
    return [
        Frame(name, tuple(motions[index].tolist()))
        for (_, name), index in zip(named, found.tolist(), strict=True)
        if index >= 0
    ]


def intrinsics_file(folder: Path, name: str) -> Path:
    """The camera of a frame: the file of its name, or of a millisecond beside it. It may not exist."""
    video, _, seconds = name.rpartition("_")
    texts = [seconds, *(f"{float(seconds) + off:.3f}" for off in _BESIDE)]
    paths = [folder / INTRINSICS / f"{video}_{text}.pincam" for text in texts]
    return next((path for path in paths if path.is_file()), paths[0])


def read_intrinsics(path: Path) -> Float64[np.ndarray, "3 3"]:
    """Pinhole matrix for pictures of `SIZE` that span [0, width] x [0, height]. Raises `DataError`."""
    text = _text(path)
    try:
        width, height, fx, fy, cx, cy = (float(number) for number in text.split())
        sound = min(width, height) >= 1 and min(fx, fy) > 0 and 0 < cx < width < np.inf and 0 < cy < height < np.inf
    except ValueError:
        sound = False
    if not sound:
        raise FAULTS.damaged(path, f"expected `width height fx fy cx cy` of a camera, got {text[:80]!r}")
    corner = cx + 0.5 * width / ARKIT_SIZE[1], cy + 0.5 * height / ARKIT_SIZE[0]
    return Camera("PINHOLE", (round(height), round(width)), (fx, fy), corner).intrinsics(SIZE, str(path))


def _trajectory(path: Path) -> tuple[Float64[np.ndarray, " pose"], Float64[np.ndarray, "pose 6"]]:
    """Times, ascending, and motions."""
    rows = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if parts := line.split():
            try:
                rows.append([float(part) for part in parts])
            except ValueError:
                rows.append([])
            if len(rows[-1]) != 7 or not np.isfinite(rows[-1][0]):
                raise FAULTS.damaged(
                    f"{path}, line {number}",
                    f"expected a time, a rotation and a translation (7 numbers), got {line[:80]!r}",
                )
    if not rows:
        raise FAULTS.damaged(path, "has no pose")
    values = np.array(rows, np.float64)
    if (np.abs(values[np.isfinite(values)]) > _FARTHEST).any():
        raise FAULTS.damaged(path, f"holds numbers above {_FARTHEST:g}, which are no seconds, radians or metres")
    values = values[np.argsort(values[:, 0], kind="stable")]
    return values[:, 0], values[:, 1:]


def _text(path: Path) -> str:
    try:
        return content(path, _LARGEST, FAULTS).decode("ascii")
    except UnicodeDecodeError as error:
        raise FAULTS.unreadable(path, error) from error
