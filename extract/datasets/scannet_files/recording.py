"""What a recording of a scan offers, whichever files it lies in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

from extract.datasets.scannet_files.errors import damaged

Kind = Literal["color", "depth", "pose"]
_RIGID = 1e-2
"""How far a rotation may be from orthonormal: poses are float32, and exported with six decimals."""
_OFF_CENTRE = 0.25
"""How far a principal point may lie from the middle, in widths: calibrations of ScanNet are within a few pixels."""


@dataclass(frozen=True)
class Cameras:
    """Intrinsics in pixels of the pictures as they are stored, each spanning [0, width] x [0, height].

    Attributes:
        color, depth: of the two cameras; `depth` is `None` without depth.
        color_size, depth_size: (height, width).
        registered: depth was moved to the place of the colour camera; false = the two see from different places.
    """

    color: Float64[np.ndarray, "3 3"]
    color_size: tuple[int, int]
    depth: Float64[np.ndarray, "3 3"] | None
    depth_size: tuple[int, int] | None
    registered: bool


class Recording(ABC):
    """Frames of one scan in the order they were recorded. Position k has the frame number `numbers[k]`.

    Threads may read at once.

    Attributes:
        where: the file or folder.
        numbers: frame numbers, ascending; pictures of instances are named by them.
        has_depth: there are depth pictures.
    """

    where: Path
    numbers: Sequence[int]
    has_depth: bool

    @abstractmethod
    def cameras(self) -> Cameras:
        """Both cameras. Raises `DataError`."""

    @abstractmethod
    def color(self, position: int) -> UInt8[np.ndarray, "y x 3"]:
        """Decode a colour picture. Raises `DataError`."""

    @abstractmethod
    def depth(self, position: int) -> Float32[np.ndarray, "y x"]:
        """Decode a depth picture, planar z in metres, 0 = invalid. Raises `DataError`."""

    @abstractmethod
    def pose(self, position: int) -> Float64[np.ndarray, "4 4"]:
        """Camera to world, OpenCV axes, metres; all zero if tracking was lost. Raises `DataError`."""

    @abstractmethod
    def read(self, kind: Kind, position: int) -> bytes:
        """The bytes of one picture or pose as they are stored. Raises `DataError`."""

    @abstractmethod
    def head(self) -> bytes:
        """The bytes that describe the cameras. Raises `DataError`."""

    @abstractmethod
    def files(self, positions: Sequence[int], bank: Sequence[int]) -> list[Path]:
        """Files that colour at `positions`, and depth and poses at `bank`, are read from."""


def pinhole(values: Float[np.ndarray, "4 4"], size: tuple[int, int], where: object) -> Float64[np.ndarray, "3 3"]:
    """Intrinsics of a picture of `size` (height, width) that spans [0, width] x [0, height].

    ScanNet counts from the centre of the first pixel, hence + 0.5: its tools unproject whole-numbered pixels, and the
    scanner's default principal point of depth is (319.5, 239.5) = ((640 - 1) / 2, (480 - 1) / 2).
    """
    matrix = values[:3, :3].astype(np.float64)
    matrix[:2, 2] += 0.5
    height, width = size
    middle = matrix[:2, 2] / (width, height) - 0.5
    if not (
        np.isfinite(matrix).all()
        and matrix[0, 0] > 0
        and matrix[1, 1] > 0
        and (matrix[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]] == (0, 0, 0, 0, 1)).all()
        and (np.abs(middle) < _OFF_CENTRE).all()
    ):
        raise damaged(where, f"no intrinsics of a pinhole camera with {width}x{height} pixels: {values.tolist()}")
    return matrix


def known_pose(values: Float[np.ndarray, "4 4"], where: object) -> Float64[np.ndarray, "4 4"]:
    """The pose, or all zero where tracking was lost, which ScanNet marks by -inf. Raises `DataError` if not rigid."""
    pose = values.astype(np.float64)
    if not np.isfinite(pose).all():
        return np.zeros((4, 4))
    rotation = pose[:3, :3]
    if not (
        np.allclose(rotation @ rotation.T, np.eye(3), atol=_RIGID)
        and np.linalg.det(rotation) > 0
        and (pose[3] == (0, 0, 0, 1)).all()
    ):
        raise damaged(where, f"the camera pose is no rigid motion: {values.tolist()}")
    return pose


def is_identity(values: Float[np.ndarray, "4 4"]) -> bool:
    """Whether an extrinsic matrix moves nothing."""
    return bool(np.allclose(values, np.eye(4), atol=1e-4))
