"""Sparse models of COLMAP, text and binary: the example of its manual, by hand, round trips, and damage."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from extract.datasets.poses.camera import Camera, PosedImage
from extract.datasets.poses.colmap import (
    MODELS,
    find_model,
    parse_cameras_binary,
    parse_cameras_text,
    parse_model,
)
from extract.errors import DataError
from tests.extract.folder.recordings import room, write_colmap

CAMERAS = b"""\
# Camera list with one line of data per camera:
#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]
# Number of cameras: 3
1 SIMPLE_PINHOLE 3072 2304 2559.81 1536 1152
2 PINHOLE 3072 2304 2560.56 2560.56 1536 1152
3 SIMPLE_RADIAL 3072 2304 2559.69 1536 1152 -0.0218531
"""
IMAGES = b"""\
# Image list with two lines of data per image:
#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME
#   POINTS2D[] as (X, Y, POINT3D_ID)
# Number of images: 2, mean observations per image: 2
1 0.851773 0.0165051 0.503764 -0.142941 -0.737434 1.02973 3.74354 1 P1180141.JPG
2362.39 248.498 58396 1784.7 268.254 59027 1784.7 268.254 -1
2 0.851773 0.0165051 0.503764 -0.142941 -0.737434 1.02973 3.74354 1 my photos/P1180142.JPG

