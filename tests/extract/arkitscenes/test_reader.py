"""The reader of ARKitScenes against a tiny release whose content is known: listing, splits, frames, digests."""

from __future__ import annotations

import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from extract.datasets.arkitscenes import ArkitScenes
from extract.datasets.arkitscenes_files.visits import place_video
from extract.datasets.sampling import Sampling
from extract.errors import DataError, DatasetNotFoundError
from extract.plan import clip_table
from tests.extract.arkitscenes.tiny_arkit import (
    FRAMES,
    START,
    TABLE,
    Filmed,
    name,
    write_release,
)

WHOLE = Sampling(frames=5, window="whole", bank=2)


def test_states_what_a_release_holds(release: Path) -> None:
    dataset = ArkitScenes(release)
    assert (dataset.name, dataset.version, dataset.image_size) == ("arkitscenes", "v1", (192, 256))
    assert (dataset.max_instances, list(dataset.classes)) == (0, [])
    assert [(clip.id, clip.scene, clip.split) for clip in dataset.clips()] == [
        ("41000001", "420011", "train"),
        ("41000002", "420015", "val"),
        ("42000001", "420050", "test"),
    ]
    assert all(clip.n_frames == FRAMES for clip in dataset.clips())
    facts = dataset.facts()
    assert (facts["release"], facts["scene"], facts["depth"]) == ("3dod", "visit", "of every confidence")
    json.dumps(facts, allow_nan=False)
    assert len({row.digest for row in clip_table(dataset.clips())}) == 3


@pytest.mark.parametrize("kind", ["3dod", "raw"])
def test_frames_are_those_with_a_pose(kind: str, tmp_path: Path, filmed: Filmed) -> None:
    """Raw videos have frames between poses, which are black here."""
    write_release(tmp_path, filmed, kind)
    for root in (tmp_path, tmp_path / kind):
        dataset = ArkitScenes(root, WHOLE)
        assert dataset.release == kind
        clip = dataset.clips()[0]
        assert (clip.n_frames, clip.bank) == (5, (0, 4))
        chosen = WHOLE.choose(FRAMES)
        np.testing.assert_array_equal(clip.frames(range(5)), filmed.rgb[chosen])
        np.testing.assert_array_equal(clip.frames([3, 0, 3]), filmed.rgb[[chosen[3], chosen[0], chosen[3]]])
        assert clip.frames([]).shape == (0, 192, 256, 3)
        for index in (5, -1):
            with pytest.raises(DataError, match=f"there is no frame {index}"):
                clip.frames([index])


def test_a_pose_further_away_than_5_ms_is_of_no_frame(root: Path, folder: Path, filmed: Filmed) -> None:
    path = folder / "lowres_wide.traj"
    lines = path.read_text().splitlines()
    for row, off in ((1, 0.0045), (2, 0.0055), (3, -0.0055)):
        lines[row] = " ".join([f"{START + row / 10 + off:.8f}", *lines[row].split()[1:]])
    path.write_text("\n".join(reversed(lines)))  # in any order
    (clip, *_) = ArkitScenes(root, Sampling(frames=81, window="whole")).clips()
    assert clip.n_frames == FRAMES - 2
    np.testing.assert_array_equal(clip.frames([1, 2]), filmed.rgb[[1, 4]])


def test_frames_without_depth_or_of_other_names_do_not_count(root: Path, folder: Path) -> None:
    (folder / f"lowres_depth/{name('41000001', 3)}.png").unlink()
    (folder / f"lowres_wide/{name('41000001', 4)}.png").unlink()
    for part in ("lowres_wide", "lowres_depth"):
        (folder / part / "._41000001_6846.206.png").write_bytes(b"resource fork")
        (folder / part / "Thumbs.db").write_bytes(b"")
    assert ArkitScenes(root).clips()[0].n_frames == FRAMES - 2


