"""transforms.json of nerfstudio, which Instant NGP, Polycam, Record3D and many others write too.

Source of the format: docs.nerf.studio, "Data conventions", and the data parser of nerfstudio (Apache-2.0). Camera axes
are OpenGL's (x right, y up, z backward). The principal point counts from the corner of the picture: nerfstudio sends
the ray of pixel (column i, row j) through (i + 0.5, j + 0.5), and takes COLMAP's numbers as they are.

    {"camera_model": "OPENCV", "fl_x", "fl_y", "cx", "cy", "w", "h", "k1" … "p2",     each here, or in every frame
     "applied_transform": 3x4, "applied_scale": s,                                  optional
     "frames": [{"file_path": "images/frame_00001.jpg", "transform_matrix": 4x4 camera-to-world}, …]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from extract.datasets.poses.camera import MOST_SIDE, Camera, PosedImage
from extract.datasets.poses.rigid import checked, inverse
from extract.errors import DataError

OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
_DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
_ANGLES = ("camera_angle_x", "camera_angle_y")
_CAMERA = ("camera_model", "is_fisheye", "w", "h", "fl_x", "fl_y", "cx", "cy", *_ANGLES, *_DISTORTION)


def parse_transforms(content: bytes, where: str) -> list[PosedImage]:
    """All frames, in the order of the file.

    A pose is given in the coordinates before `applied_transform` and `applied_scale`, which are undone: what was saved
    is scale * (transform @ original). A pose that is not finite is unknown.

    Raises:
        DataError: it is no such file, or a pose is no rigid motion. `where` names the file.
    """
    whole, listed = _load(content, where)
    undo, scale = _applied(whole, where)
    images = []
    for name, frame in listed:
        here = f"{where}, {name}"
        saved = _matrix(frame.get("transform_matrix"), here)
        images.append(
            PosedImage(
                name=name.replace("\\", "/"),
                cam_to_world=checked(_undone(saved, undo, scale), here),
                camera=_camera({**whole, **frame}, here),
            )
        )
    return images


def _undone(saved: Float64[np.ndarray, "4 4"], undo: Float64[np.ndarray, "4 4"], scale: float) -> np.ndarray:
    """OpenCV axes; what becomes too large for float64 is not finite, and so a pose that is not known."""
    with np.errstate(over="ignore", invalid="ignore"):
        saved[:3, 3] /= scale
        return np.asarray(undo @ saved @ OPENGL_TO_OPENCV)


def parse_cameras(content: bytes, where: str) -> list[Camera]:
    """Every camera once. No pose is looked at, which makes it many times quicker than `parse_transforms`."""
    whole, listed = _load(content, where)
    differing = {repr([frame.get(key) for key in _CAMERA]): (name, frame) for name, frame in listed}
    return [_camera({**whole, **frame}, f"{where}, {name}") for name, frame in differing.values()]


def _load(content: bytes, where: str) -> tuple[Mapping[str, Any], list[tuple[str, Mapping[str, Any]]]]:
    """The whole, and name and entry of every frame."""
    try:
        whole = json.loads(content)
        return whole, [(str(frame["file_path"]), frame) for frame in whole["frames"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{where}: no transforms.json of nerfstudio ({type(error).__name__}: {error}); it needs `frames` with "
            "`file_path` and `transform_matrix`. Remedy: export it anew."
        ) from error


def _applied(whole: Mapping[str, Any], where: str) -> tuple[Float64[np.ndarray, "4 4"], float]:
    """Inverse of `applied_transform`, and `applied_scale`."""
    transform = checked(_matrix(whole.get("applied_transform", np.eye(4)), where), f"{where}, applied_transform")
    scale = _number(whole, "applied_scale", where) if "applied_scale" in whole else 1.0
    if not transform.any() or not 0 < scale < math.inf:
        raise DataError(f"{where}: applied_transform or applied_scale is not finite, or not above 0.")
    return inverse(transform), scale


def _matrix(rows: Any, where: str) -> Float64[np.ndarray, "4 4"]:
    """A 4x4 matrix, or 3x4 with its last row left out. `null` stands for a number that is not known."""
    try:
        matrix = np.array(rows, np.float64)
    except (ValueError, TypeError, OverflowError):
        matrix = np.empty(0)
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0, 0, 0, 1]])
    if matrix.shape != (4, 4):
        raise DataError(f"{where}: expected a matrix of 4x4 or 3x4 numbers, got {str(rows)[:80]}.")
    return matrix


def _camera(said: Mapping[str, Any], where: str) -> Camera:
    size = (_side(said, "h", where), _side(said, "w", where)) if {"h", "w"} <= said.keys() else None
    if "fl_x" in said:
        x = _number(said, "fl_x", where)
        y = _number(said, "fl_y", where) if "fl_y" in said else x
    elif "camera_angle_x" in said and size is not None:
        x = size[1] / 2 / _slope(said, "camera_angle_x", where)
        y = size[0] / 2 / _slope(said, "camera_angle_y", where) if "camera_angle_y" in said else x
    else:
        raise DataError(f"{where}: says no fl_x, nor w, h and camera_angle_x. Remedy: add them.")
    if size is None and not {"cx", "cy"} <= said.keys():
        raise DataError(f"{where}: says neither cx and cy nor w and h. Remedy: add them.")
    middle = (0, 0) if size is None else size
    cx = _number(said, "cx", where) if "cx" in said else middle[1] / 2
    cy = _number(said, "cy", where) if "cy" in said else middle[0] / 2
    model = "OPENCV_FISHEYE" if said.get("is_fisheye") else str(said.get("camera_model", "OPENCV")).upper()
    coefficients = {key: _number(said, key, where) for key in _DISTORTION if key in said}
    return Camera(model, size, (x, y), (cx, cy), {k: v for k, v in coefficients.items() if v != 0})


def _side(said: Mapping[str, Any], key: str, where: str) -> int:
    value = _number(said, key, where)
    if not 0.5 < value < MOST_SIDE:
        raise DataError(f"{where}: {key} is {value:g}, expected pixels of a picture.")
    return round(value)


def _slope(said: Mapping[str, Any], key: str, where: str) -> float:
    """Half a side of the picture over the focal length."""
    angle = _number(said, key, where)
    if not 0 < angle < math.pi:
        raise DataError(f"{where}: {key} is {angle:g}, expected an angle between 0 and pi.")
    return math.tan(angle / 2)


def _number(said: Mapping[str, Any], key: str, where: str) -> float:
    value = said[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where}: {key} is {str(value)[:80]!r}, expected a number.")
    try:
        return float(value)
    except OverflowError as error:
        raise DataError(f"{where}: {key} is {str(value)[:20]}…, too large a number.") from error