"""


def parse(cameras: bytes = CAMERAS, images: bytes = IMAGES) -> list[PosedImage]:
    return parse_model((cameras, "cameras.txt"), (images, "images.txt"), binary=False)


def test_the_example_of_the_manual() -> None:
    one, two = parse()
    assert (one.name, two.name) == ("P1180141.JPG", "my photos/P1180142.JPG")
    assert one.camera == Camera("SIMPLE_PINHOLE", (2304, 3072), (2559.81, 2559.81), (1536.0, 1152.0))
    rotation, position = one.cam_to_world[:3, :3].T, one.cam_to_world[:3, 3]
    # World to camera: R x + t. The camera's own place maps to its origin.
    np.testing.assert_allclose(rotation @ position + [-0.737434, 1.02973, 3.74354], 0, atol=1e-9)
    w, x, y, z = 0.851773, 0.0165051, 0.503764, -0.142941
    np.testing.assert_allclose(rotation[2, 1], 2 * (y * z + w * x), atol=1e-6)
    np.testing.assert_allclose(rotation[1, 2], 2 * (y * z - w * x), atol=1e-6)
    cameras = parse_cameras_text(CAMERAS, "c")
    assert cameras[3].distortion == {"k": -0.0218531}
    assert [camera.is_pinhole for camera in cameras.values()] == [True, True, False]


def test_by_hand() -> None:
    """Turned half about x: what is in front of the camera lies at smaller z; t = (0, 0, 4) puts it at z = 4."""
    (image,) = parse(images=b"1 0 1 0 0 0 0 4 2 a.jpg\n\n")
    np.testing.assert_allclose(image.cam_to_world @ [0, 0, 0, 1], [0, 0, 4, 1])
    np.testing.assert_allclose(image.cam_to_world @ [0, 0, 1, 1], [0, 0, 3, 1])
    np.testing.assert_allclose(image.cam_to_world @ [0, 1, 0, 1], [0, -1, 4, 1])


@pytest.mark.parametrize("binary", [False, True])
def test_round_trip(tmp_path: Path, binary: bool) -> None:
    tiny = room(frames=5)
    names = [f"{n}.png" for n in range(5)]
    write_colmap(tmp_path / "model", tiny, names, binary=binary)
    found = find_model(tmp_path / "model")
    assert found is not None
    assert found[0].suffix == (".bin" if binary else ".txt")
    images = parse_model(*((path.read_bytes(), path.name) for path in found), binary=binary)
    assert [image.name for image in images] == names
    np.testing.assert_allclose([image.cam_to_world for image in images], tiny.cam_to_world, atol=1e-12)
    for image in images:
        np.testing.assert_allclose(image.camera.intrinsics(tiny.rgb.shape[1:3], "x"), tiny.intrinsics)


def test_binary_comes_before_text(tmp_path: Path) -> None:
    assert find_model(tmp_path) is None
    write_colmap(tmp_path / "a", room(), ["0", "1", "2"], binary=False)
    write_colmap(tmp_path / "b", room(), ["0", "1", "2"], binary=True)
    for path in (tmp_path / "b").iterdir():
        path.rename(tmp_path / "a" / path.name)
    assert find_model(tmp_path / "a") == (tmp_path / "a/cameras.bin", tmp_path / "a/images.bin")


def test_every_model_of_binary_files() -> None:
    """Each is as long as its parameters are; those of no distortion are pinholes if they are perspective."""
    for number, (name, parameters) in enumerate(MODELS):
        count = len(parameters.split())
        values = [7.0, 2.0, 2.0] if parameters.startswith("f ") else [7.0, 8.0, 2.0, 2.0]
        values += [0.0] * (count - len(values))
        content = struct.pack(f"<QIiQQ{count}d", 1, 5, number, 4, 3, *values)
        camera = parse_cameras_binary(content, "c")[5]
        assert (camera.model, camera.size, camera.centre) == (name, (3, 4), (2.0, 2.0))
        assert camera.focal[0] == 7
        assert camera.is_pinhole == (
            name in {"SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"}
        )
        assert parse_cameras_text(f"5 {name} 4 3 {' '.join(map(str, values))}\n".encode(), "c")[5] == camera


def test_a_lost_pose_is_unknown() -> None:
    (image,) = parse(images=b"1 nan nan nan nan nan nan nan 2 a.jpg\n\n")
    assert not image.cam_to_world.any()


TEXT_FAULTS: list[tuple[bytes, bytes, str]] = [
    (b"1 PINHOLE 4 3 1 1 2\n", IMAGES, r"cameras\.txt, line 1: camera model PINHOLE with 3 parameters"),
    (b"1 LENS 4 3 1 1 2 2\n", IMAGES, r"cameras\.txt, line 1: camera model LENS"),
    (b"1 PINHOLE 4\n", IMAGES, r"cameras\.txt, line 1: expected"),
    (b"1 PINHOLE 4 x 1 1 2 2\n", IMAGES, r"cameras\.txt, line 1: expected"),
    (b"1 PINHOLE 0 3 1 1 2 2\n", IMAGES, r"cameras\.txt, line 1: camera model PINHOLE.* 0x3"),
    (b"1 PINHOLE 4 1" + b"0" * 400 + b" 1 1 2 2\n", IMAGES, r"cameras\.txt, line 1: camera model PINHOLE"),
    (b"\xff\xfe", IMAGES, r"cameras\.txt: is no text"),
    (CAMERAS, b"1 1 0 0 0 0 0 0 9 a.jpg\n\n", r"images\.txt, line 1: camera 9 is not among cameras \[1, 2, 3\]"),
    (CAMERAS, b"1 1 0 0 0 0 0 0\n\n", r"images\.txt, line 1: expected"),
    (CAMERAS, b"1 2 0 0 0 0 0 0 1 a.jpg\n\n", r"images\.txt, line 1: a quaternion of length 2"),
    (CAMERAS, b"1 1 0 0 0 0 0 0 1 a.jpg\n2 1 0 0 0 0 0 0 1 b.jpg\n", r"images\.txt, line 2: expected 2D points"),
]


@pytest.mark.parametrize(("cameras", "images", "message"), TEXT_FAULTS)
def test_faults_of_text(cameras: bytes, images: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse(cameras, images)


def test_every_truncation_of_binary_files(tmp_path: Path) -> None:
    write_colmap(tmp_path / "m", room(), ["0", "1", "2"], binary=True)
    cameras, images = ((tmp_path / f"m/{name}.bin").read_bytes() for name in ("cameras", "images"))
    for length in range(len(cameras)):
        with pytest.raises(DataError, match=r"c\.bin: truncated"):
            parse_model((cameras[:length], "c.bin"), (images, "i.bin"), binary=True)
    for length in range(len(images)):
        with pytest.raises(DataError, match=r"i\.bin: truncated"):
            parse_model((cameras, "c.bin"), (images[:length], "i.bin"), binary=True)


def test_counts_that_exceed_the_file() -> None:
    for content in (struct.pack("<Q", 2**63), struct.pack("<Q", 2**64 - 1) + bytes(100)):
        with pytest.raises(DataError, match="truncated"):
            parse_cameras_binary(content, "c")
    good = struct.pack("<QIiQQ4d", 1, 1, 1, 4, 3, 1, 1, 2, 2)
    image = struct.pack("<QI7dI", 1, 1, 1, 0, 0, 0, 0, 0, 0, 1) + b"a\0" + struct.pack("<Q", 2**61)
    with pytest.raises(DataError, match="truncated"):
        parse_model((good, "c"), (image + bytes(50), "i"), binary=True)


def test_a_camera_model_of_the_future() -> None:
    with pytest.raises(DataError, match=r"c: camera 1 has model number 99.*Remedy"):
        parse_cameras_binary(struct.pack("<QIiQQ", 1, 1, 99, 4, 3), "c")
