"""The Rooms reader against rooms whose content is known, and against every way in which files can be wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from extract.datasets.base import ClassInfo
from extract.datasets.rooms import RoomClip, Rooms
from extract.errors import DataError, DatasetNotFoundError
from store.digest import digest_file, digest_files, digest_text
from tests.extract.tiny_rooms import CLASSES, TinyRoom, write_rooms


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TinyRoom]]:
    root = tmp_path_factory.mktemp("rooms")
    return root, write_rooms(root, size=(40, 56))


@pytest.fixture
def broken(written: tuple[Path, list[TinyRoom]], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(written[0], tmp_path / "rooms"))


def edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def first(root: Path) -> RoomClip:
    return Rooms(root).clips()[0]


def test_states_what_the_index_says(written: tuple[Path, list[TinyRoom]]) -> None:
    root, rooms = written
    dataset = Rooms(root)
    assert (dataset.name, dataset.version, dataset.image_size) == ("rooms", "1.0", (40, 56))
    assert dataset.classes == [ClassInfo(name, kind) for name, kind in CLASSES]
    assert dataset.max_instances == max(max(room.instance_class) for room in rooms)
    assert [(clip.id, clip.scene, clip.split) for clip in dataset.clips()] == [(r.id, r.id, r.split) for r in rooms]
    assert all(clip.bank == (0, 1, 2) and clip.n_frames == 3 for clip in dataset.clips())


def test_targets_are_what_was_written(written: tuple[Path, list[TinyRoom]]) -> None:
    root, rooms = written
    dataset = Rooms(root)
    for clip, room in zip(dataset.clips(), rooms, strict=True):
        targets = clip.targets()
        assert targets.depth is not None
        assert targets.instance is not None
        assert targets.instance_class is not None
        assert targets.depth.dtype == np.float32
        assert targets.instance.dtype == np.uint16
        assert targets.rgb.dtype == targets.instance_class.dtype == np.uint8
        np.testing.assert_allclose(targets.depth, room.depth, rtol=1e-6)
        np.testing.assert_array_equal(targets.depth == 0, room.depth == 0)
        np.testing.assert_array_equal(targets.instance, room.instance)
        np.testing.assert_array_equal(targets.cam_to_world, room.cam_to_world)
        np.testing.assert_array_equal(targets.intrinsics, [room.intrinsics] * 3)
        assert np.abs(targets.rgb.astype(int) - room.rgb).mean() < 4  # JPEG
        assert len(targets.instance_class) == dataset.max_instances + 1
        named = {i: dataset.classes[c - 1].name for i, c in enumerate(targets.instance_class.tolist()) if c}
        assert named == room.instance_class


def test_depth_pose_and_intrinsics_fit_together(written: tuple[Path, list[TinyRoom]]) -> None:
    """Points unprojected by the conventions of the project lie on the floor where the floor is seen."""
    for clip in Rooms(written[0]).clips():
        targets = clip.targets()
        assert targets.depth is not None
        assert targets.instance is not None
        assert targets.cam_to_world is not None
        assert targets.intrinsics is not None
        for n in clip.bank:
            rows, columns = np.nonzero(targets.instance[n] == 1)
            pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
            camera = np.linalg.solve(targets.intrinsics[n], pixels) * targets.depth[n][rows, columns]
            world = targets.cam_to_world[n, :3, :3] @ camera + targets.cam_to_world[n, :3, 3:]
            assert len(rows) > 0
            np.testing.assert_allclose(world[2], 0, atol=2e-3)


def test_frames_come_in_the_asked_order(written: tuple[Path, list[TinyRoom]]) -> None:
    clip = first(written[0])
    whole = clip.targets().rgb
    np.testing.assert_array_equal(clip.frames([2, 0, 2]), whole[[2, 0, 2]])
    assert clip.frames([]).shape == (0, 40, 56, 3)
    with pytest.raises(DataError, match="there is no frame 3"):
        clip.frames([3])
    with pytest.raises(DataError, match="there is no frame -1"):
        clip.frames([-1])


def test_pictures_are_read_only_when_asked_for(broken: Path) -> None:
    for path in broken.rglob("*.jpg"):
        path.unlink()
    clip = first(broken)
    assert clip.n_frames == 3
    with pytest.raises(DataError, match=r"0001\.jpg: missing"):
        clip.frames([1])


def test_frames_need_no_labels(broken: Path) -> None:
    shutil.rmtree(broken / "tiny_00/depth")
    (broken / "tiny_00/room.json").unlink()
    assert first(broken).frames([0]).shape == (1, 40, 56, 3)


def test_digest_tells_clips_apart(written: tuple[Path, list[TinyRoom]]) -> None:
    digests = [clip.digest() for clip in Rooms(written[0]).clips()]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 32 for digest in digests)
    assert digests[0] == first(written[0]).digest()


def test_digest_covers_every_name_and_content(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (tmp_path / name for name in "abc")
    assert digest_files(tmp_path, [a, b]) == digest_files(tmp_path, [b, a]), "order"
    assert len({digest_files(tmp_path, paths) for paths in ([a], [b], [c], [a, b], [b, c], [a, b, c])}) == 6
    assert digest_file(a) == digest_text("1")


@pytest.mark.parametrize("name", ["room.json", "rgb/0002.jpg", "depth/0000.png", "instance/0001.png"])
def test_digest_refuses_changed_files(broken: Path, name: str) -> None:
    path = broken / "tiny_00" / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DataError, match=r"tiny_00: its files have sha256 .* rooms.json lists .*Remedy"):
        first(broken).digest()
    path.unlink()
    with pytest.raises(DataError, match=rf"{path.name}: missing"):
        first(broken).digest()


def test_digest_refuses_exchanged_frames(broken: Path) -> None:
    one, two = broken / "tiny_00/rgb/0000.jpg", broken / "tiny_00/rgb/0001.jpg"
    contents = one.read_bytes(), two.read_bytes()
    two.write_bytes(contents[0])
    one.write_bytes(contents[1])
    with pytest.raises(DataError, match="sha256"):
        first(broken).digest()


def test_digest_does_not_depend_on_the_place(written: tuple[Path, list[TinyRoom]], broken: Path) -> None:
    assert first(written[0]).digest() == first(broken).digest()


@pytest.mark.parametrize("name", ["rgb/0001.jpg", "depth/0001.png", "instance/0001.png"])
def test_every_truncation_is_an_error(broken: Path, name: str) -> None:
    path = broken / "tiny_00" / name
    clip = first(broken)
    content = path.read_bytes()
    for length in {*range(0, len(content), max(1, len(content) // 60)), *range(len(content) - 20, len(content))}:
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=path.name):
            clip.targets()
    path.write_bytes(content)
    clip.targets()


@pytest.mark.parametrize("name", ["depth/0001.png", "instance/0001.png"])
def test_a_cut_in_the_middle_is_an_error(broken: Path, name: str) -> None:
    """The end is there, so only decoding can tell."""
    path = broken / "tiny_00" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + content[-12:])
    with pytest.raises(DataError, match=r"0001\.png: cannot be read"):
        first(broken).targets()


def test_pillow_must_not_fill_holes(written: tuple[Path, list[TinyRoom]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(DataError, match="LOAD_TRUNCATED_IMAGES"):
        first(written[0]).frames([0])


@pytest.mark.parametrize("folder", ["rgb", "depth", "instance"])
def test_missing_frame(broken: Path, folder: str) -> None:
    (path,) = (broken / "tiny_00" / folder).glob("0002.*")
    path.unlink()
    with pytest.raises(DataError, match=rf"{folder}/0002.*missing.*Remedy"):
        first(broken).targets()


@pytest.mark.parametrize("folder", ["rgb", "depth", "instance"])
def test_wrong_size(broken: Path, folder: str) -> None:
    (path,) = (broken / "tiny_00" / folder).glob("0000.*")
    with Image.open(path) as image:
        image.resize((40, 56)).save(path)
    with pytest.raises(DataError, match=r"0000\.\w+: 40x56 pixels .* rooms.json says 56x40"):
        first(broken).targets()


def test_depth_must_have_16_bits(broken: Path) -> None:
    Image.new("L", (56, 40)).save(broken / "tiny_00/depth/0000.png")
    with pytest.raises(DataError, match=r"mode L.*depth is stored as I;16"):
        first(broken).targets()


def test_instances_may_have_16_bits(broken: Path) -> None:
    plain = first(broken).targets().instance
    for path in (broken / "tiny_00/instance").iterdir():
        with Image.open(path) as image:
            wide = np.asarray(image).astype(np.uint16)
        Image.fromarray(wide).save(path)
    np.testing.assert_array_equal(first(broken).targets().instance, plain)


INDEX_FAULTS: list[tuple[Callable[[Any], object], str]] = [
    (lambda j: j.update(version="10.1"), "version 10.1, but this code reads"),
    (lambda j: j.update(version="2"), "version 2, but this code reads versions 1"),
    (lambda j: j.pop("classes"), "classes"),
    (lambda j: j.update(depth_scale=0), "depth_scale"),
    (lambda j: j["classes"][0].update(kind="object"), "kind"),
    (lambda j: j["classes"].append(j["classes"][0]), "class is listed twice: 'floor'"),
    (lambda j: j["rooms"].append(j["rooms"][1]), "room is listed twice: 'tiny_01'"),
    (lambda j: j["rooms"][0].update(id="../tiny_00"), "id"),
    (lambda j: j["rooms"][0].update(split="dev"), "split"),
    (lambda j: j["rooms"][0].update(n_frames=0), "n_frames"),
]


@pytest.mark.parametrize(("change", "message"), INDEX_FAULTS)
def test_faults_of_the_index(broken: Path, change: Callable[[Any], object], message: str) -> None:
    edit(broken / "rooms.json", change)
    with pytest.raises(DataError, match=rf"(?s)rooms\.json.*{message}.*Remedy"):
        Rooms(broken)


ROOM_FAULTS: list[tuple[Callable[[Any], object], str]] = [
    (lambda j: j["instances"][2].update({"class": "dragon"}), "instance 3 has the unknown class 'dragon'"),
    (lambda j: j["instances"].append(j["instances"][0]), "instance 1 is listed twice"),
    (lambda j: j["instances"].pop(0), r"instance ids \[1\] are not listed"),
    (lambda j: j["instances"][0].update(id=0), "id"),
    (lambda j: j["cam_to_world"].pop(), "2 camera poses, but rooms.json says 3 frames"),
    (lambda j: j["cam_to_world"][0].pop(), "cam_to_world"),
    (lambda j: j["cam_to_world"][1][0].__setitem__(0, 9.0), "no rigid motion"),
    (lambda j: [row.__setitem__(0, -row[0]) for row in j["cam_to_world"][1][:3]], "no rigid motion"),
    (lambda j: j["intrinsics"][0].__setitem__(0, "wide"), "intrinsics"),
]


@pytest.mark.parametrize(("change", "message"), ROOM_FAULTS)
def test_faults_of_a_room(broken: Path, change: Callable[[Any], object], message: str) -> None:
    edit(broken / "tiny_00/room.json", change)
    with pytest.raises(DataError, match=rf"(?s)tiny_00.*{message}.*Remedy"):
        first(broken).targets()


def test_json_that_is_none(broken: Path) -> None:
    (broken / "rooms.json").write_text('{"version":')
    with pytest.raises(DataError, match=r"rooms\.json: not as expected"):
        Rooms(broken)


def test_where_rooms_are_looked_for(
    written: tuple[Path, list[TinyRoom]], broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOMS_ROOT", str(broken))
    assert Rooms().root == broken
    assert Rooms(written[0]).root == written[0], "--root wins"
    monkeypatch.setenv("ROOMS_ROOT", str(tmp_path / "nowhere"))
    with pytest.raises(DatasetNotFoundError, match=r"(?s)nowhere \(given by ROOMS_ROOT\).*--root"):
        Rooms()
    with pytest.raises(DatasetNotFoundError, match=r"(?s)other \(given by --root\)"):
        Rooms(tmp_path / "other")
    with pytest.raises(DatasetNotFoundError, match=r"rooms\.json is missing"):
        Rooms(tmp_path)
    monkeypatch.delenv("ROOMS_ROOT")
    monkeypatch.setattr(Rooms, "shipped", written[0])
    assert Rooms().root == written[0]


def test_the_shipped_rooms_are_whole() -> None:
    """Every room is what rooms.json lists; the labels of one room of each split decode and fit together."""
    if not (Rooms.shipped / "rooms.json").is_file():
        pytest.skip("no rooms in extract/datasets/assets/rooms")
    dataset = Rooms(Rooms.shipped)
    assert len({clip.digest() for clip in dataset.clips()}) == len(dataset.clips())
    one_of_each = {clip.split: clip for clip in dataset.clips()}
    assert set(one_of_each) == {"train", "val", "test"}
    for clip in one_of_each.values():
        targets = clip.targets()
        assert targets.depth is not None
        assert (targets.depth > 0).mean() > 0.5
