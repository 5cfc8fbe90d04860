"""Every way in which a release can be wrong: refused by name, with what to do; one bad sequence spoils no other."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from extract.datasets.co3d import pictures
from extract.datasets.co3dv2 import Co3dClip, Co3dV2
from extract.errors import DataError
from extract.outcome import Outcome
from extract.plan import clip_table
from extract.progress import Progress
from extract.targets import targets_path, write_targets
from store import FeatureStore
from tests.extract.co3d.tiny_co3d import LYING, UPRIGHT, read_list, write_list, write_release

CLIP = f"apple-{UPRIGHT.name}"
FOLDERS = ("images", "depths", "depth_masks", "masks")


def first(root: Path) -> Co3dClip:
    clip = Co3dV2(root).clips()[0]
    assert clip.id == CLIP
    return clip


def picture(root: Path, folder: str, nth: int = 0) -> Path:
    """A file of the first clip; the first is of the bank."""
    return sorted((root / "apple" / UPRIGHT.name / folder).iterdir())[nth]


def refused(message: str) -> Any:
    """A `DataError` that names the clip, and says what to do."""
    return pytest.raises(DataError, match=rf"(?s)clip {CLIP}: .*{message}.*Remedy: .*apple.*{UPRIGHT.name}")


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_truncation_is_an_error(broken: Path, small: tuple[int, int], folder: str) -> None:
    path, clip = picture(broken, folder), first(broken)
    content = path.read_bytes()
    for length in {*range(0, len(content), max(1, len(content) // 25)), *range(len(content) - 12, len(content))}:
        path.write_bytes(content[:length])
        with refused(re.escape(path.name)):
            clip.targets()
    path.write_bytes(content)
    clip.targets()


@pytest.mark.parametrize("folder", FOLDERS[1:])
def test_a_cut_in_the_middle_is_an_error(broken: Path, small: tuple[int, int], folder: str) -> None:
    """The end is there, so only decoding can tell. Of a JPEG it cannot."""
    path = picture(broken, folder)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3] + content[-12:])
    with refused(re.escape(path.name) + ": cannot be read"):
        first(broken).targets()


def test_padding_after_the_end_is_none(broken: Path, small: tuple[int, int]) -> None:
    for folder in FOLDERS:
        path = picture(broken, folder)
        path.write_bytes(path.read_bytes() + b"\0" * 16)
    first(broken).targets()


@pytest.mark.parametrize("folder", FOLDERS)
def test_missing_file(broken: Path, small: tuple[int, int], folder: str) -> None:
    path, clip = picture(broken, folder), first(broken)
    path.unlink()
    with refused(re.escape(path.name) + ": missing"):
        clip.targets()
    with refused(re.escape(path.name)):
        clip.digest()


@pytest.mark.parametrize("folder", FOLDERS)
def test_wrong_size(broken: Path, small: tuple[int, int], folder: str) -> None:
    path = picture(broken, folder)
    with Image.open(path) as image:
        image.resize((60, 90), Image.Resampling.NEAREST).save(path)
    with refused("60x90 pixels .* its annotation says 50x90"):
        first(broken).targets()


@pytest.mark.parametrize(
    ("folder", "mode"), [("depths", "L"), ("masks", "I;16"), ("masks", "1"), ("depth_masks", "RGB")]
)
def test_wrong_kind_of_pixels(broken: Path, small: tuple[int, int], folder: str, mode: str) -> None:
    Image.new(mode, (50, 90)).save(picture(broken, folder))
    with refused(f"mode {mode}; .* stores such pictures as"):
        first(broken).targets()


def test_a_huge_picture_is_not_decoded(broken: Path, small: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose header says more than Pillow allows, or whose file is larger than any picture of the release."""
    path = picture(broken, "masks")
    Image.new("L", (20_000, 20_000)).save(path)
    with refused("cannot be read .*decompression bomb"):
        first(broken).targets()
    monkeypatch.setattr(pictures, "MAX_FILE", 100)
    with refused("bytes, more than 100"):
        first(broken).targets()


def test_another_format_is_not_tried(broken: Path) -> None:
    path = picture(broken, "images")
    with Image.open(path) as image:
        image.save(path, format="BMP")
    path.write_bytes(path.read_bytes() + b"\xff\xd9")
    with refused("cannot be read .*cannot identify"):
        first(broken).frames([0])


def test_a_blanked_picture_is_no_frame(broken: Path) -> None:
    Image.new("RGB", (50, 90)).save(picture(broken, "images"), format="JPEG")
    with refused("black all over. The release blanks"):
        first(broken).frames([0])


