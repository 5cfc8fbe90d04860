"""Where scenes may lie, which split each is in, and which folders are no scenes."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from extract.datasets.folder import FolderDataset
from extract.datasets.recordings.layout import split_of
from extract.datasets.recordings.source import in_order
from extract.errors import DataError, DatasetNotFoundError
from extract.plan import clip_table
from tests.extract.folder.recordings import moving_pictures, room, write, write_labels, write_video


def pictures(folder: Path, count: int = 2, ending: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        Image.new("RGB", (16, 8), (n, 0, 0)).save(folder / f"{n}{ending}")


def scenes(root: Path) -> dict[str, tuple[str, int]]:
    return {clip.id: (clip.split, clip.n_frames) for clip in FolderDataset(root).clips()}


def test_every_place_for_frames(root: Path) -> None:
    pictures(root / "a/images", 2, ".jpg")
    pictures(root / "b/rgb", 3, ".webp")
    pictures(root / "c d", 4, ".PNG")
    (root / "e").mkdir()
    write_video(root / "e/film.MOV", moving_pictures(5))
    write_video(root / "f.mp4", moving_pictures(6))
    write_video(root / "g.webm", moving_pictures(7), "libvpx-vp9")
    found = {name: count for name, (_, count) in scenes(root).items()}
    assert found == {"a": 2, "b": 3, "c d": 4, "e": 5, "f": 6, "g": 7}


@pytest.mark.parametrize("place", ["images", "rgb", "."])
def test_the_directory_itself_is_a_recording(root: Path, place: str) -> None:
    pictures(root / place, 3)
    assert list(scenes(root)) == ["data"]
    shutil.copytree(root, root.with_name("other"))
    assert list(scenes(root.with_name("other"))) == ["other"]


def test_the_directory_itself_holds_a_video(root: Path) -> None:
    tiny = room(frames=4)
    write_video(root / "video.mp4", tiny.rgb)
    assert list(scenes(root)) == ["video"], "named as it would be among others"
    write_labels(root, tiny, [f"{n}.png" for n in range(4)])
    dataset = FolderDataset(root)
    assert [clip.id for clip in dataset.clips()] == ["data"]
    assert dataset.present == {"depth", "instance", "classes"}


def test_frames_are_in_the_order_of_their_numbers(root: Path) -> None:
    names = ["frame_10.png", "frame_9.png", "frame_100.png", "frame_009b.png", "a.png", "1.png", "10.png", "02.png"]
    for name in names:
        Image.new("RGB", (4, 4)).save(root / name)
    found = [path.name for path in in_order([root / name for name in names])]
    assert found == [
        "1.png", "02.png", "10.png", "a.png", "frame_9.png", "frame_009b.png", "frame_10.png", "frame_100.png"
    ]  # fmt: skip


def test_frames_come_once_and_ascending(root: Path) -> None:
    pictures(root / "a", 4)
    write_video(root / "b.mp4", moving_pictures(4))
    a, b = sorted(FolderDataset(root).clips(), key=lambda clip: clip.id)
    for clip in (a, b):
        assert [number for number, _, _ in clip.source.decode([3, 0, 3, 1])] == [0, 1, 3]


def test_hidden_files_are_none(root: Path) -> None:
    pictures(root / "a", 2)
    (root / "a/._0.png").write_bytes(b"what macOS leaves in archives")
    pictures(root / ".cache")
    pictures(root / "__MACOSX")
    assert scenes(root) == {"a": (split_of("a"), 2)}


@pytest.mark.parametrize("name", ["x" * 201, "a\tb", "caf\udce9"], ids=["long", "control", "no UTF-8"])
def test_names_that_no_clip_can_have(root: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    pictures(root / "a")
    pictures(root / name)
    assert list(scenes(root)) == ["a"]
    assert f"{name!r}: a clip cannot have this name" in caplog.text
    assert len(clip_table(FolderDataset(root).clips())) == 1


def test_a_hidden_directory_is_no_name(root: Path) -> None:
    pictures(root / ".mine")
    with pytest.raises(DatasetNotFoundError, match=r"(?s)'\.mine': a clip cannot have this name.*Remedy"):
        FolderDataset(root / ".mine")


def test_names_of_files_that_are_no_text(root: Path) -> None:
    pictures(root / "a")
    pictures(root / "b")
    (root / "b/0.png").rename(root / "b/caf\udce9.png")
    a, b = sorted(FolderDataset(root).clips(), key=lambda clip: clip.id)
    with pytest.raises(DataError, match=r"scene b: 'b/caf.udce9' … is no UTF-8. Remedy: rename"):
        b.digest()
    a.digest()


def test_folders_without_frames_are_left_out_by_name(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures(root / "a")
    (root / "notes").mkdir()
    (root / "notes/readme.txt").write_text("x")
    (root / "two").mkdir()
    for name in "xy":
        write_video(root / f"two/{name}.mp4", moving_pictures(2))
    (root / "cut.mp4").write_bytes((root / "two/x.mp4").read_bytes()[:-100])
    (root / "empty.mkv").touch()
    (root / "t").mkdir()
    (root / "t/rgb.txt").write_text("yesterday a.png\n")
    assert list(scenes(root)) == ["a"]
    (record,) = caplog.records
    for part in (
        "5 of",
        "notes: ",
        "no picture and no video",
        "two: ",
        "2 videos",
        "truncated: 100 bytes",
        "an empty file",
        "'yesterday' is no timestamp",
    ):
        assert part in record.getMessage()
    shutil.rmtree(root / "a")
    with pytest.raises(DatasetNotFoundError, match=r"(?s)no recording in .*truncated: 100 bytes"):
        FolderDataset(root)


def test_splits_by_hash_are_those_of_the_name_alone(root: Path) -> None:
    for name in "abcdef":
        pictures(root / name)
    before = scenes(root)
    pictures(root / "zz")
    after = scenes(root)
    assert {name: after[name] for name in before} == before
    counts = Counter(split_of(f"scene {n}") for n in range(4000))
    assert [round(counts[split] / 4000, 1) for split in ("train", "val", "test")] == [0.8, 0.1, 0.1]
    assert [split_of(name) for name in ("kitchen", "hall_2", "garden", "studio")] == ["train", "val", "val", "test"]


def test_splits_by_folder(root: Path) -> None:
    pictures(root / "train/a")
    pictures(root / "val/b")
    (root / "test").mkdir()
    write_video(root / "test/c.mp4", moving_pictures(3))
    assert scenes(root) == {"a": ("train", 2), "b": ("val", 2), "c": ("test", 3)}
    assert list(scenes(root)) == ["a", "b", "c"]
    pictures(root / "d")
    with pytest.raises(DataError, match=r"recordings in no split: d\. Remedy"):
        FolderDataset(root)


def test_a_scene_may_be_named_as_a_split_is(root: Path) -> None:
    pictures(root / "test/images")
    pictures(root / "kitchen")
    assert scenes(root) == {"kitchen": ("train", 2), "test": (split_of("test"), 2)}


def test_a_video_in_no_split(root: Path) -> None:
    pictures(root / "train/a")
    write_video(root / "b.mp4", moving_pictures(2))
    with pytest.raises(DataError, match=r"recordings in no split: b\.mp4\. Remedy"):
        FolderDataset(root)


def test_splits_by_list(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in "abcd":
        pictures(root / name)
    (root / "dataset.json").write_text(json.dumps({"splits": {"train": ["c", "b"], "test": ["a"]}}))
    assert scenes(root) == {"b": ("train", 2), "c": ("train", 2), "a": ("test", 2)}
    assert "d: is in no split of dataset.json" in caplog.text
    for splits, message in (
        ({"train": ["a"], "test": ["a"]}, "scene 'a' is listed twice"),
        ({"train": ["a", "e"]}, "scenes that are not there: e. There are a, b, c, d"),
        ({"dev": ["a"]}, "splits.dev.*Extra inputs"),
    ):
        (root / "dataset.json").write_text(json.dumps({"splits": splits}))
        with pytest.raises(DataError, match=rf"(?s)dataset\.json.*{message}.*Remedy"):
            FolderDataset(root)


def test_splits_in_two_ways(root: Path) -> None:
    pictures(root / "train/a")
    (root / "dataset.json").write_text(json.dumps({"splits": {"train": ["a"]}}))
    with pytest.raises(DataError, match=r"given by dataset\.json and by folders train"):
        FolderDataset(root)


def test_two_scenes_of_one_name(root: Path) -> None:
    pictures(root / "train/a")
    pictures(root / "test/a")
    with pytest.raises(DataError, match=r"two scenes are named 'a'.*Remedy: rename one"):
        FolderDataset(root)
    shutil.rmtree(root / "test")
    write_video(root / "train/a.mp4", moving_pictures(2))
    with pytest.raises(DataError, match="two scenes are named 'a'"):
        FolderDataset(root)


def test_a_picture_beside_scenes(root: Path) -> None:
    pictures(root / "a")
    Image.new("RGB", (4, 4)).save(root / "preview.jpg")
    with pytest.raises(DataError, match=r"pictures lie in it, and below it there are recordings too: a\. Remedy"):
        FolderDataset(root)


def test_listing_reads_no_picture(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from extract.datasets.recordings import pictures as module

    for name in "abc":
        write(root / name, room(), "nerfstudio")
    monkeypatch.setattr(module, "_decode", lambda path: pytest.fail(f"{path} was decoded"))
    dataset = FolderDataset(root)
    assert [clip.n_frames for clip in dataset.clips()] == [3, 3, 3]
    assert dataset.image_size == (40, 56)
    assert [len(clip.digest()) for clip in dataset.clips()] == [32] * 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset.json", "{", "Invalid JSON"),
        ("dataset.json", '{"depthscale": 1}', "depthscale"),
        ("dataset.json", '{"image_size": [0, 5]}', "image_size"),
        ("dataset.json", '{"image_size": [1000000, 1000000]}', "image_size"),
        ("dataset.json", '{"pose_scale": -1}', "pose_scale"),
        ("dataset.json", '{"depth_scale": NaN}', "depth_scale|NaN"),
        ("dataset.json", '{"classes": [{"name": "a", "kind": "both"}]}', "kind"),
        ("a/scene.json", '{"image_size": [4, 4]}', "image_size"),
        ("a/scene.json", '{"intrinsics": {"fl_x": 5}}', "intrinsics"),
        ("a/instances.json", '{"0": "chair"}', "greater than or equal to 1"),
        ("a/instances.json", '{"x": "chair"}', "integer"),
        ("a/instances.json", "[]", "Input should be an object"),
    ],
)
def test_faults_of_settings(root: Path, name: str, content: str, message: str) -> None:
    write(root / "a", room())
    (root / name).write_text(content)
    with pytest.raises(DataError, match=rf"(?s){name}: not as expected.*({message}).*Remedy"):
        FolderDataset(root)


def test_a_class_listed_twice(root: Path) -> None:
    write(root / "a", room())
    names = [*["floor", "wall", "ball", "lamp", "floor"]]
    (root / "dataset.json").write_text(json.dumps({"classes": [{"name": name} for name in names]}))
    with pytest.raises(DataError, match="5 classes; expected at most 255, each once"):
        FolderDataset(root)