def test_videos_that_cannot_be_read_are_left_out(root: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for n in range(5):
        (folder / f"lowres_depth/{name('41000001', n)}.png").unlink()
    (root / "3dod/Validation/42000001/42000001_frames/lowres_wide.traj").unlink()
    with caplog.at_level(logging.WARNING):
        assert [clip.id for clip in ArkitScenes(root).clips()] == ["41000002"]
    assert "fewer than 20 frames with colour, depth and a pose are left out (1): 41000001" in caplog.text
    assert "lack lowres_wide.traj are left out (1): 42000001" in caplog.text
    shutil.rmtree(root / "3dod/Training/41000002")
    with pytest.raises(DatasetNotFoundError, match="none of the 2 videos"):
        ArkitScenes(root).clips()


def test_a_visit_of_both_folds_is_only_tested_on(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As visit 381879 of the release. That its video of Validation was not downloaded does not matter."""
    rows = "41000001,420011,Training\n41000002,420011.0,Training\n42000001,NA,Validation\n42000002,420011,Validation\n"
    (root / "3dod/metadata.csv").write_text(TABLE + rows)
    assert [(clip.id, clip.scene, clip.split) for clip in ArkitScenes(root).clips()] == [
        ("42000001", "42000001", "test")
    ]
    assert "of Training, but of a visit that Validation shows too, are left out (2): 41000001, 41000002" in caplog.text


def test_videos_of_one_visit_are_one_scene(root: Path) -> None:
    table = TABLE + "41000001,420015,Training\n41000002,420015,Training\n42000001,420050,Validation\n"
    (root / "3dod/metadata.csv").write_text("video_id,sky_direction\n41000001,Up\n")  # has no visits: not asked
    (root / "3dod_train_val_splits.csv").write_text(table)
    clips = ArkitScenes(root).clips()
    assert [(clip.scene, clip.split) for clip in clips[:2]] == [("420015", "val")] * 2


def test_an_unknown_visit_is_never_chosen_by(root: Path) -> None:
    (root / "3dod/metadata.csv").write_text(TABLE + "41000001,NA,Training\n41000002,,Training\n")
    places = [(clip.scene, clip.split) for clip in ArkitScenes(root).clips()]
    assert places == [("41000001", "train"), ("41000002", "train"), ("42000001", "test")]


def test_without_a_table_every_video_is_a_scene(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "3dod/metadata.csv").unlink()
    dataset = ArkitScenes(root)
    assert "every video is a scene of its own" in caplog.text
    assert dataset.facts()["scene"] == "video"
    assert [clip.scene for clip in dataset.clips()] == ["41000001", "41000002", "42000001"]
    held = [place_video(str(video), "Training", None) for video in range(41000000, 41001000)]
    assert 60 < sum(each is not None and each[1] == "val" for each in held) < 140


def test_both_releases_at_once_are_refused(root: Path, filmed: Filmed) -> None:
    write_release(root, filmed, "raw")
    with pytest.raises(DatasetNotFoundError, match=r"hold the same videos; say which: --root .*raw"):
        ArkitScenes(root)
    assert ArkitScenes(root / "raw").release == "raw"


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"(?s)has no 3dod/Training.*download_data.py"):
        ArkitScenes(tmp_path)
    (tmp_path / "raw/Training").mkdir(parents=True)
    with pytest.raises(DatasetNotFoundError, match="has no video"):
        ArkitScenes(tmp_path)


def test_the_digest_is_of_what_is_read(root: Path, folder: Path) -> None:
    def digests() -> list[str]:
        return [clip.digest() for clip in ArkitScenes(root, WHOLE).clips()]

    before = digests()
    assert digests() == before
    (folder / "lowres_wide_intrinsics" / f"{name('41000001', 7)}.pincam").write_text("not read")
    (folder / "extra.txt").write_text("not read")
    assert digests() == before, "frame 7 is not in the bank"
    seen = {before[0]}
    bank = WHOLE.choose(FRAMES)[4]
    camera = sorted((folder / "lowres_wide_intrinsics").iterdir())[bank]
    camera.write_text("256 192 200 200 127.933 95.9333")
    depth = folder / f"lowres_depth/{name('41000001', 0)}.png"
    for path in (camera, depth, folder / f"lowres_wide/{name('41000001', 12)}.png"):
        path.write_bytes(path.read_bytes() + b"\n")
        assert digests()[0] not in seen
        assert digests()[1:] == before[1:]
        seen.add(digests()[0])
    trajectory = folder / "lowres_wide.traj"
    lines = trajectory.read_text().splitlines()
    lines[0] = lines[0][:-1] + ("1" if lines[0][-1] != "1" else "2")
    trajectory.write_text("\n".join(lines))
    assert digests()[0] not in seen


def test_threads_read_at_once(release: Path, filmed: Filmed) -> None:
    clips = ArkitScenes(release, WHOLE).clips()
    with ThreadPoolExecutor(4) as pool:
        for targets in pool.map(lambda clip: clip.targets(), [*clips, *clips]):
            np.testing.assert_array_equal(targets.rgb[0], filmed.rgb[0])
