"""A clip is what is read of it: its digest changes with that, with nothing else, and is not computed twice."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from extract.datasets.sampling import Sampling
from extract.datasets.scannet import ScanNet, ScanNet200
from extract.datasets.scannet_files.clip import ScanNetClip
from extract.errors import DataError
from tests.extract.scannet.tiny_scans import LOST, TinyScan, write_exported, write_labels, write_lists, write_sens

FEW = Sampling(frames=5, window="whole", bank=3)  # frames 0, 5, 10, 14, 19; bank 0, 10, 19

FILES = ["scene0001_00.sens", "scene0001_00_2d-instance-filt.zip", "scene0001_00.aggregation.json"]


def first(root: Path, sampling: Sampling = FEW) -> ScanNetClip:
    return ScanNet(root, sampling).clips()[0]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as written a while ago, so that digests may be remembered."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 10)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Clips whose digest was computed, in order."""
    ids: list[str] = []
    original = ScanNetClip._read_digest

    def read(clip: ScanNetClip) -> str:
        ids.append(clip.id)
        return original(clip)

    monkeypatch.setattr(ScanNetClip, "_read_digest", read)
    return ids


def test_it_does_not_depend_on_the_place(release: Path, root: Path) -> None:
    digests = [clip.digest() for clip in ScanNet(release, FEW).clips()]
    assert digests == [clip.digest() for clip in ScanNet(root, FEW).clips()]
    assert all(len(digest) == 32 for digest in digests)
    assert first(root).digest() == ScanNet200(root, FEW).clips()[0].digest()


def brighter(scan: TinyScan, frame: int) -> TinyScan:
    rgb = scan.rgb.copy()
    rgb[frame] //= 2
    return replace(scan, rgb=rgb)


def deeper(scan: TinyScan, frame: int) -> TinyScan:
    depth = scan.depth.copy()
    depth[frame] += 1
    return replace(scan, depth=depth)


def lost(scan: TinyScan, frame: int) -> TinyScan:
    poses = scan.poses.copy()
    poses[frame] = LOST
    return replace(scan, poses=poses)


def relabelled(scan: TinyScan, frame: int) -> TinyScan:
    instance = scan.instance.copy()
    instance[frame, 0, 0] = 5 - instance[frame, 0, 0] % 2
    return replace(scan, instance=instance)


def zoomed(scan: TinyScan, frame: int) -> TinyScan:
    return replace(scan, color_matrix=scan.color_matrix * 1.01)


CHANGES: list[tuple[Callable[[TinyScan, int], TinyScan], set[int]]] = [
    (brighter, {0, 5, 10, 14, 19}),
    (deeper, {0, 10, 19}),
    (lost, {0, 10, 19}),
    (relabelled, {0, 10, 19}),
    (zoomed, set(range(20))),
]


@pytest.mark.parametrize(("change", "read"), CHANGES)
def test_what_is_read_counts_and_nothing_else(
    root: Path, folder: Path, scan: TinyScan, change: Callable[[TinyScan, int], TinyScan], read: set[int]
) -> None:
    before = first(root).digest()
    for frame in (0, 1, 5, 10, 19):
        changed = change(scan, frame)
        write_sens(folder, changed)
        write_labels(folder, changed)
        assert (first(root).digest() != before) == (frame in read), frame


def test_labels_and_frames_in_use_count(root: Path, folder: Path) -> None:
    digests = {first(root).digest(), first(root, Sampling(frames=5, window="whole", bank=2)).digest()}
    digests.add(first(root, Sampling(frames=6, window="whole", bank=3)).digest())
    path = folder / "scene0001_00.aggregation.json"
    path.write_text(path.read_text().replace("pillow", "pilow"))
    digests.add(first(root).digest())
    for archive in root.rglob("*.zip"):
        archive.unlink()
    digests.add(first(root).digest())
    assert len(digests) == 5


@pytest.mark.usefixtures("later")
def test_it_is_remembered(root: Path, made: list[str]) -> None:
    found = [first(root).digest() for _ in range(3)]
    assert len(set(found)) == 1
    assert made == ["scene0001_00"]
    first(root, Sampling(frames=6, window="whole", bank=3)).digest()
    assert len(made) == 2


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_may_have_changed_is_read_again(root: Path, folder: Path, made: list[str], name: str) -> None:
    first(root).digest()
    os.utime(folder / name, (1, 1))
    first(root).digest()
    first(root).digest()
    assert len(made) == 2


def exported(tmp_path: Path, scan: TinyScan) -> Path:
    folder = write_exported(tmp_path / "scans" / scan.id, scan)
    write_labels(folder, scan)
    write_lists(tmp_path, [scan.id], ["scene0568_00"])
    return folder


@pytest.mark.usefixtures("later")
def test_exported_files_are_remembered_together(tmp_path: Path, scan: TinyScan, made: list[str]) -> None:
    folder = exported(tmp_path, scan)
    before = first(tmp_path).digest()
    assert first(tmp_path).digest() == before
    assert len(made) == 1
    for name, counts in (("color/5.jpg", True), ("color/1.jpg", False), ("depth/10.png", True), ("pose/19.txt", True)):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b"\n")
        assert (first(tmp_path).digest() != before) == counts, name
        (folder / name).write_bytes(content)
    assert first(tmp_path).digest() == before


def test_exported_cameras_count(tmp_path: Path, scan: TinyScan) -> None:
    folder = exported(tmp_path, scan)
    before = first(tmp_path).digest()
    aside = np.eye(4)
    aside[0, 3] = 1
    np.savetxt(folder / "intrinsic/extrinsic_depth.txt", aside)
    assert first(tmp_path).digest() != before


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_vanishes_is_named(root: Path, folder: Path, name: str) -> None:
    clip = first(root)
    (folder / name).unlink()
    with pytest.raises(DataError, match=rf"{name}: missing.*Remedy"):
        clip.digest()


def test_a_truncated_recording_is_said_before_any_work(root: Path, folder: Path) -> None:
    path = folder / "scene0001_00.sens"
    os.truncate(path, path.stat().st_size - 500)
    with pytest.raises(DataError, match=r"scene0001_00\.sens: .*truncated.*Remedy"):
        first(root).digest()


def test_a_link_is_the_file(root: Path, folder: Path, tmp_path: Path) -> None:
    before = first(root).digest()
    moved = shutil.move(folder, tmp_path / "elsewhere")
    folder.symlink_to(moved)
    assert first(root).digest() == before
