"""Folders that ScanNet's reader exported."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from extract.datasets.sampling import Sampling
from extract.datasets.scannet import ScanNet
from extract.datasets.scannet_files.exported import Exported
from extract.errors import DataError
from tests.extract.scannet.tiny_scans import LOST, TinyScan, jpeg, png, write_exported, write_labels, write_lists

FEW = Sampling(frames=4, window="whole", bank=2)


@pytest.fixture
def folder(tmp_path: Path, scan: TinyScan) -> Path:
    return write_exported(tmp_path / "scene0001_00", scan)


def test_frames_are_in_the_order_of_their_numbers(folder: Path, scan: TinyScan) -> None:
    """10.jpg comes after 9.jpg."""
    found = Exported(folder)
    assert found.numbers == list(range(20))
    for k in (2, 9, 10, 19):
        np.testing.assert_allclose(found.depth(k), scan.depth[k] / 1000, rtol=1e-6)
        np.testing.assert_allclose(found.pose(k), scan.poses[k], atol=1e-6)
        assert np.abs(found.color(k).astype(int) - scan.rgb[k]).mean() < 3


@pytest.mark.parametrize("place", ["", "exported"])
def test_labels_of_thinned_exports_are_found_by_number(tmp_path: Path, scan: TinyScan, place: str) -> None:
    long = replace(
        scan,
        rgb=scan.rgb[np.arange(60) % 20],
        depth=scan.depth[np.arange(60) % 20],
        instance=scan.instance[np.arange(60) % 20],
        poses=scan.poses[np.arange(60) % 20],
    )
    folder = tmp_path / "scans" / scan.id
    write_lists(tmp_path, [scan.id], ["scene0568_00"])
    write_exported(folder / place, long, step=3)
    write_labels(folder, long)
    (folder / place / "color/notes.txt").write_text("not a picture")
    clip = ScanNet(tmp_path, FEW).clips()[0]
    assert [clip.recording.numbers[k] for k in clip.chosen] == [0, 18, 39, 57]
    targets = clip.targets()
    assert targets.instance is not None
    lines, columns = (np.arange(480) * 30 // 480), (np.arange(640) * 40 // 640)
    expected = [long.instance[n][lines[:, None], columns] for n in (0, 57)]
    np.testing.assert_array_equal(targets.instance, expected)


def test_a_sens_file_goes_before_its_export(root: Path, folder: Path, scan: TinyScan) -> None:
    shutil.copytree(folder, root / "scans" / scan.id, dirs_exist_ok=True)
    assert ScanNet(root, FEW).clips()[0].recording.where.suffix == ".sens"


def test_minus_infinity_is_a_lost_pose(folder: Path) -> None:
    np.savetxt(folder / "pose/3.txt", LOST, fmt="%f")
    assert "-inf" in (folder / "pose/3.txt").read_text()
    assert not Exported(folder).pose(3).any()


def test_without_depth(tmp_path: Path, scan: TinyScan) -> None:
    folder = tmp_path / "scans" / scan.id
    write_lists(tmp_path, [scan.id], ["scene0568_00"])
    write_exported(folder, scan, parts=())
    (folder / "intrinsic/intrinsic_depth.txt").unlink()
    write_labels(folder, scan)
    clip = ScanNet(tmp_path, FEW).clips()[0]
    targets = clip.targets()
    assert targets.depth is None
    assert targets.instance is not None
    assert len(clip.digest()) == 32


FAULTS: list[tuple[str, Callable[[Path, TinyScan], object], str]] = [
    ("color/5.jpg", lambda path, scan: path.write_bytes(jpeg(scan.rgb[5])[:-9]), "truncated"),
    ("color/5.jpg", lambda path, scan: path.write_bytes(b""), "truncated"),
    ("color/5.jpg", lambda path, scan: path.write_bytes(jpeg(scan.rgb[5, 1:])), "40x29 pixels"),
    ("depth/5.png", lambda path, scan: path.write_bytes(png(scan.depth[5])[:-1]), "truncated"),
    ("depth/5.png", lambda path, scan: path.write_bytes(png(scan.depth[5].astype(np.uint8))), "mode L; expected"),
    ("depth/5.png", lambda path, scan: path.write_bytes(png(scan.depth[5, 1:])), "32x23 pixels"),
    ("pose/5.txt", lambda path, scan: path.write_text("1 0 0 0\n" * 3), r"shape \(3, 4\)"),
    ("pose/5.txt", lambda path, scan: path.write_text("1 0 0 0\n1 0\n" * 2), "cannot be read"),
    ("pose/5.txt", lambda path, scan: path.write_text("1 0 0 one\n" * 4), "cannot be read"),
    ("pose/5.txt", lambda path, scan: path.write_bytes(b"\xff" * 9), "cannot be read"),
    ("pose/5.txt", lambda path, scan: path.write_text(""), "shape"),
    ("color/5.jpg", lambda path, scan: path.unlink(), "missing"),
    ("depth/5.png", lambda path, scan: path.unlink(), "missing"),
    ("pose/5.txt", lambda path, scan: path.unlink(), "missing"),
]


@pytest.mark.parametrize(("name", "spoil", "message"), FAULTS)
def test_faults_name_the_file(
    folder: Path, scan: TinyScan, name: str, spoil: Callable[[Path, TinyScan], object], message: str
) -> None:
    found = Exported(folder)
    spoil(folder / name, scan)
    kind = name.split("/")[0]
    with pytest.raises(DataError, match=rf"scene0001_00/{name}: .*{message}.*Remedy"):
        getattr(found, kind)(5)
    getattr(found, kind)(6)


def test_large_files_are_not_read(folder: Path) -> None:
    with (folder / "pose/5.txt").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match=r"pose/5\.txt: is larger than"):
        Exported(folder).pose(5)


@pytest.mark.parametrize("part", ["pose", "intrinsic", "color"])
def test_a_missing_part(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    with pytest.raises(DataError, match=rf"scene0001_00/{part}: missing.*Remedy"):
        Exported(folder)


def test_no_pictures(folder: Path) -> None:
    for path in (folder / "color").iterdir():
        path.rename(path.with_name(f"frame-{path.name}"))
    with pytest.raises(DataError, match="holds no picture with a name such as"):
        Exported(folder)


@pytest.mark.parametrize("name", ["intrinsic_color", "intrinsic_depth"])
def test_a_missing_camera(folder: Path, name: str) -> None:
    (folder / f"intrinsic/{name}.txt").unlink()
    with pytest.raises(DataError, match=rf"{name}\.txt: missing"):
        Exported(folder).cameras()


def test_cameras_that_were_not_registered(folder: Path) -> None:
    aside = np.eye(4)
    aside[0, 3] = 0.04
    assert Exported(folder).cameras().registered
    np.savetxt(folder / "intrinsic/extrinsic_depth.txt", aside)
    assert not Exported(folder).cameras().registered


def test_a_huge_picture_is_refused_by_its_header(folder: Path) -> None:
    (folder / "depth/0.png").write_bytes(png(np.zeros((6_000, 6_000), np.uint16)))
    found = Exported(folder)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"depth/0\.png: a picture of 6000x6000 pixels.*at most 33554432 pixels"):
        found.depth(0)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
