"""What is broken is an error that names the scene and the remedy."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from extract.datasets.dl3dv import Dl3dv, Dl3dvPaper
from extract.datasets.sampling import Sampling
from extract.errors import DataError
from extract.plan import clip_table
from tests.extract.dl3dv.tiny_dl3dv import FRAMES, hash_of, names_of, room, write_colmap, write_pictures, write_scene

ALL = Sampling(window="whole", bank=FRAMES)
SCENE = hash_of(0)


@pytest.fixture
def folder(root: Path) -> Path:
    write_scene(root / "1K" / hash_of(1), room(1))
    return write_scene(root / "1K" / SCENE)


def fault(root: Path) -> str:
    """What the digest of the scene says, before anything would be written; the other scene is none the worse."""
    clips = {clip.id: clip for clip in Dl3dv(root, ALL).clips()}
    clips[hash_of(1)].digest()
    with pytest.raises(DataError, match=r"Remedy") as error:
        clips[SCENE].digest()
    assert SCENE in str(error.value)
    return str(error.value)


def test_a_missing_picture(root: Path, folder: Path) -> None:
    before = next(clip for clip in Dl3dv(root, ALL).clips() if clip.id == SCENE)
    (folder / "images_4/frame_00007.png").unlink()
    assert "names the picture images/frame_00007.png, which is not among the 23" in fault(root)
    with pytest.raises(DataError, match=r"frame_00007.png: missing"):
        before.digest()


def test_an_empty_picture(root: Path, folder: Path) -> None:
    (folder / "images_4/frame_00007.png").write_bytes(b"")
    clip = next(clip for clip in Dl3dv(root, ALL).clips() if clip.id == SCENE)
    with pytest.raises(DataError, match=r"frame_00007.png: an empty file.*Remedy"):
        clip.frames([6])
    clip.frames([5])
    with pytest.raises(DataError, match=r"frame_00007.png"):
        clip.targets()


def test_an_empty_first_picture(root: Path, folder: Path) -> None:
    (folder / "images_4/frame_00001.png").write_bytes(b"")
    dataset = Dl3dv(root, ALL)
    assert [clip.id for clip in dataset.clips()] == [hash_of(1)]
    assert list(dataset.damaged) == [SCENE]
    assert "frame_00001.png: an empty file" in dataset.damaged[SCENE]
    (root / "excluded.txt").write_text(f"# unreadable\n{SCENE}  # its first picture is empty\n")
    assert not Dl3dv(root, ALL).damaged


def test_a_picture_of_another_size(root: Path, folder: Path) -> None:
    Image.new("RGB", (10, 10)).save(folder / "images_4/frame_00007.png")
    clip = next(clip for clip in Dl3dv(root, ALL).clips() if clip.id == SCENE)
    with pytest.raises(
        DataError, match=r"frame_00007.png: 10x10 pixels, the first frame of the scene has 74x42.*Remedy"
    ):
        clip.frames([6])


@pytest.mark.parametrize("length", [0, 10, 1000])
def test_a_truncated_transforms_json(root: Path, folder: Path, length: int) -> None:
    path = folder / "transforms.json"
    path.write_bytes(path.read_bytes()[:length])
    dataset = Dl3dv(root, ALL)
    assert [clip.id for clip in dataset.clips()] == [hash_of(1)]
    assert "no transforms.json of nerfstudio" in dataset.damaged[SCENE]


def test_a_pose_that_is_none(root: Path, folder: Path) -> None:
    path = folder / "transforms.json"
    whole = json.loads(path.read_bytes())
    whole["frames"][3]["transform_matrix"][0][0] = 7.0
    path.write_text(json.dumps(whole))
    assert "frame_00004.png: no rigid motion" in fault(root)


def test_a_picture_that_is_named_twice(root: Path, folder: Path) -> None:
    path = folder / "transforms.json"
    whole = json.loads(path.read_bytes())
    whole["frames"][3]["file_path"] = whole["frames"][2]["file_path"]
    path.write_text(json.dumps(whole))
    assert "frame_00003.png, twice" in fault(root)


def test_intrinsics_of_pictures_of_no_known_size(root: Path, folder: Path) -> None:
    path = folder / "transforms.json"
    whole = json.loads(path.read_bytes())
    del whole["w"], whole["h"]
    path.write_text(json.dumps(whole))
    clip = next(clip for clip in Dl3dv(root, ALL).clips() if clip.id == SCENE)
    with pytest.raises(DataError, match=r"says neither w nor h.*Remedy"):
        clip.targets()


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin"])
def test_a_truncated_colmap_model(root: Path, name: str) -> None:
    write_scene(root / "1K" / hash_of(1), room(1))
    folder = root / "1K" / SCENE
    write_pictures(folder / "colmap/images_4", room().rgb)
    write_colmap(folder / "colmap/sparse/0", room(), names_of(FRAMES))
    path = folder / "colmap/sparse/0" / name
    path.write_bytes(path.read_bytes()[:-9])
    if name == "images.bin":
        assert "images.bin: truncated" in fault(root)
    else:
        assert "cameras.bin: truncated" in Dl3dv(root, ALL).damaged[SCENE]


def test_a_scene_that_is_there_twice(root: Path, folder: Path) -> None:
    shutil.copytree(folder, root / "2K" / SCENE)
    with pytest.raises(DataError, match=r"a second scene of this name.*Remedy: remove one"):
        Dl3dv(root, ALL)


def test_the_digest_is_of_what_is_read(root: Path, folder: Path) -> None:
    def digest() -> str:
        return next(clip for clip in Dl3dv(root, ALL).clips() if clip.id == SCENE).digest()

    first = digest()
    assert digest() == first
    Image.new("RGB", (74, 42)).save(folder / "images_4/frame_00007.png")
    second = digest()
    assert second != first
    path = folder / "transforms.json"
    path.write_text(path.read_text() + " ")
    assert digest() not in (first, second)


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\nb", b"a\\b", b"x" * 220])
def test_a_folder_whose_name_no_store_takes(root: Path, folder: Path, name: bytes) -> None:
    folder.rename(os.fsdecode(os.path.join(os.fsencode(folder.parent), name)))
    for cls in (Dl3dv, Dl3dvPaper):
        dataset = cls(root, ALL)
        assert [clip.id for clip in dataset.clips()] == [hash_of(1)]
        ((shown, why),) = dataset.damaged.items()
        assert shown.isascii()
        assert shown.isprintable()
        assert "a clip cannot have this name" in why


def test_a_picture_whose_name_is_no_text(root: Path, folder: Path) -> None:
    (folder / "transforms.json").unlink()
    (root / "1K" / hash_of(1) / "transforms.json").unlink()
    picture = folder / "images_4/frame_00007.png"
    picture.rename(os.fsdecode(os.fsencode(picture.parent) + b"/frame_0000\xe9.png"))
    clips = {clip.id: clip for clip in Dl3dv(root, ALL).clips()}
    with pytest.raises(DataError, match=rf"clip '{SCENE}': .*frame_0000.udce9' … is no UTF-8. Remedy: rename"):
        clip_table([clips[SCENE]])
    clip_table([clips[hash_of(1)]])


def test_numbers_too_large_for_a_pose(root: Path, folder: Path) -> None:
    path = folder / "transforms.json"
    whole = json.loads(path.read_text())
    whole["frames"][0]["transform_matrix"][0][3] = 1e308
    path.write_text(json.dumps(whole | {"applied_scale": 1e-3}))
    clip = next(clip for clip in Dl3dv(root, ALL).clips() if clip.id == SCENE)
    targets = clip.targets()
    assert targets.cam_to_world is not None
    assert not targets.cam_to_world[0].any()
