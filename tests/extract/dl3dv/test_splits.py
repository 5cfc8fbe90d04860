"""Splits by hash and as the paper, and scenes that are left out."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash

from extract.datasets.dl3dv import Dl3dv, Dl3dvPaper
from extract.datasets.dl3dv_files.scenes import Scene
from extract.datasets.dl3dv_files.splits import OUTLIERS, as_the_paper, three_way
from extract.datasets.sampling import Sampling
from extract.errors import DataError
from tests.extract.dl3dv.tiny_dl3dv import hash_of, room, write_scene

ALL = Sampling(window="whole", bank=1)
PLAIN = Scene("", "", Path(), Path(), (), (1, 1), None, None)


def scenes(count: int) -> list[Scene]:
    return [replace(PLAIN, id=hash_of(n), subset=f"{n % 11 + 1}K") for n in range(count)]


def small(root: Path, count: int) -> None:
    for n in range(count):
        write_scene(root / f"{n % 3 + 9}K" / hash_of(n), room(0, 20, (6, 8)))


def test_three_splits_in_which_no_scene_moves() -> None:
    found = three_way(scenes(4000))
    counts = Counter(found.values())
    assert counts.keys() == {"train", "val", "test"}
    assert 3100 < counts["train"] < 3300
    assert 330 < counts["val"] < 470
    assert 330 < counts["test"] < 470
    assert three_way(scenes(10)).items() <= found.items()
    for scene in list(found)[:50]:
        share = int(xxhash.xxh3_128_hexdigest(scene.encode())[:8], 16) / 16**8
        assert found[scene] == ("train" if share < 0.8 else "val" if share < 0.9 else "test")


def test_the_rule_of_the_paper(root: Path) -> None:
    """Subsets are sorted as text, 10K before 1K; then the hashes; the first tenth of the shuffled list is val."""
    some = scenes(237)
    expected = [(subset, h) for subset in sorted({s.subset for s in some}) for h in sorted(ids(some, subset))]
    assert expected[0][0] == "10K"
    random.seed(0)
    random.shuffle(expected)
    splits, rule = as_the_paper(root, [(scene.subset, scene.id) for scene in some[::-1]])
    assert {scene for scene, split in splits.items() if split == "test"} == {h for _, h in expected[:23]}
    kept_back = {h for _, h in expected[23:] if xxhash.xxh3_64_intdigest(h.encode()) % 10 == 0}
    assert {scene for scene, split in splits.items() if split == "val"} == kept_back
    assert len(splits) == 237
    assert "random.seed(0)" in rule


def ids(some: list[Scene], subset: str) -> list[str]:
    return [scene.id for scene in some if scene.subset == subset]


@pytest.mark.parametrize("place", ["", "DL3DV-processed"])
def test_the_lists_of_the_paper_go_first(root: Path, place: str, caplog: pytest.LogCaptureFixture) -> None:
    small(root, 8)
    (root / place).mkdir(exist_ok=True)
    train, val = [hash_of(n) for n in range(5)], [hash_of(6)]
    (root / place / "train.json").write_text(json.dumps([["9K", scene] for scene in train]))
    (root / place / "val.json").write_text(json.dumps([["9K", scene] for scene in val]))
    dataset = Dl3dvPaper(root, ALL)
    splits = {clip.id: clip.split for clip in dataset.clips()}
    assert splits.keys() == {*train, *val}
    assert [scene for scene, split in splits.items() if split == "test"] == val
    assert "are in no list of splits; they are left out" in caplog.text
    assert dataset.facts()["splits"].startswith("the paper's train.json and val.json")
    assert len(Dl3dv(root, ALL).clips()) == 8


def test_both_names_have_the_same_frames(root: Path) -> None:
    small(root, 12)
    one, other = Dl3dv(root, ALL), Dl3dvPaper(root, ALL)
    assert [clip.digest() for clip in one.clips()] == [clip.digest() for clip in other.clips()]
    assert one.facts()["splits"] != other.facts()["splits"]
    assert {k: v for k, v in one.facts().items() if k != "splits"} == {
        k: v for k, v in other.facts().items() if k != "splits"
    }


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        ('[["1K", "a"]]', None, "only one of"),
        ('[["1K", "a"], ["1K", "b"]]', '[["1K", "b"]]', "share b"),
        ("[]", '[["1K", "b"]]', "lists no scene"),
        ('{"1K": "a"}', '[["1K", "b"]]', "not as expected"),
        ('[["1K", "a"', '[["1K", "b"]]', "not as expected"),
    ],
)
def test_lists_that_are_none(root: Path, train: str, val: str | None, message: str) -> None:
    small(root, 1)
    (root / "train.json").write_text(train)
    if val is not None:
        (root / "val.json").write_text(val)
    with pytest.raises(DataError, match=rf"(?s){message}.*Remedy"):
        Dl3dvPaper(root, ALL)


def test_excluded_scenes(root: Path) -> None:
    assert len(OUTLIERS) == 13
    assert all(len(scene) == 64 and int(scene, 16) for scene in OUTLIERS)
    small(root, 3)
    write_scene(root / "4K" / min(OUTLIERS), room(0, 20, (6, 8)))
    (root / "excluded.txt").write_text(f"\n{hash_of(1)} # dark\n# {hash_of(2)}\n")
    for dataset in (Dl3dv(root, ALL), Dl3dvPaper(root, ALL)):
        assert {clip.id for clip in dataset.clips()} == {hash_of(0), hash_of(2)}
        assert dataset.facts()["excluded"] == {"outliers": 13, "listed": [hash_of(1)]}


def test_a_damaged_scene_moves_no_other_scene_of_the_paper(root: Path) -> None:
    small(root, 10)
    before = {clip.id: clip.split for clip in Dl3dvPaper(root, ALL).clips()}
    broken = sorted(before)[0]
    picture = next(root.glob(f"*/{broken}/images_4/frame_00001.png"))
    picture.write_bytes(b"")
    dataset = Dl3dvPaper(root, ALL)
    after = {clip.id: clip.split for clip in dataset.clips()}
    assert list(dataset.damaged) == [broken]
    assert after == {scene: split for scene, split in before.items() if scene != broken}
