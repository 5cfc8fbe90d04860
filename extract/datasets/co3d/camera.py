"""Cameras of CO3D, which are PyTorch3D's, in the conventions of this project.

PyTorch3D: points are rows, x_cam = x_world R + T, with axes x left, y up, z forward. A point projects to
x_ndc = f_x x_cam / z + p_x, likewise y; NDC has x left and y up too, and its origin in the centre of the picture. The
picture's corner, not the centre of its first pixel, is where its pixels begin ("(0, 0) is the top left corner of the
top left pixel", pytorch3d/docs/notes/cameras.md), as in this project: nothing is shifted by half a pixel.

Two formats of NDC (`intrinsics_format`):
  ndc_norm_image_bounds  the picture spans [-1, 1] x [-1, 1], whatever its sides
  ndc_isotropic          the shorter side spans [-1, 1], the longer one as much as it is longer
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from extract.errors import DataError

if TYPE_CHECKING:
    from extract.datasets.co3d.lists import Viewpoint

RIGID = 1e-3
"""How far R^T R may be from the identity; the release rounds to single precision."""


def cam_to_world(view: Viewpoint) -> Float64[np.ndarray, "4 4"]:
    """Camera to world, OpenCV axes (x right, y down, z forward). All zero if R or T is not finite: unknown.

    OpenCV's camera has x and y turned round: x_cv = F x_cam with F = diag(-1, -1, 1), for columns. Its definition,
    x_cam = R^T x_world + T, gives x_world = R (F x_cv - T): rotation R F, centre -R T.

    Raises:
        DataError: R is no rotation.
    """
    rotation, shift = np.array(view.R, np.float64), np.array(view.T, np.float64)
    pose = np.zeros((4, 4))
    if not (np.isfinite(rotation).all() and np.isfinite(shift).all()):
        return pose
    if not (np.allclose(rotation.T @ rotation, np.eye(3), atol=RIGID) and np.linalg.det(rotation) > 0):
        raise DataError("the R of its viewpoint is no rotation")
    pose[:3, :3] = rotation * (-1, -1, 1)
    pose[:3, 3] = -rotation @ shift
    pose[3, 3] = 1
    return pose


def intrinsics(view: Viewpoint, size: tuple[int, int], target: tuple[int, int]) -> Float64[np.ndarray, "3 3"]:
    """Pinhole matrix in pixels of the picture stretched from `size` to `target`, both (height, width).

    A column is u = width / 2 - s_x x_ndc, with s_x = width / 2 or, isotropic, half the shorter side; x_cam = -x_cv. So
    the focal length is s_x f_x, and the principal point width / 2 - s_x p_x. Stretching multiplies both.
    """
    half = np.array(size[::-1], np.float64) / 2
    scale = half if view.intrinsics_format == "ndc_norm_image_bounds" else np.full(2, half.min())
    stretch = np.array(target[::-1]) / (2 * half)
    focal = scale * view.focal_length * stretch
    centre = (half - scale * view.principal_point) * stretch
    return np.array([[focal[0], 0, centre[0]], [0, focal[1], centre[1]], [0, 0, 1]])
