"""Rotations, pinholes, and transforms.json of nerfstudio: worked by hand, round trips, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import roma
import torch
from numpy.typing import NDArray

from extract.datasets.poses.camera import Camera, same_shape
from extract.datasets.poses.nerfstudio import parse_cameras, parse_transforms
from extract.datasets.poses.rigid import checked, from_quaternion, inverse, pose
from extract.errors import DataError
from tests.extract.folder.recordings import FLIP


def motions(count: int, seed: int = 0) -> NDArray[np.float64]:
    torch.manual_seed(seed)
    rotations = roma.random_rotmat(count, dtype=torch.float64).numpy()
    translations = np.random.default_rng(seed).normal(size=(count, 3))
    return np.stack(
        [np.vstack([np.column_stack([r, t]), [0, 0, 0, 1]]) for r, t in zip(rotations, translations, strict=True)]
    )


def test_quaternions_by_hand() -> None:
    half = np.sqrt(0.5)
    np.testing.assert_allclose(from_quaternion(np.array([1.0, 0, 0, 0]), "x"), np.eye(3))
    about_z = from_quaternion(np.array([half, 0, 0, half]), "x")
    np.testing.assert_allclose(about_z @ [1, 0, 0], [0, 1, 0], atol=1e-15)  # anticlockwise, seen from above
    np.testing.assert_allclose(from_quaternion(np.array([0, 1.0, 0, 0]), "x"), np.diag([1, -1, -1]))


def test_quaternions_agree_with_roma() -> None:
    torch.manual_seed(0)
    for q in roma.random_unitquat(20, dtype=torch.float64):
        x, y, z, w = q.tolist()
        np.testing.assert_allclose(
            from_quaternion(np.array([w, x, y, z]), "x"), roma.unitquat_to_rotmat(q).numpy(), atol=1e-14
        )
        np.testing.assert_allclose(from_quaternion(-np.array([w, x, y, z]), "x"), roma.unitquat_to_rotmat(q).numpy())


@pytest.mark.parametrize("q", [(0.0, 0, 0, 0), (2.0, 0, 0, 0), (0.9, 0, 0, 0)])
def test_a_quaternion_has_length_1(q: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match=r"here: a quaternion of length .*Remedy"):
        from_quaternion(np.array(q), "here")


def test_inverse() -> None:
    for motion in motions(5):
        np.testing.assert_allclose(inverse(motion), np.linalg.inv(motion), atol=1e-12)


def test_rounded_rotations_are_put_right() -> None:
    for motion in motions(5):
        found = checked(np.round(motion, 4), "x")
        np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(found, motion, atol=2e-4)


def test_what_is_no_rigid_motion() -> None:
    good = motions(1)[0]
    mirrored, scaled, sheared, projective = (good.copy() for _ in range(4))
    mirrored[:3, 0] *= -1
    scaled[:3, :3] *= 1.01
    sheared[0, 1] += 0.01
    projective[3, 0] = 0.1
    for bad in (mirrored, scaled, sheared, projective):
        with pytest.raises(DataError, match=r"here: no rigid motion.*Remedy"):
            checked(bad, "here")
    for hole in (np.nan, np.inf):
        lost = good.copy()
        lost[1, 3] = hole
        assert not checked(lost, "here").any()


def test_intrinsics_of_pictures_of_another_size() -> None:
    camera = Camera("PINHOLE", (480, 640), (500.0, 510.0), (320.0, 250.0))
    expected = [[250, 0, 160], [0, 255, 125], [0, 0, 1]]
    np.testing.assert_allclose(camera.intrinsics((240, 320), "x"), expected)
    with pytest.raises(DataError, match=r"here: .*640x480 pixels, but the picture has 480x640"):
        camera.intrinsics((640, 480), "here")
    assert same_shape((540, 960), (1080, 1920))
    assert same_shape((361, 640), (720, 1280))
    assert not same_shape((480, 640), (360, 640))


@pytest.mark.parametrize(("model", "bend"), [("OPENCV", {"k1": 0.01}), ("OPENCV_FISHEYE", {}), ("EQUIRECTANGULAR", {})])
def test_only_pinholes_have_a_matrix(model: str, bend: dict[str, float]) -> None:
    with pytest.raises(DataError, match=rf"here: camera model {model}.*undistort"):
        Camera(model, (4, 4), (5.0, 5.0), (2.0, 2.0), bend).intrinsics((4, 4), "here")
    for focal in ((0.0, 5.0), (float("nan"), 5.0)):
        with pytest.raises(DataError, match="no camera"):
            Camera("PINHOLE", (4, 4), focal, (2.0, 2.0)).intrinsics((4, 4), "here")


def transforms(**changes: Any) -> bytes:
    """Two cameras at the origin of a room with y up: one looks along -z, as OpenGL's do by themselves."""
    quarter = [[0, 0, 1, 5], [0, 1, 0, 6], [-1, 0, 0, 7], [0, 0, 0, 1]]
    whole = {
        "w": 640,
        "h": 480,
        "fl_x": 500,
        "fl_y": 501,
        "cx": 320.5,
        "cy": 240.5,
        "frames": [
            {"file_path": "images/a.png", "transform_matrix": np.eye(4).tolist()},
            {"file_path": "./images\\b.png", "transform_matrix": quarter, "fl_x": 400, "w": 320, "h": 240},
        ],
    }
    return json.dumps(whole | changes).encode()


