"""Which scans become clips, of which split, and what is said of the rest."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xxhash

from extract.datasets.base import Dataset
from extract.datasets.rooms import Rooms
from extract.datasets.sampling import Sampling
from extract.datasets.scannet import ScanNet, ScanNet200
from extract.datasets.scannet_files.splits import read_splits
from extract.errors import DataError, DatasetNotFoundError
from extract.outcome import Outcome
from extract.plan import clip_table
from extract.progress import Progress
from extract.registry import make_dataset
from extract.targets import write_targets
from store import FeatureStore
from tests.extract.scannet.tiny_scans import TinyScan, make_scan, write_exported, write_labels, write_lists, write_sens

FEW = Sampling(frames=3, window="whole", bank=2)


def test_what_the_dataset_states(release: Path) -> None:
    dataset = make_dataset("scannet", release)
    assert isinstance(dataset, ScanNet)
    assert (dataset.version, dataset.image_size, len(dataset.classes)) == ("v2", (968, 1296), 20)
    assert dataset.sampling == Sampling(), "the paper's"
    facts = dataset.facts()
    assert facts["sampling"] == Sampling().model_dump(mode="json")
    assert facts["target_size"] == [480, 640]
    assert facts["labels"]["column"] == "nyu40id"
    assert make_dataset("scannet200", release).facts()["labels"] == facts["labels"] | {"column": "id"}


def test_clips_of_the_papers_sampling(tmp_path: Path) -> None:
    long = make_scan(frames=260, color_size=(6, 8), depth_size=(6, 8))
    write_lists(tmp_path, [long.id], ["scene0568_00"])
    write_sens(tmp_path / "scans" / long.id, long)
    (clip,) = ScanNet(tmp_path).clips()
    assert (clip.id, clip.scene, clip.n_frames) == ("scene0001_00", "scene0001", 81)
    assert clip.bank == (0, *range(1, 76, 4))
    assert (clip.chosen[0], clip.chosen[-1]) == (65, 194), "the centre half of 260 frames"


def test_rescans_of_a_room_stay_together(tmp_path: Path) -> None:
    train = [f"scene{room:04d}_{scan:02d}" for room in range(400) for scan in range(3)]
    write_lists(tmp_path, train, ["scene0568_00", "scene0568_01"])
    found = read_splits([tmp_path / f"scannetv2_{name}.txt" for name in ("train", "val")])
    assert list(found) == sorted(found)
    assert found["scene0568_00"] == found["scene0568_01"] == "test"
    for room in range(400):
        assert len({found[f"scene{room:04d}_{scan:02d}"] for scan in range(3)}) == 1
        chosen = xxhash.xxh3_64(f"scene{room:04d}".encode()).intdigest() % 10 == 0
        assert found[f"scene{room:04d}_00"] == ("val" if chosen else "train")
    assert 25 < list(found.values()).count("val") / 3 < 55


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (["scene0001_00", "scene0001_00"], ["scene0568_00"], "lists a scan twice"),
        ([], ["scene0568_00"], "is empty"),
        (["scene0001_00"], [], "is empty"),
        (["../scene0001_00"], ["scene0568_00"], "'../scene0001_00' is no scan"),
        (["scene0001"], ["scene0568_00"], "'scene0001' is no scan"),
        (["scene0001_00"], ["scene0001_01"], "share rooms: scene0001"),
    ],
)
def test_faults_of_the_lists(tmp_path: Path, train: list[str], val: list[str], message: str) -> None:
    write_lists(tmp_path, train, val)
    with pytest.raises(DataError, match=rf"scannetv2_\w+\.txt.*{message}.*Remedy"):
        ScanNet(tmp_path)


@pytest.mark.parametrize("place", ["Tasks/Benchmark", "scans"])
def test_where_the_lists_may_lie(root: Path, scan: TinyScan, place: str) -> None:
    for name in ("train", "val"):
        (root / f"scannetv2_{name}.txt").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"scannetv2_train\.txt and scannetv2_val\.txt are missing"):
        ScanNet(root)
    write_lists(root, [scan.id], ["scene0568_00"], place)
    assert len(ScanNet(root).clips()) == 2


@pytest.mark.parametrize("place", ["tasks", "scans"])
def test_where_the_label_table_may_lie(root: Path, place: str) -> None:
    (root / place).mkdir(exist_ok=True)
    (root / "scannetv2-labels.combined.tsv").rename(root / place / "scannetv2-labels.combined.tsv")
    assert ScanNet(root, FEW).clips()[0].targets().instance is not None
    (root / place / "scannetv2-labels.combined.tsv").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"labels\.combined\.tsv is missing"):
        ScanNet(root)


def test_scans_that_were_not_downloaded_are_left_out(
    root: Path, scan: TinyScan, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(root / "scans/scene0568_00")
    write_lists(root, [scan.id, *(f"scene0{n}_00" for n in range(100, 110))], ["scene0568_00"])
    assert [clip.id for clip in ScanNet(root).clips()] == [scan.id]
    assert "scene0100_00" in caplog.text
    assert "and 6 more are in the official lists, and have no recording" in caplog.text
    shutil.rmtree(root / "scans" / scan.id)
    with pytest.raises(DatasetNotFoundError, match="holds no scan that"):
        ScanNet(root)


def test_scans_that_no_list_names_are_left_out(root: Path, scan: TinyScan) -> None:
    shutil.copytree(root / "scans" / scan.id, root / "scans/scene0707_00")
    assert [clip.id for clip in ScanNet(root).clips()] == [scan.id, "scene0568_00"]


def test_damaged_scans_are_named_all_at_once(root: Path, scan: TinyScan) -> None:
    for name in (scan.id, "scene0568_00"):
        (root / f"scans/{name}/{name}.sens").write_bytes(b"")
    dataset = ScanNet(root)
    assert not dataset.clips()
    assert list(dataset.damaged) == ["scene0001_00", "scene0568_00"]
    for name, why in dataset.damaged.items():
        assert re.search(rf"{name}\.sens: .*Remedy", why), why


def test_one_damaged_scan_leaves_the_others(root: Path, scan: TinyScan) -> None:
    (root / f"scans/{scan.id}/{scan.id}.sens").write_bytes(b"")
    dataset = ScanNet(root, FEW)
    assert list(dataset.damaged) == [scan.id]
    (clip,) = dataset.clips()
    assert clip.targets().instance is not None


@pytest.mark.parametrize("name", ["{}_2d-instance-filt.zip", "{}.aggregation.json"])
def test_scans_without_labels_beside_others_are_left_out(
    root: Path, folder: Path, scan: TinyScan, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / name.format(scan.id)).unlink()
    assert [clip.id for clip in ScanNet(root).clips()] == ["scene0568_00"]
    assert f"{scan.id} lack the labels" in caplog.text


def test_no_scan_has_labels(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in root.rglob("*.zip"):
        path.unlink()
    (root / "scannetv2-labels.combined.tsv").unlink()
    dataset = ScanNet(root, FEW)
    targets = dataset.clips()[0].targets()
    assert targets.instance is None
    assert targets.instance_class is None
    assert targets.depth is not None
    assert "no scan has labels" in caplog.text
    assert dataset.facts()["labels"]["table"] is None
    assert len(dataset.clips()[0].digest()) == 32


def test_scans_without_depth_beside_others_are_left_out(
    root: Path, folder: Path, scan: TinyScan, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / f"{scan.id}.sens").unlink()
    write_exported(folder, scan, parts=())
    assert [clip.id for clip in ScanNet(root).clips()] == ["scene0568_00"]
    assert f"{scan.id} lack the labels or the depth" in caplog.text


def test_short_recordings_are_left_out(root: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_sens(folder, make_scan(frames=19))
    assert [clip.id for clip in ScanNet(root).clips()] == ["scene0568_00"]
    assert "scene0001_00 have fewer than 20 frames" in caplog.text


def test_listing_reads_no_picture(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.datasets.scannet_files.sens.decode", None)
    monkeypatch.setattr("extract.datasets.scannet_files.sens.Sens.read", None)
    dataset = ScanNet(root)
    assert [clip.n_frames for clip in dataset.clips()] == [20, 20]
    assert dataset.max_instances == 255


def test_targets_of_all_clips_but_a_damaged_one_are_written(root: Path, scan: TinyScan, store_root: Path) -> None:
    """A picture that cannot be decoded costs one clip, and the others go on."""
    damaged = replace(scan, id="scene0002_00", instance=scan.instance + 100)
    write_lists(root, [scan.id, damaged.id], ["scene0568_00"])
    write_sens(root / "scans" / damaged.id, damaged)
    write_labels(root / "scans" / damaged.id, damaged)
    dataset = ScanNet(root, FEW)
    clips = dataset.clips()
    outcome: Outcome = write_targets(dataset, clips, clip_table(clips), [0, 1, 2], Progress())
    assert list(outcome.failed) == ["scene0002_00"]
    assert "are no objects" in outcome.failed["scene0002_00"]
    found = FeatureStore.open("targets/scannet")
    assert {"rgb", "depth", "instance", "instance_class", "class_pixels", "cam_to_world", "intrinsics"} == set(
        found.arrays
    )


def test_scannet_says_what_to_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCANNET_ROOT", raising=False)
    for root in (None, tmp_path):
        with pytest.raises(DatasetNotFoundError) as caught:
            ScanNet(root)
        for part in (".sens", "2d-instance-filt.zip", "labels.combined.tsv", "scan-net.org", "--root", "SCANNET_ROOT"):
            assert part in str(caught.value)
    monkeypatch.setenv("SCANNET_ROOT", str(tmp_path / "gone"))
    for dataset in (ScanNet, ScanNet200):
        with pytest.raises(DatasetNotFoundError, match=r"gone \(given by SCANNET_ROOT\)"):
            dataset()


@pytest.mark.parametrize(("dataset", "variable"), [(Rooms, "ROOMS_ROOT"), (ScanNet, "SCANNET_ROOT")])
def test_datasets_state_where_they_are_looked_for(dataset: type[Dataset], variable: str) -> None:
    assert dataset.environment == variable
    assert dataset.how_to_get


def test_other_sizes_of_colour_are_said(root: Path, scan: TinyScan, caplog: pytest.LogCaptureFixture) -> None:
    native = replace(scan, id="scene0002_00", rgb=np.zeros((20, 968, 1296, 3), np.uint8))
    write_lists(root, [scan.id, native.id], ["scene0568_00"])
    write_sens(root / "scans" / native.id, native)
    write_labels(root / "scans" / native.id, native)
    ScanNet(root)
    assert "scans scene0001_00, scene0568_00 have colour of another size than 1296x968" in caplog.text
