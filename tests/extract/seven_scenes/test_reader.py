"""What is read of a sound release, and that depth, cameras and colour fit together."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from extract.__main__ import app
from extract.datasets.base import Targets
from extract.datasets.sampling import Sampling
from extract.datasets.seven_scenes import SPLITS, SevenScenes
from extract.errors import DataError, DatasetNotFoundError
from extract.registry import make_dataset
from store import FeatureStore
from tests.extract.scannet.tiny_scans import COLOURS
from tests.extract.seven_scenes.tiny_sequences import COLOR_CAMERA, FRAMES, SIZE, film, write_folder, write_zip

FEW = Sampling(frames=5, window="whole", bank=3)


@pytest.fixture(scope="module")
def targets(release: Path) -> Targets:
    return SevenScenes(release, FEW).clips()[0].targets()


def test_what_the_dataset_states(release: Path) -> None:
    dataset = make_dataset("7scenes", release)
    assert isinstance(dataset, SevenScenes)
    assert (dataset.image_size, dataset.classes, dataset.max_instances, dataset.depth_unit) == (SIZE, [], 0, "m")
    assert dataset.sampling == Sampling()
    facts = dataset.facts()
    assert facts["sampling"] == Sampling().model_dump(mode="json")
    assert facts["focal"] == {"depth": 585.0, "color": 525.0}
    assert dataset.damaged == {}


def test_clips_and_splits(release: Path) -> None:
    clips = SevenScenes(release).clips()
    assert [(clip.id, clip.scene, clip.split) for clip in clips] == [
        ("chess-seq-01", "chess", "train"),
        ("chess-seq-02", "chess", "train"),
        ("fire-seq-03", "fire", "test"),
        ("heads-seq-01", "heads", "val"),
    ]
    assert {clip.n_frames for clip in clips} == {FRAMES}
    assert set(SPLITS.values()) == {"train", "val", "test"}
    assert len(SPLITS) == 7


def test_sampling_is_the_papers(tmp_path: Path) -> None:
    color = film().files["frame-000000.color.png"]
    write_zip(tmp_path / "stairs/seq-01.zip", {f"frame-{k:06d}.color.png": color for k in range(500)})
    (clip,) = SevenScenes(tmp_path).clips()
    assert (clip.n_frames, clip.chosen[0], clip.chosen[-1]) == (81, 125, 374)
    assert clip.bank == (0, *range(1, 76, 4))


def test_frames_are_those_asked_for(release: Path) -> None:
    for clip in SevenScenes(release, FEW).clips():
        assert clip.chosen == [0, 5, 10, 14, 19]
        images = clip.frames([4, 1, 1])
        for image, frame in zip(images, (19, 5, 5), strict=True):
            np.testing.assert_array_equal(image, COLOURS[film().seen(frame, COLOR_CAMERA)[1]])
    for index in (-1, 5):
        with pytest.raises(DataError, match=rf"clip heads-seq-01: there is no frame {index}\. Remedy"):
            clip.frames([0, index])


def test_folder_and_zip_say_the_same(release: Path) -> None:
    packed, plain, *_ = SevenScenes(release, FEW).clips()
    assert packed.digest() == plain.digest()
    for name in ("rgb", "depth", "cam_to_world", "intrinsics"):
        np.testing.assert_array_equal(getattr(packed.targets(), name), getattr(plain.targets(), name))


def test_depth_is_what_the_colour_camera_would_see(targets: Targets) -> None:
    assert targets.depth is not None
    assert targets.instance is None
    assert targets.instance_class is None
    for row, frame in enumerate((0, 10, 19)):
        depth, known = targets.depth[row], targets.depth[row] > 0
        true, _ = film().seen(frame, COLOR_CAMERA)
        known &= true > 0  # the ceiling of the room
        assert (np.abs(depth - true)[known] < 0.02).mean() > 0.97, "all but outlines, which nearest pixels move"
        assert np.median(np.abs(depth - true)[known]) < 2e-3


def test_where_depth_is_not_known(targets: Targets) -> None:
    assert targets.depth is not None
    border = round(320 - 320 * 525 / 585)
    depth = targets.depth[1]
    assert (depth[:, :border] == 0).all()
    assert (depth[:, -border:] == 0).all()
    assert (depth[240:, border + 1] > 0).any(), "but no more than the border"
    holes = np.mgrid[200:210, 300:310].reshape(2, -1), np.mgrid[250:260, 300:310].reshape(2, -1)
    for rows, columns in holes:
        row = ((rows + 0.5 - 240) / 585 * 525 + 240).astype(int)
        column = ((columns + 0.5 - 320) / 585 * 525 + 320).astype(int)
        assert (depth[row[22:78], column[22:78]] == 0).all()
    assert depth.max() < 6, "65535 is no depth of 65 m"


def test_points_of_one_frame_land_on_another(targets: Targets) -> None:
    """On its depth, and on its colour: the room has one colour per thing."""
    assert targets.depth is not None
    assert targets.cam_to_world is not None
    assert targets.intrinsics is not None
    np.testing.assert_allclose(targets.cam_to_world, film().poses[[0, 10, 19]], atol=1e-6)
    rows, columns = np.nonzero(targets.depth[0])
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    local = np.linalg.solve(targets.intrinsics[0], pixels) * targets.depth[0][rows, columns]
    world = targets.cam_to_world[0] @ np.vstack([local, np.ones(len(rows))])
    for other in (1, 2):
        there = (np.linalg.inv(targets.cam_to_world[other]) @ world)[:3]
        column, row = np.floor((targets.intrinsics[other] @ there)[:2] / there[2]).astype(int)
        inside = (column >= 0) & (column < SIZE[1]) & (row >= 0) & (row < SIZE[0])
        seen = np.zeros(len(rows))
        seen[inside] = targets.depth[other][row[inside], column[inside]]
        met = np.abs(seen - there[2]) < 0.02
        assert met.sum() > 0.5 * inside.sum()
        assert met.sum() > 0.9 * (seen > 0).sum(), "few are hidden"
        colours = targets.rgb[0][rows[met], columns[met]] == targets.rgb[other][row[met], column[met]]
        assert colours.all(-1).mean() > 0.98


def test_a_pose_that_is_lost_is_all_zero(root: Path) -> None:
    path = root / "chess/seq-02/frame-000000.pose.txt"
    path.write_text("\n".join(["nan nan nan nan"] * 3 + ["0 0 0 1"]))
    poses = SevenScenes(root, FEW).clips()[1].targets().cam_to_world
    assert poses is not None
    assert not poses[0].any()
    assert poses[1].any()


def test_digest_covers_what_is_read(root: Path) -> None:
    clip = SevenScenes(root, FEW).clips()[1]
    plain, seen = clip.digest(), set()
    (root / "chess/seq-02/frame-000001.color.png").write_bytes(b"not of the clip")
    (root / "chess/seq-02/frame-000005.depth.png").write_bytes(b"not of the bank")
    assert clip.digest() == plain
    for name in ("frame-000005.color.png", "frame-000010.depth.png", "frame-000010.pose.txt"):
        path = root / "chess/seq-02" / name
        path.write_bytes(path.read_bytes() + b" ")
        seen.add(clip.digest())
    assert len(seen | {plain}) == 4


def test_sequences_that_are_listed_and_not_there(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (root / "chess/TrainSplit.txt").open("a") as file:
        file.write("sequence4\nsequence06\n")
    assert len(SevenScenes(root).clips()) == 4
    assert "seq-04, seq-06 of chess are listed, and not there" in caplog.text


def test_short_sequences_are_left_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "fire/seq-03/frame-000019.color.png").unlink()
    assert [clip.scene for clip in SevenScenes(root).clips()] == ["chess", "chess", "heads"]
    assert "fire/seq-03 has fewer than 20 frames; it is left out" in caplog.text


def test_lists_are_not_needed(root: Path) -> None:
    for path in root.rglob("*Split.txt"):
        path.unlink()
    shutil.rmtree(root / "heads")
    assert len(SevenScenes(root).clips()) == 3


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "chess.zip").write_bytes(b"the outer archive")
    with pytest.raises(DatasetNotFoundError, match=r"(?s)has no sequence.*Unpack one or more of chess\.zip"):
        SevenScenes(tmp_path)


def test_one_command(root: Path, store_root: Path) -> None:
    write_folder(root / "stairs/seq-01", film().files)
    (root / "stairs/seq-01/frame-000000.depth.png").write_bytes(b"")
    command = ["--model", "pixels", "--dataset", "7scenes", "--root", str(root)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "stairs/seq-01/frame-000000.depth.png" in " ".join(result.output.split())
    features, targets = FeatureStore.open("pixels", "7scenes"), FeatureStore.open("targets", "7scenes")
    assert {clip.id: clip.split for clip in features.clips}["heads-seq-01"] == "val"
    done = {clip.id: bool(targets.committed.mask("depth")[clip.row]) for clip in targets.clips}
    assert done == {
        "chess-seq-01": True,
        "chess-seq-02": True,
        "fire-seq-03": True,
        "heads-seq-01": True,
        "stairs-seq-01": False,
    }
    assert set(targets.arrays) == {"rgb", "depth", "cam_to_world", "intrinsics"}
    assert targets.read("intrinsics", row=0)[0, 0, 0] == 525