def test_transforms_by_hand() -> None:
    a, b = parse_transforms(transforms(), "t")
    assert (a.name, b.name) == ("images/a.png", "./images/b.png")
    # The camera at rest looks along -z of the world; down in the picture is -y of the world.
    np.testing.assert_array_equal(a.cam_to_world @ [0, 0, 1, 1], [0, 0, -1, 1])
    np.testing.assert_array_equal(a.cam_to_world @ [0, 1, 0, 1], [0, -1, 0, 1])
    np.testing.assert_array_equal(a.cam_to_world @ [1, 0, 0, 1], [1, 0, 0, 1])
    # Turned a quarter about y: it looks along -x.
    np.testing.assert_allclose(b.cam_to_world @ [0, 0, 1, 1], [4, 6, 7, 1], atol=1e-12)
    assert a.camera == Camera("OPENCV", (480, 640), (500.0, 501.0), (320.5, 240.5))
    assert b.camera == Camera("OPENCV", (240, 320), (400.0, 501.0), (320.5, 240.5))


def test_transforms_round_trip_through_what_was_applied() -> None:
    """As nerfstudio saves poses: transform, then scale of the positions."""
    truth, applied = motions(4, seed=1), motions(1, seed=2)[0]
    saved = applied @ truth @ FLIP
    saved[:, :3, 3] *= 0.25
    frames = [{"file_path": f"{n}.png", "transform_matrix": pose.tolist()} for n, pose in enumerate(saved)]
    found = parse_transforms(transforms(frames=frames, applied_transform=applied[:3].tolist(), applied_scale=0.25), "t")
    np.testing.assert_allclose([image.cam_to_world for image in found], truth, atol=1e-12)


def test_the_transform_of_process_data() -> None:
    """ns-process-data writes x, z, -y of COLMAP's world: what lies on COLMAP's -y axis, above, is on +z."""
    rows = [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]]
    above = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 3], [0, 0, 0, 1]]
    frames = [{"file_path": "a.png", "transform_matrix": above}]
    (image,) = parse_transforms(transforms(frames=frames, applied_transform=rows), "t")
    np.testing.assert_allclose(image.cam_to_world[:3, 3], [0, -3, 0])


def test_intrinsics_from_an_angle() -> None:
    angle = 2 * np.arctan(320 / 450)
    frames = json.loads(transforms())["frames"][:1]
    content = json.dumps({"w": 640, "h": 480, "camera_angle_x": angle, "frames": frames}).encode()
    (image,) = parse_transforms(content, "t")
    np.testing.assert_allclose([*image.camera.focal, *image.camera.centre], [450, 450, 320, 240])


def test_lens_distortion_is_kept_to_be_refused() -> None:
    a, _ = parse_transforms(transforms(k1=0.1, k2=0.0, p1=-0.01), "t")
    assert a.camera.distortion == {"k1": 0.1, "p1": -0.01}
    assert not a.camera.is_pinhole
    a, _ = parse_transforms(transforms(camera_model="OPENCV_FISHEYE"), "t")
    assert not a.camera.is_pinhole
    a, _ = parse_transforms(transforms(is_fisheye=True), "t")
    assert not a.camera.is_pinhole


