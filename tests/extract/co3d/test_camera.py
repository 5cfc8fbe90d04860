"""Cameras against PyTorch3D's definition, written out; against an example worked by hand, and one that it publishes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from extract.datasets.co3d.camera import cam_to_world, intrinsics
from extract.datasets.co3d.lists import Viewpoint
from extract.errors import DataError

FORMATS = ("ndc_norm_image_bounds", "ndc_isotropic")


def viewpoint(**changed: Any) -> Viewpoint:
    plain = {"R": np.eye(3).tolist(), "T": (0, 0, 2), "focal_length": (2, 2), "principal_point": (0.1, -0.2)}
    return Viewpoint.model_validate(plain | changed)


def project(view: Viewpoint, size: tuple[int, int], world: NDArray[np.float64]) -> NDArray[np.float64]:
    """(column, row, z) of points (rows), by the definition alone."""
    height, width = size
    camera = world @ np.array(view.R) + np.array(view.T)
    x = view.focal_length[0] * camera[:, 0] / camera[:, 2] + view.principal_point[0]
    y = view.focal_length[1] * camera[:, 1] / camera[:, 2] + view.principal_point[1]
    if view.intrinsics_format == "ndc_isotropic":
        u, v = width / 2 - x * min(size) / 2, height / 2 - y * min(size) / 2
    else:
        u, v = width / 2 - x * width / 2, height / 2 - y * height / 2
    return np.column_stack([u, v, camera[:, 2]])


def pinhole(view: Viewpoint, size: tuple[int, int], world: NDArray[np.float64]) -> NDArray[np.float64]:
    """(column, row, z) by this project's conventions."""
    pose = cam_to_world(view)
    camera = (world - pose[:3, 3]) @ pose[:3, :3]
    pixels = camera @ intrinsics(view, size, size).T
    return np.column_stack([pixels[:, :2] / pixels[:, 2:], camera[:, 2]])


@pytest.mark.parametrize("size", [(200, 100), (90, 160), (64, 64)])
@pytest.mark.parametrize("form", FORMATS)
def test_projects_as_the_definition_does(form: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    for rotation in Rotation.random(20, random_state=1).as_matrix():
        view = viewpoint(
            R=rotation.tolist(),
            T=rng.normal(size=3).tolist(),
            focal_length=rng.uniform(1, 3, 2).tolist(),
            principal_point=rng.uniform(-0.3, 0.3, 2).tolist(),
            intrinsics_format=form,
        )
        world = rng.normal(size=(50, 3))
        np.testing.assert_allclose(pinhole(view, size, world), project(view, size, world), rtol=1e-6, atol=1e-6)


def test_worked_by_hand() -> None:
    """A camera 2 behind the origin looks along z. A point to its left and above it is left of and above the middle."""
    size, view = (200, 100), viewpoint()
    np.testing.assert_allclose(cam_to_world(view), [[-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, -2], [0, 0, 0, 1]])
    # NDC is 50 pixels per unit across and 100 down: 2 * 50, 2 * 100; 50 - 0.1 * 50, 100 + 0.2 * 100.
    np.testing.assert_allclose(intrinsics(view, size, size), [[100, 0, 45], [0, 200, 120], [0, 0, 1]])
    # x_ndc = 2 * 1 / 2 + 0.1 = 1.1, y_ndc = 0.8: u = 50 - 55, v = 100 - 80.
    np.testing.assert_allclose(pinhole(view, size, np.array([[1.0, 1, 0]])), [[-5, 20, 2]])
    # Isotropic: 50 pixels per unit both ways; v = 100 - 0.8 * 50.
    same = viewpoint(intrinsics_format="ndc_isotropic")
    np.testing.assert_allclose(intrinsics(same, size, size), [[100, 0, 45], [0, 100, 110], [0, 0, 1]])
    np.testing.assert_allclose(pinhole(same, size, np.array([[1.0, 1, 0]])), [[-5, 60, 2]])


def test_the_published_example() -> None:
    """pytorch3d/docs/notes/cameras.md: 1.2 and (0.2, 0.5) in NDC are 76.8 and (115.2, 32) on a screen of 128x256."""
    view = viewpoint(focal_length=(1.2, 1.2), principal_point=(0.2, 0.5), intrinsics_format="ndc_isotropic")
    matrix = intrinsics(view, (128, 256), (128, 256))
    np.testing.assert_allclose(matrix, np.array([[76.8, 0, 115.2], [0, 76.8, 32], [0, 0, 1]]))


@pytest.mark.parametrize("form", FORMATS)
def test_stretching_scales_each_axis(form: str) -> None:
    size, target = (200, 100), (50, 75)
    view = viewpoint(intrinsics_format=form)
    stretched = np.diag([75 / 100, 50 / 200, 1]) @ intrinsics(view, size, size)
    np.testing.assert_allclose(intrinsics(view, size, target), stretched)


def test_the_default_format_is_the_older_one() -> None:
    assert viewpoint().intrinsics_format == FORMATS[0]


@pytest.mark.parametrize("changed", [{"T": (0, float("nan"), 1)}, {"R": ((float("inf"), 0, 0), (0, 1, 0), (0, 0, 1))}])
def test_a_pose_that_is_not_finite_is_unknown(changed: dict[str, Any]) -> None:
    np.testing.assert_array_equal(cam_to_world(viewpoint(**changed)), np.zeros((4, 4)))


@pytest.mark.parametrize("rotation", [np.eye(3) * 1.01, np.diag([1.0, 1, -1]), np.zeros((3, 3))])
def test_what_is_no_rotation_is_refused(rotation: NDArray[np.float64]) -> None:
    with pytest.raises(DataError, match="no rotation"):
        cam_to_world(viewpoint(R=rotation.tolist()))
