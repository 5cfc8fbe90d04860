"""What a fusion is: its names, taps, clips, coordinates and recipe; and what cannot be fused, and why."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import (
    FeatureStore,
    FormatError,
    FusionError,
    MissingClipError,
    Recipe,
    StoreNotFoundError,
    create,
    differences,
    fuse,
    open_features,
)
from store.fusion.identity import fused_recipe
from store.layout import split_reference
from store.reading.handle import StoreHandle
from tests.store.branches import IDENTITY, NOISE, backbone, table, tap, write_branch

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def pair() -> list[FeatureStore]:
    wan = [tap("blocks.1", (5, 6)), tap("blocks.20@t502", (5, 6), noise=NOISE, native_grid=[30, 52])]
    qwen = [tap("llm.3", (4, 7), 8), tap("llm.4", (3, 4), 8, native_grid=[17, 60])]
    return [write_branch("wan", wan, reach=4), write_branch("qwen", qwen, facts={"kind": "vlm"})]


def test_taps_are_one_of_every_branch_in_all_combinations(pair: list[FeatureStore]) -> None:
    fused = fuse(pair)
    assert fused.taps == ["blocks.1+llm.3", "blocks.1+llm.4", "blocks.20@t502+llm.3", "blocks.20@t502+llm.4"]
    third = write_branch("dino", [tap("enc.0"), tap("enc.9")])
    assert "blocks.1+llm.4+enc.9" in fuse([*pair, third]).taps
    assert len(fuse([*pair, third]).taps) == 8
    assert fuse([pair[0], pair[0]]).taps[1] == "blocks.1+blocks.20@t502"


def test_a_fusion_has_a_name_a_model_and_a_kind(pair: list[FeatureStore]) -> None:
    fused = fuse(["store/wan", "store/qwen"], "concat")
    assert fused.name == "wan+qwen-concat/toys"
    assert fused.attrs == {"model": "wan+qwen-concat", "kind": "fusion", "fingerprint": fused.fingerprint}
    assert fused.url == f"{pair[0].path}+{pair[1].path}"
    assert fused.clips == pair[0].clips


def test_attributes_of_a_tap_say_what_every_branch_says(pair: list[FeatureStore]) -> None:
    fused = fuse(pair)
    attrs = fused.info("blocks.20@t502+llm.4").attrs
    assert (attrs["site"], attrs["depth"], attrs["noise"]) == ("blocks.20+llm.4", 24, NOISE)
    assert attrs["native_grid"] == [17, 52]
    assert attrs["grid_to_image"] == IDENTITY
    first, second = attrs["branches"]
    assert first == {"tap": "blocks.20@t502", "grid": [5, 6], "channels": 5, **pair[0].info("blocks.20@t502").attrs}
    assert (second["tap"], second["grid"], second["channels"]) == ("llm.4", [3, 4], 8)
    assert "native_grid" not in fused.info("blocks.1+llm.4").attrs
    assert fused.info("blocks.1+llm.4").attrs["noise"] is None


def test_noise_of_several_branches_has_all_names_and_the_numbers_of_the_noisiest(pair: list[FeatureStore]) -> None:
    other = write_branch("svd", [tap("up.1@sigma9", noise={"name": "sigma9", "sigma": 9.0, "log_snr": -4.4})])
    attrs = fuse([pair[0], other]).info("blocks.20@t502+up.1@sigma9").attrs
    assert attrs["noise"] == {"name": "t502+sigma9", "sigma": 9.0, "log_snr": -4.4}
    assert [each["noise"]["name"] for each in attrs["branches"]] == ["t502", "sigma9"]


def test_a_grid_that_is_not_said_is_the_whole_image() -> None:
    silent = {name: value for name, value in tap("llm.1").attrs.items() if name != "grid_to_image"}
    spec = tap("llm.1")
    quiet = write_branch("quiet", [type(spec)(spec.name, spec.shape, spec.dtype, spec.dims, silent)])
    said = write_branch("said", [tap("blocks.1")])
    assert fuse([quiet, said]).info("llm.1+blocks.1").attrs["grid_to_image"] == IDENTITY
    assert "grid_to_image" not in fuse([quiet, quiet]).info("llm.1+llm.1").attrs


def test_spans_are_joined_and_other_coordinates_kept_where_all_agree(pair: list[FeatureStore]) -> None:
    found = fuse(pair).coordinates()
    assert list(found) == ["bank_frame", "span"]
    bank = pair[0].coordinates()["bank_frame"].values
    np.testing.assert_array_equal(found["bank_frame"].values, bank)
    np.testing.assert_array_equal(found["span"].values[..., 0], bank)
    np.testing.assert_array_equal(found["span"].values[0, :, 1], bank[0] + 3)
    assert (found["span"].values[1, 2:] == -1).all()


def test_a_clip_is_there_if_every_branch_has_it() -> None:
    a = write_branch("a", [tap("blocks.1"), tap("blocks.2")], rows=[0, 1, 2, 4])
    b = write_branch("b", [tap("llm.1")], rows=[0, 2, 3])
    fused = fuse([a, b])
    assert fused.rows() == fused.rows("train") == [0, 2]
    assert fused.mask("blocks.2+llm.1").tolist() == [True, False, True, False, False]
    sizes = a.sizes("blocks.2") + b.sizes("llm.1")
    assert fused.sizes("blocks.2+llm.1").tolist() == [sizes[0], 0, sizes[2], 0, 0]
    with pytest.raises(MissingClipError, match=r"no committed clip of split 'test' with blocks\.1\+llm\.1") as raised:
        fused.rows("test", ["blocks.1+llm.1"])
    assert "a/toys: the store holds 1 of split 'test', 3 of split 'train'" in str(raised.value)
    assert "b/toys: the store holds 0 of split 'test', 3 of split 'train'" in str(raised.value)
    with pytest.raises(MissingClipError, match=r"b/toys: clip clip1 \(row 1\) has no commit for llm.1"):
        fused.read("blocks.1+llm.1", 1)


# Identity


def test_fingerprints_tell_all_that_changes_a_number(pair: list[FeatureStore]) -> None:
    fused = fuse(pair)
    facts = {"kind": "vlm", "model": "qwen", "dtype": "bfloat16"}
    other = write_branch("qwen2", [tap("llm.3", (4, 7), 8)], facts=facts)
    prints = [
        fused.fingerprint,
        fuse(pair, "concat").fingerprint,
        fuse(pair[::-1]).fingerprint,
        fuse([pair[0], other]).fingerprint,
        fuse([*pair, other]).fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert fuse(["store/wan", "store/qwen"]).fingerprint == fused.fingerprint
    changes = {name: (a, b) for name, a, b in differences(fused.recipe, fuse([pair[0], other]).recipe)}
    assert changes["fusion.branches.1.backbone.dtype"] == ("float32", "bfloat16")


def test_taps_of_other_noise_are_other_taps(pair: list[FeatureStore]) -> None:
    name = "blocks.20@t502"
    shutil.rmtree(pair[0].path)
    changed = write_branch("wan", [tap(name, (5, 6), noise=NOISE | {"sigma": 3.0}, native_grid=[30, 52])], reach=4)
    was, now = fuse(pair), fuse([changed, pair[1]])
    assert was.fingerprint == now.fingerprint
    assert was.tap_fingerprint(f"{name}+llm.3") != now.tap_fingerprint(f"{name}+llm.3")


def test_a_recipe_without_a_fusion_does_not_mention_it(pair: list[FeatureStore]) -> None:
    assert "fusion" not in json.loads(pair[0].recipe.canonical_json())
    written = json.loads((pair[0].path / "recipe.json").read_text())["recipe"]
    assert "fusion" not in written
    recipe = fuse(pair).recipe
    assert Recipe.model_validate_json(recipe.canonical_json()) == recipe
    content = json.loads(recipe.canonical_json())
    assert content["fusion"]["branches"] == [json.loads(branch.recipe.canonical_json()) for branch in pair]
    assert (content["fusion"]["mode"], content["fusion"]["eps"]) == ("lnconcat", 1e-6)
    assert fuse(pair, "concat").recipe.fusion.eps is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("branches", "expected"),
    [
        ([{}, {}], ("a+b-lnconcat", "fusion", None)),
        ([{"untrained": 3}, {"untrained": 4}], ("a+b-lnconcat", "fusion", 3)),
        ([{"untrained": 3}, {}], ("a-untrained+b-lnconcat", "fusion", None)),
        ([{"untrained": 3}, {"kind": "control"}], ("a+b-lnconcat", "fusion", 3)),
        ([{}, {"kind": "control"}], ("a+b-lnconcat", "fusion", None)),
        ([{"kind": "control"}, {"kind": "control"}], ("a+b-lnconcat", "control", None)),
    ],
)
def test_tables_tell_trained_untrained_and_control(
    pair: list[FeatureStore], branches: list[dict[str, Any]], expected: tuple[str, str, int | None]
) -> None:
    recipes = [
        pair[0].recipe.model_copy(update={"backbone": backbone(name, **facts)})
        for name, facts in zip("ab", branches, strict=True)
    ]
    found = fused_recipe(recipes, "lnconcat").backbone
    assert found is not None
    assert (found.model, found.kind, found.untrained) == expected


def test_another_process_opens_the_same_fusion(pair: list[FeatureStore]) -> None:
    import pickle

    handle = StoreHandle(fuse(pair))
    there = pickle.loads(pickle.dumps(handle)).store
    assert (there.name, there.fingerprint, there.state) == (handle.store.name, handle.fingerprint, handle.state)
    before = handle.state
    write_branch("wan", [tap("blocks.1", (5, 6)), tap("blocks.7", (5, 6))], reach=4)
    assert fuse(["store/wan", "store/qwen"]).state != before


# References


def test_references_are_joined_by_plus(pair: list[FeatureStore], tmp_path: Path) -> None:
    assert open_features("store/wan+store/qwen", fusion="lnconcat").name == "wan+qwen-lnconcat/toys"
    assert open_features("store/wan+qwen", "toys", "concat").name == "wan+qwen-concat/toys"
    assert open_features(f"{pair[1].path}+{pair[0].path}", fusion="concat").name == "qwen+wan-concat/toys"
    assert open_features("store/wan").name == "wan/toys"
    shutil.copytree(pair[0].path, tmp_path / "elsewhere" / "feats")
    there = open_features(f"{tmp_path}/elsewhere/feats+store/qwen", fusion="concat")
    assert there.name == "elsewhere-feats+qwen-concat/toys"


def test_a_plus_in_the_name_of_a_store_joins_nothing(pair: list[FeatureStore]) -> None:
    twice = write_branch("wan+qwen", [tap("blocks.1")])
    assert FeatureStore.open("store/wan+qwen").name == open_features("store/wan+qwen").name == twice.name
    assert split_reference("store/wan+qwen") == ["store/wan+qwen"]
    assert split_reference("store/wan+store/qwen") == ["store/wan", "store/qwen"]
    assert split_reference("store/wan+qwen+store/wan+qwen+qwen") == ["store/wan+qwen", "store/wan+qwen", "qwen"]
    assert split_reference("s3://lab/a+s3://lab/b") == ["s3://lab/a", "s3://lab/b"]
    assert split_reference("s3://lab/a+b-concat+hf://datasets/c") == ["s3://lab/a+b-concat", "hf://datasets/c"]
    with pytest.raises(FusionError, match=r"store/wan\+qwen: is not several stores, and --fusion concat"):
        open_features("store/wan+qwen", fusion="concat")


@pytest.mark.parametrize(
    ("reference", "fusion", "error", "message"),
    [
        ("store/wan+store/qwen", None, FusionError, r"names 2 stores \(store/wan, store/qwen\).*--fusion lnconcat"),
        ("s3://lab/a+s3://lab/b", None, FusionError, r"names 2 stores \(s3://lab/a, s3://lab/b\)"),
        ("store/wan+s3://lab/b", None, FusionError, r"names 2 stores \(store/wan, s3://lab/b\)"),
        ("store/wan", "lnconcat", FusionError, "store/wan: is not several stores.*or leave --fusion out"),
        ("store/wan+", "lnconcat", FusionError, "is not several stores"),
        ("store/wan+", None, StoreNotFoundError, "no feature store at"),
        ("store/wan+store/qwenn", "lnconcat", StoreNotFoundError, "store/qwenn: no feature store.*Did you mean.*qwen"),
        ("store/wan+store/qwen", "lnconcta", FusionError, "unknown fusion 'lnconcta'. Did you mean lnconcat"),
    ],
)
def test_what_a_reference_cannot_mean(
    pair: list[FeatureStore], reference: str, fusion: str | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_features(reference, fusion=fusion)


@pytest.mark.parametrize("command", ["info", "verify", "finalize", "gc"])
def test_commands_for_one_store_name_the_branches(pair: list[FeatureStore], command: str) -> None:
    asked = [sys.executable, "-m", "store", command, "store/wan+store/qwen"]
    found = subprocess.run(asked, capture_output=True, text=True, cwd=PROJECT)
    assert found.returncode == 1
    assert "names 2 stores (store/wan, store/qwen) where one is expected. Name one of them" in found.stderr


# What does not fit together


def test_a_fusion_is_no_branch(pair: list[FeatureStore]) -> None:
    with pytest.raises(FusionError, match="is a fusion, which is no branch of another"):
        fuse([fuse(pair, "concat"), pair[0]], "concat")


def test_one_store_is_no_fusion(pair: list[FeatureStore]) -> None:
    with pytest.raises(FusionError, match=r"needs two stores or more, got \['wan/toys'\]"):
        fuse(pair[:1])


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"dataset": {"version": "2"}}, ["dataset.version: '1' and '2'"]),
        (
            {"dataset": {"settings": {"stride": 2}}},
            ["dataset.settings: {} and {'stride': 2}"],
        ),
        ({"clips": table(7)}, ["clips that only the second has (2): clip5, clip6", "clip4: split test and train"]),
        (
            {"clips": table(4)},
            ["clips that only the first has (1): clip4", "clips that both have (1), such as clip3: split"],
        ),
        ({"clips": table(step=3)}, ["clips that both have (5), such as clip0: bank (0, 2, 4, 6) and (0, 3, 6, 9)"]),
    ],
)
def test_other_clips_are_refused(pair: list[FeatureStore], changes: dict[str, Any], lines: list[str]) -> None:
    other = write_branch("other", [tap("llm.1")], **changes)
    with pytest.raises(FusionError, match="wan/toys and other/toys are not of the same clips") as raised:
        fuse([pair[0], other])
    for line in lines:
        assert line in str(raised.value)
    assert str(raised.value).endswith("Extract both from one version of the data set, with the same clips and bank.")


def test_grids_of_other_parts_of_the_image_are_refused(pair: list[FeatureStore]) -> None:
    crop = [[0.75, 0.0, 0.125], [0.0, 1.0, 0.0]]
    other = write_branch("dino", [tap("enc.1", grid_to_image=crop)])
    with pytest.raises(FusionError, match="wan/toys and dino/toys show different parts of the image") as raised:
        fuse([pair[0], other])
    assert f"grid_to_image is {IDENTITY} for blocks.1 and {crop} for enc.1" in str(raised.value)
    assert "Extract one again" in str(raised.value)
    assert fuse([other, other]).info("enc.1+enc.1").attrs["grid_to_image"] == crop


@pytest.mark.parametrize("there", [None, [[1.0, 0.0], [0.0]], "whole", [1.0, 0.0]])
def test_a_grid_that_lies_nowhere_is_refused(pair: list[FeatureStore], there: object) -> None:
    other = write_branch("dino", [tap("enc.1", grid_to_image=there)])
    with pytest.raises(FormatError, match=r"enc.1: its attribute grid_to_image is no 2 x 3 matrix"):
        fuse([pair[0], other])


def test_labels_and_empty_stores_and_other_shapes_are_refused(pair: list[FeatureStore], store_root: Path) -> None:
    recipe = pair[0].recipe.model_copy(update={"kind": "targets", "backbone": None})
    create(store_root / "labels", recipe, table(), [], attrs={}, coordinates={}, provenance={})
    with pytest.raises(FusionError, match="labels: holds labels, which are not fused"):
        fuse([pair[0], FeatureStore.open("store/labels")])
    empty = store_root / "empty"
    create(empty, pair[0].recipe, table(), [], attrs={}, coordinates={}, provenance={})
    with pytest.raises(FusionError, match="empty: has no taps to fuse"):
        fuse([pair[0], FeatureStore.open(empty)])
    spec = tap("vec.1")
    flat = type(spec)("vec.1", (4, 5), "float16", ("frame", "channel"), spec.attrs)
    with pytest.raises(FusionError, match=r"flat/toys: tap vec.1 has dimensions \('clip', 'frame', 'channel'\)"):
        fuse([pair[0], write_branch("flat", [flat])])


def test_taps_that_would_have_one_name_are_refused(pair: list[FeatureStore]) -> None:
    left = write_branch("left", [tap("a.1"), tap("a.1+b.1")])
    right = write_branch("right", [tap("b.1+c.1"), tap("c.1")])
    with pytest.raises(FusionError, match=r"a\.1\+b\.1\+c\.1: is both .* with c\.1 and a\.1 with b\.1\+c\.1"):
        fuse([left, right])


def test_a_name_that_is_too_long_is_refused(pair: list[FeatureStore]) -> None:
    recipes = [pair[0].recipe.model_copy(update={"backbone": backbone("m" * 150)})] * 2
    with pytest.raises(FusionError, match=r"the fusion of 2 stores has no valid recipe[\s\S]*at most 200 characters"):
        fused_recipe(recipes, "lnconcat")


def test_a_damaged_coordinate_is_an_error(pair: list[FeatureStore]) -> None:
    (pair[1].path / "features.zarr" / "span" / "c" / "0" / "0" / "0").write_bytes(b"?")
    with pytest.raises(FormatError, match="span"):
        fuse(pair).coordinates()
