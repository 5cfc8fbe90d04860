"""Labels of a network: geometry, alignment with the frames, and files that are not believed."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from extract.datasets.dl3dv import Dl3dv
from extract.datasets.sampling import Sampling
from extract.errors import DataError
from tests.extract.dl3dv.test_reader import reprojected
from tests.extract.dl3dv.tiny_dl3dv import (
    SEEN,
    SIZE,
    UNIT,
    hash_of,
    label_arrays,
    room,
    unprojected_as_vggt,
    write_labels,
    write_scene,
)

RUN = Sampling(window="run", frames=8, bank=3)
SCENE = hash_of(0)
START = 5


@pytest.fixture(scope="module")
def whole() -> dict[str, NDArray[Any]]:
    """Labels of frames 5 to 12."""
    return label_arrays(start=START)


@pytest.fixture
def arrays(whole: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return dict(whole)


@pytest.fixture
def folder(root: Path) -> Path:
    return write_scene(root / "1K" / SCENE, k1=0.02)


def test_targets_are_those_of_the_labels(root: Path, folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    write_labels(root, "1K", SCENE, arrays)
    dataset = Dl3dv(root, RUN)
    (clip,) = dataset.clips()
    assert (clip.chosen, clip.bank, dataset.image_size) == (list(range(5, 13)), (0, 4, 7), SIZE)
    np.testing.assert_array_equal(clip.frames([0, 7]), room().rgb[[5, 12]])
    targets, rows = clip.targets(), [0, 4, 7]
    fine = room(0, 24, SEEN)
    assert targets.depth is not None
    assert targets.cam_to_world is not None
    np.testing.assert_array_equal(targets.rgb, arrays["images"][rows].transpose(0, 2, 3, 1))
    np.testing.assert_allclose(targets.depth, fine.depth[[5, 9, 12]] * UNIT, rtol=1e-6)
    np.testing.assert_array_equal(targets.confidence == 0, targets.depth == 0)
    seen = targets.depth > 0
    assert targets.confidence is not None
    np.testing.assert_array_equal(targets.confidence[seen], arrays["confmaps"][rows][..., 0][seen])
    np.testing.assert_allclose(targets.intrinsics, [fine.intrinsics] * 3, rtol=1e-6)
    scaled = fine.cam_to_world[[5, 9, 12]].copy()
    scaled[:, :3, 3] *= UNIT
    np.testing.assert_allclose(targets.cam_to_world, scaled, atol=1e-6)
    assert reprojected(targets.depth, targets, 0, 2, 0.02) > 0.95
    assert reprojected(targets.depth, targets, 2, 1, 0.02) > 0.95


def test_points_are_those_that_the_file_has(root: Path, folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """pointmaps are not read, so they tell whether what is read was understood, to a hundredth of a pixel."""
    write_labels(root, "1K", SCENE, arrays)
    targets = Dl3dv(root, RUN).clips()[0].targets()
    assert targets.depth is not None
    assert targets.cam_to_world is not None
    assert targets.intrinsics is not None
    rows, columns = np.mgrid[: SEEN[0], : SEEN[1]] + 0.5
    for k, row in enumerate((0, 4, 7)):
        rays = np.stack([columns, rows, np.ones(SEEN)], -1) @ np.linalg.inv(targets.intrinsics[k]).T
        points = (rays * targets.depth[k][..., None]) @ targets.cam_to_world[k][:3, :3].T
        points += targets.cam_to_world[k][:3, 3]
        pixel = targets.depth[k].max() / targets.intrinsics[k][0, 0]
        np.testing.assert_allclose(points, arrays["pointmaps"][row], atol=0.01 * pixel)


def test_facts_say_that_a_network_made_them(root: Path, folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    before = Dl3dv(root, RUN).facts()
    assert (before["targets"], before["labels"]) == ("release", [])
    del arrays["pointmaps"]
    write_labels(root, "1K", SCENE, arrays)
    facts = Dl3dv(root, RUN).facts()
    assert (facts["targets"], facts["labels"], facts["label_checkpoints"]) == ("network", ["vggt"], ["not stated"])


def test_scenes_without_labels_are_left_out(
    root: Path, folder: Path, arrays: dict[str, NDArray[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    write_scene(root / "1K" / hash_of(1), room(1))
    write_labels(root, "1K", SCENE, arrays)
    dataset = Dl3dv(root, RUN)
    assert [clip.id for clip in dataset.clips()] == [SCENE]
    assert len(dataset.scenes) == 2
    assert f"scenes {hash_of(1)} have no labels, which others have; they are left out" in caplog.text


def test_what_is_no_depth(root: Path, folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    depth, confidence, extrinsic = (arrays[name].copy() for name in ("depthmaps", "confmaps", "extrinsic"))
    depth[0, 200, :4, 0] = (np.nan, np.inf, -1, 0)
    confidence[0, 201, 0, 0] = np.nan
    extrinsic[4, 1, 3] = np.nan
    write_labels(root, "1K", SCENE, arrays | {"depthmaps": depth, "confmaps": confidence, "extrinsic": extrinsic})
    targets = Dl3dv(root, RUN).clips()[0].targets()
    assert targets.depth is not None
    assert targets.confidence is not None
    assert targets.cam_to_world is not None
    assert not targets.depth[0, 200, :4].any()
    assert not targets.confidence[0, 200, :4].any()
    assert not targets.depth[0, 201, 0]
    assert not targets.cam_to_world[1].any(), "unknown"
    assert targets.cam_to_world[2].any()


@pytest.mark.parametrize("window", ["whole", "centre"])
def test_frames_without_labels(root: Path, folder: Path, arrays: dict[str, NDArray[Any]], window: str) -> None:
    write_labels(root, "1K", SCENE, arrays)
    (clip,) = Dl3dv(root, Sampling(window=window, bank=3)).clips()
    for act in (clip.targets, clip.digest):
        with pytest.raises(DataError, match=rf"{SCENE}.sft: labels frames 5 to 12 .* needs frame 0 .*run.*Remedy"):
            act()


def test_labels_of_another_scene(root: Path, folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    path = write_labels(root, "1K", SCENE, arrays | {"images": 255 - arrays["images"]})
    (clip,) = Dl3dv(root, RUN).clips()
    with pytest.raises(
        DataError, match=rf"{path}: is of other pictures.*frame_00006.png.*Remedy: Make the labels anew"
    ):
        clip.targets()


def test_labels_of_a_longer_scene(root: Path, folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    write_labels(root, "1K", SCENE, arrays | {"start_idx": np.array(17, np.int32)})
    assert "labels frames 17 to 24, the scene has 24" in damaged(root)


def damaged(root: Path) -> str:
    dataset = Dl3dv(root, RUN)
    assert not dataset.clips()
    assert f"{SCENE}.sft: " in dataset.damaged[SCENE]
    assert "Remedy" in dataset.damaged[SCENE]
    return dataset.damaged[SCENE]


def test_arrays_that_contradict_each_other(root: Path, folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    for name, other, message in (
        ("depthmaps", arrays["depthmaps"][:7], r"depthmaps of shape (7, 294, 518, 1) beside images of shape"),
        ("confmaps", arrays["confmaps"][:, :290], "confmaps of shape"),
        ("pointmaps", arrays["pointmaps"][..., :2], "pointmaps of shape"),
        ("intrinsic", arrays["intrinsic"][0], "intrinsic of shape (3, 3)"),
        ("extrinsic", arrays["extrinsic"].astype(np.float64), "extrinsic is of type F64, expected F32"),
        ("start_idx", np.array(-1, np.int32), "start_idx is -1"),
        ("start_idx", np.array([5], np.int32), "start_idx of shape (1,)"),
        ("images", arrays["images"][:, 0], "images of shape (8, 294, 518)"),
    ):
        write_labels(root, "1K", SCENE, arrays | {name: other.copy(order="C")})
        assert message in damaged(root)
    for name in ("depthmaps", "start_idx"):
        write_labels(root, "1K", SCENE, {key: value for key, value in arrays.items() if key != name})
        assert f"has no {name}" in damaged(root)


def test_headers_that_lie(root: Path, folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    path = write_labels(root, "1K", SCENE, arrays)
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    huge = header | {"depthmaps": header["depthmaps"] | {"shape": [80_000, 294, 518, 1]}}
    far = header | {"depthmaps": header["depthmaps"] | {"data_offsets": [0, 1 << 50]}}
    lies = [json.dumps(each).encode() for each in (huge, far)]
    for bad in (
        b"",
        content[:4],
        content[:-1],
        content + b"\0",
        struct.pack("<Q", 1 << 60) + content[8:],
        struct.pack("<Q", length + 1) + content[8:],
        *(struct.pack("<Q", len(lie)) + lie + content[8 + length :] for lie in lies),
        b"\x80\x04\x95" + content,
    ):
        path.write_bytes(bad)
        assert "cannot be read" in damaged(root)


def test_cameras_that_are_none(root: Path, folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    skewed, still = arrays["intrinsic"].copy(), arrays["extrinsic"].copy()
    skewed[4, 0, 1] = 1
    still[7, :, :3] = 0
    for name, array, message in (("intrinsic", skewed, "row 4 is no pinhole"), ("extrinsic", still, "row 7: no rigid")):
        write_labels(root, "1K", SCENE, arrays | {name: array})
        (clip,) = Dl3dv(root, RUN).clips()
        with pytest.raises(DataError, match=rf"{SCENE}.sft.*{message}.*Remedy"):
            clip.targets()


def test_the_digest_is_of_the_labels_of_the_bank(root: Path, folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    def digest(**other: NDArray[Any]) -> str:
        write_labels(root, "1K", SCENE, arrays | other)
        return Dl3dv(root, RUN).clips()[0].digest()

    depth = arrays["depthmaps"].copy()
    depth[1] += 1
    first = digest()
    assert digest(depthmaps=depth) == first, "row 1 is not in the bank"
    depth[4] += 1
    assert digest(depthmaps=depth) != first
    assert digest(start_idx=np.array(6, np.int32)) != first


def test_the_stand_in_unprojects(arrays: dict[str, NDArray[Any]]) -> None:
    """Control of the tests themselves: what they write as pointmaps is seen where the depth says."""
    points = unprojected_as_vggt(arrays["depthmaps"][..., 0], arrays["intrinsic"], arrays["extrinsic"])
    seen = points @ arrays["extrinsic"][0, 2, :3] + arrays["extrinsic"][0, 2, 3]
    np.testing.assert_allclose(seen[0], arrays["depthmaps"][0, ..., 0], atol=1e-5)
