"""Rotations and poses, checked: what is no rigid motion is refused, what is not known is all zero."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64

from extract.errors import DataError

TOLERANCE = 1e-3
"""How far R R^T may be from the identity, and the length of a quaternion from 1 (ten times that): rounded decimals."""


def unknown() -> Float64[np.ndarray, "4 4"]:
    """The pose of a camera that nobody knows."""
    return np.zeros((4, 4))


def from_quaternion(wxyz: Float64[np.ndarray, " 4"], where: str) -> Float64[np.ndarray, "3 3"]:
    """Rotation of a unit quaternion, Hamilton's convention, real part first; it is normalised.

    Raises `DataError` if its length is not about 1.
    """
    from scipy.spatial.transform import Rotation

    length = math.hypot(*wxyz.tolist())
    if not abs(length - 1) <= 10 * TOLERANCE:
        raise DataError(
            f"{where}: a quaternion of length {length:.4g}; a rotation has length 1. Remedy: write it anew."
        )
    return np.asarray(Rotation.from_quat(wxyz[[1, 2, 3, 0]]).as_matrix())


def pose(rotation: Float64[np.ndarray, "3 3"], translation: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, "4 4"]:
    """[R t; 0 1]."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, translation
    return matrix


def inverse(matrix: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """Inverse of a rigid motion: [R^T  -R^T t]."""
    rotation = matrix[:3, :3].T
    return pose(rotation, -rotation @ matrix[:3, 3])


def matrix_of_text(text: bytes) -> Float64[np.ndarray, "4 4"]:
    """A matrix written as four lines of four numbers, of which -inf is one. Raises `ValueError`."""
    values = np.array(
        [[float(each) for each in line.split()] for line in text.split(b"\n") if line.strip()], np.float64
    )
    if values.shape != (4, 4):
        raise ValueError(f"expected four lines of four numbers, got an array of shape {values.shape}")
    return values


def checked(matrix: Float64[np.ndarray, "4 4"], where: str, tolerance: float = TOLERANCE) -> Float64[np.ndarray, "4 4"]:
    """The rigid motion that `matrix` is but for rounding (its rotation the nearest one, by singular values).

    A matrix that is not finite is a pose that is not known: all zero. R R^T may be `tolerance` from the identity.

    Raises:
        DataError: it is scaled, sheared or mirrored. A scale is not taken out, since it cannot be told whether the
            positions have it too.
    """
    if not np.isfinite(matrix).all():
        return unknown()
    rotation = matrix[:3, :3]
    with np.errstate(over="ignore", invalid="ignore"):
        error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
        determinant = float(np.linalg.det(rotation))
    if not error <= tolerance or determinant < 0 or not np.array_equal(matrix[3], (0, 0, 0, 1)):
        raise DataError(
            f"{where}: no rigid motion: R R^T is {error:.2g} from the identity, det R = {determinant:.4g}, "
            f"last row {matrix[3].tolist()}. Remedy: write rotations without scale, unknown poses as NaN."
        )
    left, _, right = np.linalg.svd(rotation)
    return pose(left @ right, matrix[:3, 3])
