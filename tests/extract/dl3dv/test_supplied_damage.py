"""Supplied depth that is damaged: what can be known from names and scene.json is said before anything is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from extract.__main__ import app
from extract.datasets.dl3dv import Dl3dv
from extract.datasets.dl3dv_files.clip import Dl3dvClip
from extract.datasets.sampling import Sampling
from extract.errors import DataError
from store import FeatureStore
from tests.extract.dl3dv.tiny_dl3dv import FRAMES, SIZE, hash_of, room, write_depth, write_scene

ALL = Sampling(window="whole", bank=FRAMES)
SCENE = hash_of(0)
Damage = Callable[[Path], object]
SHAPE = (SIZE[0], SIZE[0])


@pytest.fixture
def folder(root: Path) -> Path:
    """Depth of the scene that is damaged; another is none the worse."""
    write_depth(write_scene(root / "1K" / hash_of(1), room(1)), room(1).depth)
    return write_depth(write_scene(root / "1K" / SCENE), room().depth)


def clip_of(root: Path) -> Dl3dvClip:
    clips = {clip.id: clip for clip in Dl3dv(root, ALL).clips()}
    clips[hash_of(1)].digest()
    clips[hash_of(1)].targets()
    return clips[SCENE]


NAMES: list[tuple[Damage, str]] = [
    (lambda p: p.unlink(), r"frame_00007.png\): frame 6 has no picture in depth/"),
    (lambda p: p.rename(p.with_name("frame_99999.png")), "frame_99999.png belongs to no frame"),
    (lambda p: np.save(p.with_suffix(".npy"), np.ones(SIZE)), "two files belong to one frame: frame_00007"),
    (lambda p: [each.unlink() for each in p.parent.iterdir()], "frame 0 has no picture in depth/"),
]


@pytest.mark.parametrize(("damage", "message"), NAMES)
def test_names(root: Path, folder: Path, damage: Damage, message: str) -> None:
    before = clip_of(root)
    before.digest()
    damage(folder / "frame_00007.png")
    for clip in (before, clip_of(root)):
        with pytest.raises(DataError, match=rf"{SCENE}.*{message}.*Remedy"):
            clip.digest()


CONTENTS: list[tuple[Damage, str]] = [
    (lambda p: p.write_bytes(p.read_bytes()[:-30]), "(cannot be read|truncated)"),
    (lambda p: p.write_bytes(b""), "an empty file"),
    (lambda p: Image.new("L", SIZE[::-1]).save(p), "pixels of mode L; depth is a 16-bit PNG"),
    (lambda p: Image.fromarray(np.ones(SHAPE, np.uint16)).save(p), "42x42 pixels, its frame has 74x42: another shape"),
]


@pytest.mark.parametrize(("damage", "message"), CONTENTS)
def test_contents(root: Path, folder: Path, damage: Damage, message: str) -> None:
    damage(folder / "frame_00007.png")
    clip = clip_of(root)
    with pytest.raises(DataError, match=rf"{SCENE}/depth/frame_00007.png: {message}.*Remedy"):
        clip.targets()


def test_npy_that_is_truncated(root: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    path = write_depth(folder.parent, room().depth, None) / "frame_00007.npy"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match=rf"{SCENE}/depth/frame_00007.npy: .*Remedy"):
        clip_of(root).targets()


def test_only_the_bank_needs_depth(root: Path, folder: Path) -> None:
    for n in range(2, FRAMES):
        (folder / f"frame_{n:05d}.png").unlink()
    (clip,) = (clip for clip in Dl3dv(root, Sampling(window="whole", bank=2)).clips() if clip.id == SCENE)
    assert clip.bank == (0, FRAMES - 1)
    clip.digest()
    np.testing.assert_allclose(clip.targets().depth, room().depth[[0, -1]], rtol=1e-6)


@pytest.mark.parametrize(
    "content",
    ["{", '{"depth_scale": 0}', '{"depth_scale": "mm"}', '{"pose_scale": -1}', '{"unit": "m"}', '{"intrinsics": null}'],
)
def test_scene_json(root: Path, folder: Path, content: str) -> None:
    (folder.parent / "scene.json").write_text(content)
    dataset = Dl3dv(root, ALL)
    assert [clip.id for clip in dataset.clips()] == [hash_of(1)]
    assert "scene.json: not as expected" in dataset.damaged[SCENE]
    (folder.parent / "scene.json").rename(root / "dataset.json")
    with pytest.raises(DataError, match=r"(?s)dataset.json: not as expected.*Remedy"):
        Dl3dv(root, ALL)


def test_the_only_depth_is_damaged(root: Path, folder: Path) -> None:
    """It is not as if there were none: targets do not change with what is broken."""
    (folder.parent / "scene.json").write_text("{")
    shutil.rmtree(root / "1K" / hash_of(1) / "depth")
    dataset = Dl3dv(root, ALL)
    assert not dataset.clips()
    assert list(dataset.damaged) == [SCENE]


def test_a_picture_that_is_stored_turned(root: Path, folder: Path) -> None:
    path = folder.parent / "images_4/frame_00007.png"
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(room().rgb[6]).save(path, exif=exif)
    with pytest.raises(DataError, match=r"frame_00007.png: is stored turned.*Remedy"):
        clip_of(root).targets()
    for n in range(2):
        shutil.rmtree(root / "1K" / hash_of(n) / "depth")
    clip_of(root).targets()


def test_the_command_says_it_before_it_begins(root: Path, folder: Path) -> None:
    write_depth(write_scene(root / "2K" / hash_of(2), room(2)), room(2).depth)
    (folder / "frame_00001.png").unlink()
    (root / "2K" / hash_of(2) / "depth/frame_00001.png").write_bytes(b"")
    command = ["--model", "position", "--dataset", "dl3dv", "--root", str(root), "--bank", "3"]
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, DataError)
    assert "Nothing was begun" in str(refused.exception)
    result = CliRunner().invoke(app, [*command, "--skip-damaged", "--json"])
    assert result.exit_code == 1
    failed = json.loads(result.output[result.output.index("{\n") :])["failed"]
    assert set(failed) == {SCENE, hash_of(2)}
    assert "has no picture in depth/" in failed[SCENE]
    assert "depth/frame_00001.png: an empty file" in failed[hash_of(2)]
    targets = FeatureStore.open("targets", "dl3dv")
    done = {clip.id: bool(targets.committed.mask("depth")[clip.row]) for clip in targets.clips}
    assert done == {hash_of(1): True, hash_of(2): False}
