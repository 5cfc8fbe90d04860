"""What is read of a sound release."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from extract.__main__ import app
from extract.datasets.base import Targets
from extract.datasets.hypersim import Hypersim
from extract.datasets.sampling import Sampling
from extract.errors import DataError, DatasetNotFoundError, ExtractError
from extract.registry import make_dataset
from store import FeatureStore
from tests.extract.hypersim.tiny_interiors import SIZE, VIEWS, image_rows, views, write_table

FEW = Sampling(frames=6, window="whole", bank=3)
IMAGES, CAMERAS = "metadata_images_split_scene_v1.csv", "metadata_camera_parameters.csv"


@pytest.fixture(scope="module")
def targets(release: Path) -> Targets:
    return Hypersim(release, FEW).clips()[0].targets()


def test_what_the_dataset_states(release: Path) -> None:
    dataset = make_dataset("hypersim", release)
    assert isinstance(dataset, Hypersim)
    assert (dataset.version, dataset.image_size, dataset.depth_unit) == ("v1", SIZE, "m")
    names = [each.name for each in dataset.classes]
    assert (len(names), len(set(names)), names[0], names[39]) == (40, 40, "wall", "otherprop")
    assert [each.name for each in dataset.classes if each.kind == "stuff"] == ["wall", "floor", "ceiling"]
    assert dataset.facts()["sampling"]["window"] == "whole"
    assert dataset.facts()["target_size"] == [480, 640]


def test_clips_and_splits(release: Path) -> None:
    clips = Hypersim(release).clips()
    assert [(clip.id, clip.scene, clip.split, clip.n_frames) for clip in clips] == [
        ("ai_001_001-cam_00", "ai_001_001", "train", 20),
        ("ai_001_001-cam_01", "ai_001_001", "train", 22),
        ("ai_002_001-cam_00", "ai_002_001", "val", 22),
        ("ai_003_010-cam_00", "ai_003_010", "test", 22),
    ]
    assert clips[0].chosen == [0, 1, 2, 4, 5, 6, *range(8, 22)], "without images that were not released"


def test_frames_are_those_asked_for(release: Path) -> None:
    clip = Hypersim(release, FEW).clips()[0]
    assert clip.chosen == [0, 5, 10, 13, 17, 21]
    images = clip.frames([5, 1, 1])
    assert images.shape == (3, *SIZE, 3)
    for image, number in zip(images, (21, 5, 5), strict=True):
        off = np.abs(image.astype(int) - views("ai_001_001")[number % VIEWS].rgb)
        assert np.median(off) <= 2
    for index in (-1, 6):
        with pytest.raises(DataError, match=rf"clip ai_001_001-cam_00: there is no frame {index}\. Remedy"):
            clip.frames([0, index])


def test_labels(targets: Targets) -> None:
    assert targets.instance is not None
    assert targets.instance_class is not None
    rows, columns = np.arange(480) * 768 // 480, np.arange(640) * 1024 // 640
    for row, number in enumerate((0, 10, 21)):
        seen = views("ai_001_001")[number % VIEWS]
        semantic, instance = seen.semantic, seen.instance
        true = np.where(instance >= 0, 41 + instance, np.maximum(semantic, 0))
        # The nearest pixel is this one or the next.
        near = [true[np.ix_(rows + i, columns + j)] for i in (0, 1) for j in (0, 1)]
        assert np.any([targets.instance[row] == each for each in near], axis=0).all()
    assert set(np.unique(targets.instance)) == {0, 1, 2, 48, 49, 341}
    assert {k: int(c) for k, c in enumerate(targets.instance_class) if c} == {1: 1, 2: 2, 48: 5, 341: 35}
    assert len(targets.instance_class) == 8233


def test_parts_that_nobody_has_do_not_exist(root: Path) -> None:
    for path in root.rglob("*.semantic.hdf5"):
        path.unlink()
    targets = Hypersim(root, FEW).clips()[0].targets()
    assert targets.instance is None
    assert targets.instance_class is None
    assert targets.depth is not None
    for path in root.rglob("*.depth_meters.hdf5"):
        path.unlink()
    clip = Hypersim(root, FEW).clips()[0]
    assert clip.targets().depth is None
    assert clip.digest()


def test_parts_that_some_lack(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "ai_001_001/images/scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5").unlink()
    (root / "ai_002_001/images/scene_cam_00_geometry_hdf5/frame.0000.semantic.hdf5").unlink()
    shutil.rmtree(root / "ai_003_010/images/scene_cam_00_final_preview")
    assert [clip.id for clip in Hypersim(root).clips()] == ["ai_001_001-cam_01"]
    assert "ai_001_001-cam_00, ai_002_001-cam_00 lack the labels or the depth" in caplog.text
    assert "ai_003_010-cam_00 have no images; they are left out" in caplog.text


def test_short_paths_are_left_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [row for row in image_rows() if row[:2] != ["ai_002_001", "cam_00"] or int(row[2]) < 19]
    (root / IMAGES).unlink()
    write_table(root / IMAGES, rows)
    assert len(Hypersim(root).clips()) == 3
    assert "ai_002_001-cam_00 have fewer than 20 images" in caplog.text


@pytest.mark.parametrize("place", ["scenes", "evermotion_dataset/scenes"])
def test_where_scenes_may_lie(root: Path, place: str) -> None:
    """Beside a clone of the code, whose folders of scenes have no images."""
    (root / place).mkdir(parents=True)
    for folder in root.glob("ai_*"):
        folder.rename(root / place / folder.name)
    (root / "ai_001_001/_detail/mesh").mkdir(parents=True)
    assert len(Hypersim(root).clips()) == 4


@pytest.mark.parametrize(
    ("table", "place"),
    [
        (IMAGES, "analysis"),
        (IMAGES, "evermotion_dataset/analysis"),
        (IMAGES, "ml-hypersim/evermotion_dataset/analysis"),
        (CAMERAS, "contrib/mikeroberts3000"),
        (CAMERAS, "ml-hypersim/contrib/mikeroberts3000"),
    ],
)
def test_where_tables_may_lie(root: Path, table: str, place: str) -> None:
    (root / place).mkdir(parents=True)
    (root / table).rename(root / place / table)
    assert len(Hypersim(root).clips()) == 4
    (root / place / table).unlink()
    with pytest.raises(DatasetNotFoundError, match=rf"(?s){table} is missing; looked in .*of the repository"):
        Hypersim(root)


def test_no_scenes(root: Path) -> None:
    for folder in root.glob("ai_*"):
        shutil.rmtree(folder)
    with pytest.raises(DatasetNotFoundError, match=r"has no images such as .*frame\.0000\.tonemap\.jpg"):
        Hypersim(root)


def test_without_h5py(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.datasets.hypersim_files.arrays.find_spec", lambda name: None)
    with pytest.raises(ExtractError, match=r"h5py.*not installed\. Remedy: pip install 'spatial-probing\[hypersim\]'"):
        Hypersim(release)


def test_digest_covers_what_is_read(root: Path) -> None:
    def digest() -> str:
        return Hypersim(root, FEW).clips()[0].digest()

    scene = root / "ai_001_001"
    images = scene / "images"
    seen = {digest()}
    for path in (
        images / "scene_cam_00_final_preview/frame.0001.tonemap.jpg",
        images / "scene_cam_00_geometry_hdf5/frame.0005.depth_meters.hdf5",
    ):
        path.unlink()
    assert digest() in seen, "not of the clip, and not of the bank"
    for path in (
        images / "scene_cam_00_final_preview/frame.0005.tonemap.jpg",
        images / "scene_cam_00_geometry_hdf5/frame.0010.depth_meters.hdf5",
        images / "scene_cam_00_geometry_hdf5/frame.0010.semantic.hdf5",
        images / "scene_cam_00_geometry_hdf5/frame.0010.semantic_instance.hdf5",
        scene / "_detail/metadata_scene.csv",
        scene / "_detail/cam_00/camera_keyframe_positions.hdf5",
        scene / "_detail/cam_00/camera_keyframe_orientations.hdf5",
    ):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content + b"\n")
        seen.add(digest())
    text = (root / CAMERAS).read_text()
    (root / CAMERAS).unlink()
    (root / CAMERAS).write_text(
        text.replace("ai_001_001,768.0,1024.0,False,,0.57", "ai_001_001,768.0,1024.0,False,,0.58")
    )
    seen.add(digest())
    assert len(seen) == 9


def test_one_command(root: Path, store_root: Path) -> None:
    path = root / "ai_001_001/images/scene_cam_01_geometry_hdf5/frame.0000.semantic.hdf5"
    path.unlink()
    path.write_bytes(b"")
    command = ["--model", "pixels", "--dataset", "hypersim", "--root", str(root), "--clip-frames", "5", "--bank", "3"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "scene_cam_01_geometry_hdf5/frame.0000.semantic.hdf5: cannot be read" in " ".join(result.output.split())
    features, targets = FeatureStore.open("pixels", "hypersim"), FeatureStore.open("targets", "hypersim")
    assert {clip.scene: clip.split for clip in features.clips} == {
        "ai_001_001": "train",
        "ai_002_001": "val",
        "ai_003_010": "test",
    }
    done = [bool(targets.committed.mask("depth")[clip.row]) for clip in targets.clips]
    assert done == [True, False, True, True]
    assert targets.read("instance", row=0).shape == (3, 480, 640)
    assert (targets.read("class_pixels", row=0).sum(0) > 0).nonzero()[0].tolist() == [0, 1, 4, 34]