def test_grey_pictures_are_pictures(broken: Path) -> None:
    path = picture(broken, "images")
    Image.new("L", (50, 90), 77).save(path)
    assert np.unique(first(broken).frames([0])).tolist() == [77]


def test_pillow_must_not_fill_holes(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with refused("LOAD_TRUNCATED_IMAGES"):
        first(broken).frames([0])


Change = Callable[[dict[str, Any]], object]


def edit(path: Path, change: Change, nth: int = 0) -> None:
    """Change the first annotation of the first clip (or of the sequence list)."""
    content = read_list(path)
    mine = sorted(
        (e for e in content if e["sequence_name"] == UPRIGHT.name), key=lambda each: each.get("frame_number", 0)
    )
    change(mine[nth])
    write_list(path, content)


FRAME_FAULTS: list[tuple[Change, str]] = [
    (lambda f: f.update(image=None), "image"),
    (lambda f: f["image"].update(size=[0, 50]), "size"),
    (lambda f: f["image"].update(size=[10**9, 50]), "size"),
    (lambda f: f["image"].update(path=f"apple/{UPRIGHT.name}/../x.jpg"), "not in its folder"),
    (lambda f: f["image"].update(path="/etc/passwd"), "'/etc/passwd', which is not in its folder"),
    (lambda f: f["image"].update(path="apple/other/images/a.jpg"), "not in its folder"),
    (lambda f: f["mask"].update(path=f"tv/{UPRIGHT.name}/a.png"), "not in its folder"),
    (lambda f: f["depth"].update(path="..", mask_path=None), "not in its folder"),
    (lambda f: f["depth"].update(mask_path=f"apple/{UPRIGHT.name}/a\0b.png"), "not in its folder"),
    (lambda f: f["depth"].update(scale_adjustment=0), "scale_adjustment"),
    (lambda f: f["depth"].update(scale_adjustment=float("inf")), "scale_adjustment"),
    (lambda f: f.update(mask=None), "frame 0 has no mask"),
    (lambda f: f.update(viewpoint=None), "frame 0 has no viewpoint"),
    (lambda f: f["viewpoint"].update(intrinsics_format="screen"), "intrinsics_format"),
    (lambda f: f["viewpoint"].update(focal_length=[float("nan"), 1]), "focal_length"),
    (lambda f: f["viewpoint"].update(focal_length=[0, 1]), "focal_length.0 of its frames is '0'"),
    (lambda f: f["viewpoint"].update(focal_length=[1, -1]), "focal_length.1 of its frames is '-1'"),
    (lambda f: f["viewpoint"].update(focal_length=[1e308, 1]), "focal_length"),
    (lambda f: f["viewpoint"].update(principal_point=[0, -1e308]), "principal_point"),
    (lambda f: f["viewpoint"]["R"].pop(), "R"),
    (lambda f: f["viewpoint"].update(R=[[2, 0, 0], [0, 1, 0], [0, 0, 1]]), "frame 0: .*no rotation"),
]


@pytest.mark.parametrize(("change", "message"), FRAME_FAULTS)
def test_faults_of_a_frame_fail_its_clip_alone(
    broken: Path, small: tuple[int, int], change: Change, message: str
) -> None:
    edit(broken / "apple/frame_annotations.jgz", change)
    clip, other = Co3dV2(broken).clips()
    with refused(message):
        clip.targets()
    other.targets()


@pytest.mark.parametrize("change", [change for change, _ in FRAME_FAULTS[3:9]])
def test_the_digest_follows_no_path_out_of_the_folder(broken: Path, change: Change) -> None:
    edit(broken / "apple/frame_annotations.jgz", change)
    with refused("not in its folder"):
        first(broken).digest()


LIST_FAULTS: list[tuple[str, Change, str]] = [
    ("frame", lambda f: f.update(sequence_name="nobody"), r"element \d+ has sequence_name 'nobody'"),
    ("frame", lambda f: f.update(sequence_name=["a"]), "sequence_name"),
    ("frame", lambda f: f.update(frame_number=1), "two frames of number 1"),
    ("frame", lambda f: f.update(frame_number="0"), "frame_number '0'"),
    ("frame", lambda f: f.update(frame_number=True), "frame_number True"),
    ("frame", lambda f: f.pop("meta"), "the set None"),
    ("frame", lambda f: f["meta"].update(frame_type="demo_known"), "the set 'demo'"),
    ("sequence", lambda s: s.update(sequence_name="../x"), r"'\.\./x'"),
    ("sequence", lambda s: s.update(sequence_name=None), "sequence None"),
    ("sequence", lambda s: s.update(category="tv"), "of category 'tv'"),
    ("sequence", lambda s: s.update(sequence_name="189_20393_38136"), "listed twice"),
    ("sequence", lambda s: s.update(viewpoint_quality_score="good"), "viewpoint_quality_score 'good'"),
]


@pytest.mark.parametrize(("which", "change", "message"), LIST_FAULTS)
def test_faults_of_the_lists(broken: Path, which: str, change: Change, message: str) -> None:
    edit(broken / f"apple/{which}_annotations.jgz", change)
    assert re.search(rf"(?s){which}_annotations\.jgz: .*{message}.*Remedy", only_damage(broken)[1])


def only_damage(root: Path) -> tuple[str, str]:
    """What cannot be read, and why."""
    dataset = Co3dV2(root)
    dataset.clips()
    (found,) = dataset.damaged.items()
    return found


@pytest.mark.parametrize(("change", "message"), [(change, why) for _, change, why in LIST_FAULTS[2:7]])
def test_frames_that_contradict_each_other_are_damage_of_their_sequence_alone(
    broken: Path, change: Change, message: str
) -> None:
    edit(broken / "apple/frame_annotations.jgz", change)
    name, why = only_damage(broken)
    assert name == f"apple-{UPRIGHT.name}"
    assert re.search(message, why)
    assert len(Co3dV2(broken).clips()) == 1


def test_a_damaged_category_leaves_the_others(broken: Path) -> None:
    write_release(broken, (LYING,), "tv")
    (broken / "apple/frame_annotations.jgz").write_bytes(b"")
    dataset = Co3dV2(broken)
    assert [clip.category for clip in dataset.clips()] == ["tv"]
    assert list(dataset.damaged) == ["apple"]


def test_a_name_that_ends_in_a_line_break_is_none(broken: Path) -> None:
    edit(broken / "apple/sequence_annotations.jgz", lambda s: s.update(sequence_name="1_2_3\n"))
    assert r"sequence '1_2_3\n'" in only_damage(broken)[1]


@pytest.mark.parametrize("name", ["frame_annotations.jgz", "sequence_annotations.jgz"])
def test_missing_and_empty_lists(broken: Path, name: str) -> None:
    path = broken / "apple" / name
    path.write_bytes(b"")
    assert f"{name}: cannot be read" in only_damage(broken)[1]
    path.unlink()
    assert re.search(f"{name}: missing.*first archive", only_damage(broken)[1])


def test_version_1_is_refused(broken: Path) -> None:
    shutil.rmtree(broken / "apple/set_lists")
    why = only_damage(broken)[1]
    assert re.search(r"apple: CO3D v2 has a folder set_lists here; found neither.*first archive", why)
    (broken / "apple/set_lists.json").write_text("{}")
    assert re.search(r"found set_lists\.json, as version 1 has.*Remedy: get version 2", only_damage(broken)[1])


def test_a_folder_that_is_no_category_is_refused(broken: Path) -> None:
    (broken / "apple").rename(broken / "aple")
    with pytest.raises(DataError, match=r"aple.*Did you mean apple.*Remedy"):
        Co3dV2(broken)


def test_digest_covers_what_is_read(broken: Path) -> None:
    plain = first(broken).digest()
    (broken / "apple" / UPRIGHT.name / "pointcloud.ply").write_text("not read")
    assert first(broken).digest() == plain
    seen = {plain}
    for folder in FOLDERS:
        path = picture(broken, folder)
        path.write_bytes(path.read_bytes() + b"\0")
        seen.add(first(broken).digest())
    edit(broken / "apple/frame_annotations.jgz", lambda f: f["viewpoint"].update(T=[0, 0, 1]))
    seen.add(first(broken).digest())
    assert len(seen) == 2 + len(FOLDERS)


def test_the_store_gets_the_good_clips(broken: Path, small: tuple[int, int]) -> None:
    """The engine lists the clip whose label is damaged, and goes on."""
    picture(broken, "masks").write_bytes(b"")
    dataset = Co3dV2(broken)
    clips = dataset.clips()
    outcome: Outcome = write_targets(dataset, clips, clip_table(clips), [0, 1], Progress(quiet=True))
    assert outcome.done == [1]
    assert list(outcome.failed) == [CLIP]
    assert "masks" in outcome.failed[CLIP]
    array = FeatureStore.open(targets_path(dataset)).arrays["depth"]
    assert array.attrs["units"] == "1"
    assert array.attrs["description"].endswith("each scene has a scale of its own")
