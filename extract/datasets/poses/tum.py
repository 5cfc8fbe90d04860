"""Lists and trajectories of the TUM RGB-D benchmark, which many SLAM systems and recorders write.

Source of the format: Sturm et al., "A Benchmark for the Evaluation of RGB-D SLAM Systems", IROS 2012, and its page
"File formats" (cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats). Axes are OpenCV's, poses camera-to-world in
metres.

    rgb.txt, depth.txt    timestamp file_name
    groundtruth.txt       timestamp tx ty tz qx qy qz qw
    lines that begin with # are comments; timestamps are in seconds; depth pictures hold 1/5000 m
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from extract.datasets.poses.rigid import from_quaternion, pose, unknown
from extract.errors import DataError

DEPTH_SCALE = 1 / 5000
"""Metres per unit of a depth picture."""
WITHIN = 0.02
"""Seconds that two things of one moment may be apart: the default of the benchmark's own `associate.py`."""


@dataclass(frozen=True)
class Listing:
    """Files of a list, in the order of time.

    Attributes:
        times: in seconds, ascending.
        names: paths, relative to the folder of the list.
    """

    times: Float64[np.ndarray, " file"]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Trajectory:
    """Poses in the order of time; `cam_to_world` is all zero where a line says NaN."""

    times: Float64[np.ndarray, " pose"]
    cam_to_world: Float64[np.ndarray, "pose 4 4"]


def parse_listing(content: bytes, where: str) -> Listing:
    """A list of pictures. Raises `DataError` for a line that is none, or if there is none. `where` names the file."""
    rows = []
    for line, number in _lines(content, where):
        parts = line.split(maxsplit=1)
        if len(parts) != 2:
            raise DataError(f"{where}, line {number}: expected `timestamp file`, got {line[:80]!r}.")
        rows.append((_time(parts[0], where, number), parts[1].strip().replace("\\", "/")))
    if not rows:
        raise DataError(f"{where}: lists no file. Remedy: write one line `timestamp file` per picture.")
    rows.sort(key=lambda row: row[0])
    return Listing(np.array([time for time, _ in rows]), tuple(name for _, name in rows))


def parse_trajectory(content: bytes, where: str) -> Trajectory:
    """A trajectory. Raises `DataError` for a line that is none, or a quaternion of another length than 1."""
    rows = []
    for line, number in _lines(content, where):
        parts = line.split()
        try:
            values = np.array([float(part) for part in parts[1:]])
        except ValueError:
            values = np.empty(0)
        if len(parts) != 8 or len(values) != 7:
            raise DataError(f"{where}, line {number}: expected `timestamp tx ty tz qx qy qz qw`, got {line[:80]!r}.")
        rows.append((_time(parts[0], where, number), _pose(values, f"{where}, line {number}")))
    if not rows:
        raise DataError(f"{where}: has no pose. Remedy: write one line per pose, or remove the file.")
    rows.sort(key=lambda row: row[0])
    return Trajectory(np.array([time for time, _ in rows]), np.stack([each for _, each in rows]))


def nearest(
    times: Float64[np.ndarray, " known"], wanted: Float64[np.ndarray, " wanted"], within: float = WITHIN
) -> Int64[np.ndarray, " wanted"]:
    """Index of the entry of `times` (ascending) nearest to each wanted time; -1 if it is more than `within` s away.

    Of two equally near the earlier is taken. The benchmark's script pairs one to one; here two frames may share one.
    """
    right = np.clip(np.searchsorted(times, wanted), 1, max(len(times) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(times) - 1)
    best = np.where(np.abs(times[right] - wanted) < np.abs(times[left] - wanted), right, left)
    # A microsecond is forgiven: times near 1.3e9 s have steps of 2e-7 s in float64.
    return np.where(np.abs(times[best] - wanted) <= within + 1e-6, best, -1).astype(np.int64)


def _pose(values: Float64[np.ndarray, " 7"], where: str) -> Float64[np.ndarray, "4 4"]:
    if not np.isfinite(values).all():
        return unknown()
    x, y, z, w = values[3:]
    return pose(from_quaternion(np.array([w, x, y, z]), where), values[:3])


def _lines(content: bytes, where: str) -> Iterator[tuple[str, int]]:
    """Lines that are no comments, with their numbers from 1."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: is no text ({error}). Remedy: export it anew.") from error
    for number, line in enumerate(text.splitlines(), 1):
        if (line := line.strip()) and not line.startswith("#"):
            yield line, number


def _time(text: str, where: str, number: int) -> float:
    try:
        time = float(text)
    except ValueError:
        time = math.nan
    if not math.isfinite(time):
        raise DataError(f"{where}, line {number}: {text!r} is no timestamp in seconds.")
    return time
