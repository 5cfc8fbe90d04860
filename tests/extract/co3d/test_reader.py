"""The reader of CO3D v2 against a tiny release whose content is known: listing, splits, pictures, geometry."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.datasets._pictures import nearest
from extract.datasets.co3d.lists import elements
from extract.datasets.co3dv2 import CATEGORIES, Co3dClip, Co3dV2
from extract.datasets.sampling import Sampling
from extract.errors import DataError, DatasetNotFoundError
from extract.identity import dataset_recipe
from extract.plan import clip_table
from extract.targets import target_arrays
from tests.extract.co3d.tiny_co3d import (
    FRAMES,
    UPRIGHT,
    Recipe,
    Written,
    read_list,
    write_list,
    write_release,
)

Release = tuple[Path, list[Written]]


def by_name(root: Path, sampling: Sampling | None = None) -> dict[str, Co3dClip]:
    return {clip.chosen.name: clip for clip in Co3dV2(root, sampling).clips()}


def test_states_what_a_release_holds(release: Release) -> None:
    dataset = Co3dV2(release[0])
    assert (dataset.name, dataset.version, dataset.image_size, dataset.max_instances) == ("co3dv2", "2", (512, 512), 1)
    assert len(dataset.classes) == len(set(CATEGORIES)) == 51
    assert list(CATEGORIES) == sorted(CATEGORIES)
    assert all(info.kind == "thing" for info in dataset.classes)
    assert [(clip.id, clip.scene) for clip in dataset.clips()] == [
        ("apple-110_13051_23361",) * 2,
        ("apple-189_20393_38136",) * 2,
    ]
    assert all(clip.n_frames == FRAMES for clip in dataset.clips())
    assert all(clip.bank == Sampling(window="whole").bank_of(FRAMES) for clip in dataset.clips())
    facts = dataset.facts()
    assert facts["scale"] == "arbitrary per sequence"
    assert facts["sampling"]["window"] == "whole"
    json.dumps(facts, allow_nan=False)


def test_makes_a_clip_table_and_a_recipe(release: Release) -> None:
    dataset = Co3dV2(release[0])
    table = clip_table(dataset.clips())
    assert len({row.digest for row in table}) == 2
    assert dataset_recipe(dataset, table).settings["mask"] == "probability > 0.5"


def test_sampling_chooses_among_frames_in_the_order_of_their_numbers(release: Release, small: tuple[int, int]) -> None:
    """The list of the tiny release is in reverse, and its files are not named by frame number."""
    root, (upright, _) = release
    sampling = Sampling(frames=5, window="whole", bank=2)
    clip = by_name(root, sampling)[UPRIGHT.name]
    assert (clip.n_frames, clip.bank) == (5, (0, 4))
    shown = clip.frames(range(5)).reshape(5, -1, 3).max(1)[:, 2].astype(int)
    expected = [upright.rgb[number].reshape(-1, 3).max(0)[2] for number in sampling.choose(FRAMES)]
    assert np.abs(shown - expected).max() <= 10  # JPEG
    assert clip.frames([]).shape == (0, *small, 3)
    np.testing.assert_array_equal(clip.frames([3, 0]), clip.frames(range(5))[[3, 0]])
    for index in (5, -1):
        with pytest.raises(DataError, match=f"there is no frame {index}"):
            clip.frames([index])


def test_targets_are_what_was_written(release: Release, small: tuple[int, int]) -> None:
    root, written = release
    for shown in written:
        recipe = shown.recipe
        clip = by_name(root)[recipe.name]
        targets = clip.targets()
        assert targets.depth is not None
        assert targets.instance is not None
        assert targets.instance_class is not None
        assert targets.depth.dtype == np.float32
        assert targets.instance.dtype == np.uint16
        step = recipe.size[0] // small[0], recipe.size[1] // small[1]
        middle = slice(step[0] // 2, None, step[0]), slice(step[1] // 2, None, step[1])
        for row, number in enumerate(clip.bank):
            np.testing.assert_array_equal(targets.depth[row], shown.depth[number][middle].astype(np.float32))
            np.testing.assert_array_equal(targets.instance[row], shown.ball[number][middle])
        assert 0.05 < (targets.instance == 1).mean() < 0.9
        assert 0.5 < (targets.depth > 0).mean() < 0.85, "a part is not consistent between views"
        assert targets.instance_class.tolist() == [0, 1 + CATEGORIES.index("apple")]
        np.testing.assert_array_equal(targets.rgb, clip.frames(clip.bank))
        counts = target_arrays(targets, len(CATEGORIES))["class_pixels"]
        np.testing.assert_array_equal(counts[:, 0], (targets.instance == 1).sum((1, 2)))
        assert counts[:, 1:].sum() == 0


def test_pictures_are_stretched_whole(release: Release) -> None:
    """At the real size, the ball covers the same part of picture and mask as before, across and down."""
    root, written = release
    for shown in written:
        clip = by_name(root)[shown.recipe.name]
        targets = clip.targets()
        assert targets.instance is not None
        assert targets.rgb.shape[1:3] == targets.instance.shape[1:3] == (512, 512)
        height, width = shown.recipe.size
        ball = np.argwhere(shown.ball[clip.bank[3]])
        for found in (targets.instance[3] == 1, targets.rgb[3][..., 0] > 145):
            now = np.argwhere(found)
            np.testing.assert_allclose(now.min(0) / 512, ball.min(0) / (height, width), atol=1 / 29)
            np.testing.assert_allclose((now.max(0) + 1) / 512, (ball.max(0) + 1) / (height, width), atol=1 / 29)


def test_nearest_takes_the_pixel_that_the_centre_lies_in() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(nearest(picture, (3, 4)), picture)
    np.testing.assert_array_equal(nearest(picture, (1, 2)), [[5, 7]])  # centres at 1.5 of 3 down; 1 and 3 of 4 across
    np.testing.assert_array_equal(nearest(picture, (6, 4)), picture.repeat(2, axis=0))


def test_splits_are_the_official_sets(tmp_path: Path) -> None:
    kinds = {"train": 40, "dev": 3, "test": 2}
    recipes = [
        Recipe(f"{kind}_{n}", (4, 4), frame_type=f"{kind}_{'known' if n % 2 else 'unseen'}", frames=20)
        for kind, count in kinds.items()
        for n in range(count)
    ]
    write_release(tmp_path, recipes, "tv")
    clips = by_name(tmp_path)
    assert {name for name in clips if name.startswith("test")} == set(), "their targets are blanked"
    assert {clips[f"dev_{n}"].split for n in range(3)} == {"test"}
    splits = [clips[f"train_{n}"].split for n in range(40)]
    assert splits.count("train") + splits.count("val") == 40
    assert 1 <= splits.count("val") <= 10
    assert splits == [by_name(tmp_path)[f"train_{n}"].split for n in range(40)]


def test_the_more_reserved_set_of_a_sequence_holds(tmp_path: Path) -> None:
    write_release(tmp_path, [Recipe("a", (4, 4), frames=20), Recipe("b", (4, 4), frames=20)])
    path = tmp_path / "apple/frame_annotations.jgz"
    frames = read_list(path)
    for frame in frames:
        if frame["frame_number"] == 7:
            frame["meta"]["frame_type"] = {"a": "dev_known", "b": "test_unseen"}[frame["sequence_name"]]
    write_list(path, frames)
    assert {name: clip.split for name, clip in by_name(tmp_path).items()} == {"a": "test"}


def test_leaves_out_what_is_not_good_enough_and_counts_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny = Recipe("good", (4, 4), frames=20)
    scores = {"none": None, "half": 0.5, "nan": float("nan"), "low": -1.0, "least": -(10**400)}
    recipes = [tiny, *(replace(tiny, name=name, score=score) for name, score in scores.items())]
    recipes += [replace(tiny, name="hidden", frame_type="test_known"), replace(tiny, name="short", frames=19)]
    recipes += [replace(tiny, name=f"absent_{n}") for n in range(7)]
    write_release(tmp_path, recipes)
    for n in range(7):
        (tmp_path / f"apple/absent_{n}").rename(tmp_path / f"{n}")
    caplog.set_level(logging.INFO)
    assert set(by_name(tmp_path)) == {"good"}
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "apple: 1 sequences are read (1 train, 0 dev)" in said
    for part in ("1 of the hidden set 'test'", "5 with no viewpoint_quality_score above 0.5", "7 without a folder"):
        assert part in said
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [line.partition("apple: ")[2] for line in warned] == [
        "left out 7 sequences without a folder: absent_0, absent_1, absent_2, absent_3, absent_4 and 2 more",
        "left out 1 sequences of fewer than 20 frames: short",
    ]


def test_a_category_without_a_clip_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_release(tmp_path, [Recipe("a", (4, 4), frames=20, score=0.1)])
    assert len(Co3dV2(tmp_path).clips()) == 0
    assert "apple: no sequence can be read" in caplog.text


def test_reads_the_categories_that_are_there(release: Release, broken: Path) -> None:
    write_release(broken, [Recipe("a", (4, 4), frames=20)], "tv")
    (broken / "_in_progress").mkdir()
    (broken / "apple_000.zip").write_bytes(b"")
    clips = Co3dV2(broken).clips()
    assert [clip.id for clip in clips] == ["apple-110_13051_23361", "apple-189_20393_38136", "tv-a"]
    targets = clips[2].targets()
    assert targets.instance_class is not None
    assert targets.instance_class.tolist() == [0, 1 + CATEGORIES.index("tv")]
    assert [clip.digest() for clip in clips[:2]] == [clip.digest() for clip in Co3dV2(release[0]).clips()]


def test_annotations_are_read_once_and_no_picture(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(path: Path) -> Any:
        read.append(path.name)
        return elements(path)

    monkeypatch.setattr("extract.datasets.co3d.category.elements", counted)
    for path in broken.rglob("*.[jp][pn]g"):
        path.unlink()
    dataset = Co3dV2(broken)
    assert read == []
    assert len(dataset.clips()) == len(dataset.clips()) == 2
    assert read == ["sequence_annotations.jgz", "frame_annotations.jgz"]
    with pytest.raises(DataError, match=r"clip apple-110_13051_23361: .*images/frame000005\.jpg: missing.*Remedy"):
        dataset.clips()[0].frames([0])


def test_frames_need_no_labels(broken: Path, small: tuple[int, int]) -> None:
    for path in broken.rglob("*.png"):
        path.unlink()
    assert by_name(broken)[UPRIGHT.name].frames([0, 1]).shape == (2, *small, 3)


Change = Callable[[dict[str, Any]], object]


def edit_frames(root: Path, change: Change, number: int = 0, name: str = UPRIGHT.name) -> Co3dClip:
    """The clip of a sequence, after the annotation of one of its frames was changed."""
    path = root / "apple/frame_annotations.jgz"
    frames = read_list(path)
    (frame,) = (each for each in frames if (each["sequence_name"], each["frame_number"]) == (name, number))
    change(frame)
    write_list(path, frames)
    return by_name(root)[name]


def test_depth_without_a_mask_is_valid_where_it_is_positive(broken: Path, small: tuple[int, int]) -> None:
    before = by_name(broken)[UPRIGHT.name].targets().depth
    after = edit_frames(broken, lambda frame: frame["depth"].update(mask_path=None)).targets().depth
    assert before is not None
    assert after is not None
    assert (before[0][:, :10] == 0).all()
    assert (after[0][:, :10] > 0).all()
    np.testing.assert_array_equal(after[1:], before[1:])


def test_a_frame_without_depth_has_none(broken: Path, small: tuple[int, int]) -> None:
    depth = edit_frames(broken, lambda frame: frame.update(depth=None)).targets().depth
    assert depth is not None
    assert not depth[0].any()
    assert depth[1].any()


def test_a_pose_that_is_not_finite_is_unknown(broken: Path, small: tuple[int, int]) -> None:
    poses = edit_frames(broken, lambda frame: frame["viewpoint"].update(T=[0, float("nan"), 0])).targets().cam_to_world
    assert poses is not None
    np.testing.assert_array_equal(poses[0], np.zeros((4, 4)))
    assert (poses[1:, 3, 3] == 1).all()


def test_where_it_is_looked_for(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CO3DV2_ROOT", str(release[0]))
    assert Co3dV2().root == release[0]
    monkeypatch.delenv("CO3DV2_ROOT")
    with pytest.raises(DatasetNotFoundError) as caught:
        Co3dV2()
    for part in ("github.com/facebookresearch/co3d", "CC BY-NC", "frame_annotations.jgz", "CO3DV2_ROOT"):
        assert part in str(caught.value)
    with pytest.raises(DatasetNotFoundError, match="no folder of a category, such as"):
        Co3dV2(tmp_path)