def test_cameras_alone() -> None:
    images = parse_transforms(transforms(), "t")
    assert parse_cameras(transforms(), "t") == [image.camera for image in images]
    frames = [json.loads(transforms())["frames"][0] | {"file_path": f"{n}.png"} for n in range(5)]
    assert parse_cameras(transforms(frames=frames), "t") == [images[0].camera]
    frames[3]["k1"] = 0.5
    assert [camera.is_pinhole for camera in parse_cameras(transforms(frames=frames), "t")] == [True, False]
    with pytest.raises(DataError, match="t: no transforms"):
        parse_cameras(b"{}", "t")


def test_lost_poses_are_unknown() -> None:
    lost = [[1, 0, 0, float("nan")], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    null = [[1, 0, 0, None], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    for rows in (lost, null):
        (image,) = parse_transforms(transforms(frames=[{"file_path": "a", "transform_matrix": rows}]), "t")
        assert not image.cam_to_world.any()


SCALED = [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]
HUGE = [[1e200, -1e200, 0, 0], [1e200, 1e200, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
FAULTS: list[tuple[bytes, str]] = [
    (b"{", "no transforms.json"),
    (b"[]", "no transforms.json"),
    (b"{}", "no transforms.json.*frames"),
    (b"\xff\xfe", "no transforms.json"),
    (b"[" * 100_000, "no transforms.json"),
    (transforms(frames=[{"transform_matrix": SCALED}]), "no transforms.json.*file_path"),
    (transforms(frames=[{"file_path": "a"}]), "a: expected a matrix"),
    (transforms(frames=[{"file_path": "a", "transform_matrix": [[1]]}]), "a: expected a matrix"),
    (transforms(frames=[{"file_path": "a", "transform_matrix": [["x"] * 4] * 4}]), "a: expected a matrix"),
    (transforms(frames=[{"file_path": "a", "transform_matrix": SCALED}]), "a: no rigid motion"),
    (transforms(applied_transform=SCALED), "applied_transform: no rigid motion"),
    (transforms(applied_scale=0), "applied_scale is not finite, or not above 0"),
    (transforms(fl_x="500"), "fl_x is '500', expected a number"),
    (transforms(w=0), "w is 0, expected pixels"),
    (transforms(w=float("inf")), "w is inf, expected pixels"),
    (transforms(h=float("nan")), "h is nan, expected pixels"),
    (transforms(h=10**9), "h is 1e.09, expected pixels"),
    (transforms(fl_x=10**400), "fl_x is 1000000.*too large"),
    (transforms(frames=[{"file_path": "a", "transform_matrix": [[10**400] * 4] * 4}]), "a: expected a matrix"),
    (transforms(frames=[{"file_path": "a", "transform_matrix": HUGE}]), "a: no rigid motion"),
]


@pytest.mark.parametrize("angle", [0, -1, 3.2, float("inf"), float("nan")])
def test_an_angle_that_no_camera_has(angle: float) -> None:
    """One scene's file must not stop all others, so it is no error of arithmetic."""
    frames = json.loads(transforms())["frames"][:1]
    content = json.dumps({"w": 640, "h": 480, "camera_angle_x": angle, "frames": frames}).encode()
    for parse in (parse_cameras, parse_transforms):
        with pytest.raises(DataError, match=r"t, images/a\.png: camera_angle_x is .*, expected an angle"):
            parse(content, "t")


@pytest.mark.parametrize(("content", "message"), FAULTS)
def test_faults_of_transforms(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"(?s)t\.json.*{message}"):
        parse_transforms(content, "t.json")


def test_a_camera_that_is_not_said() -> None:
    frames = [{"file_path": "a", "transform_matrix": np.eye(4).tolist()}]
    for said, lacking in (({}, "no fl_x"), ({"fl_x": 5}, "neither cx"), ({"camera_angle_x": 1}, "no fl_x")):
        with pytest.raises(DataError, match=rf"t, a: says {lacking}.*Remedy"):
            parse_transforms(json.dumps({**said, "frames": frames}).encode(), "t")


def test_a_pose_is_put_together() -> None:
    np.testing.assert_array_equal(
        pose(np.eye(3), np.array([1.0, 2, 3])), [[1, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    )
