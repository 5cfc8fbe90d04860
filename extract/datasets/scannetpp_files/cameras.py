"""pose_intrinsic_imu.json: pose and intrinsics of frames of the video, as ARKit found them.

    {"frame_000000": {"timestamp": s, "pose": 4x4, "intrinsic": 3x3, "imu": {…}, "aligned_pose": 4x4}, …}

`frame_000000` is the first frame of the video; frames may be left out. `aligned_pose` is the camera in the coordinates
of the scene's mesh, camera-to-world, metres, rows first, OpenCV axes (x right, y down, z forward): iphone/arkit_pcl.py
of github.com/scannetpp/scannetpp (commit fe56520) puts depth into the world as aligned_pose (z K^-1 (u, v, 1)), without
turning an axis. `intrinsic` is ARKit's, of the video's own pixels, and counts from the centre of the first one ("The
origin is at the center of the upper-left pixel", ARCamera.h).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from extract.datasets._sources import content
from extract.datasets.poses.camera import Camera
from extract.datasets.poses.rigid import checked
from extract.datasets.scannetpp_files.errors import FAULTS

Entry = Mapping[str, Any]
RIGID = 1e-2
"""How far R R^T of a pose may be from the identity: ARKit's are of single precision, and were aligned afterwards."""
_LARGEST = 1 << 28
"""Bytes; a frame has some 2 kB, and recordings have some 10,000 frames."""
_OFF_CENTRE = 0.25
"""How far a principal point may lie from the middle, in widths. In pixels of another size it lies further away."""
_NAME = re.compile(r"frame_([0-9]{6,9})")


def read_entries(path: Path) -> dict[int, Entry]:
    """Entries by frame number, ascending. Their content is checked when it is used. Raises `DataError`."""
    text = content(path, _LARGEST, FAULTS)
    try:
        whole = json.loads(text)
        named = {_NAME.fullmatch(name): entry for name, entry in whole.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise FAULTS.unreadable(path, error) from error
    entries = {int(match[1]): entry for match, entry in named.items() if match}
    if len(entries) < len(whole) or not entries:
        strange = next((name for name in whole if not _NAME.fullmatch(name)), "nothing, or one frame twice")
        raise FAULTS.damaged(path, f"expected entries such as frame_000000, got {strange[:80]!r}")
    return dict(sorted(entries.items()))


def cam_to_world(entry: Entry, where: str) -> Float64[np.ndarray, "4 4"]:
    """OpenCV axes, metres, in the coordinates of the mesh; all zero = unknown. Raises `DataError`."""
    return checked(_matrix(entry, "aligned_pose", (4, 4), where), where, RIGID)


def intrinsics(entry: Entry, video: tuple[int, int], target: tuple[int, int], where: str) -> Float64[np.ndarray, "3 3"]:
    """Pinhole matrix for pictures of `target` size that span [0, width] x [0, height]; `video` is the video's size.

    Raises:
        DataError: it is no pinhole, or of pictures of another size.
    """
    matrix = _matrix(entry, "intrinsic", (3, 3), where)
    middle = (matrix[:2, 2] + 0.5) / video[::-1] - 0.5
    if (matrix[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]] != (0, 0, 0, 0, 1)).any() or not (np.abs(middle) < _OFF_CENTRE).all():
        raise FAULTS.damaged(where, f"no intrinsics of a video of {video[1]}x{video[0]} pixels: {matrix.tolist()}")
    (fx, _, cx), (_, fy, cy), _ = matrix.tolist()
    return Camera("PINHOLE", video, (fx, fy), (cx + 0.5, cy + 0.5)).intrinsics(target, where)


def _matrix(entry: Entry, key: str, shape: tuple[int, int], where: str) -> Float64[np.ndarray, "row column"]:
    """Rows, or all numbers in one list. `null` stands for a number that is not known."""
    try:
        return np.array(entry[key], np.float64).reshape(shape)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FAULTS.damaged(where, f"{key} is no matrix of {shape[0]}x{shape[1]} numbers ({error})") from error
