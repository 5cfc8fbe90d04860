"""Every difference between two stores is named, and equal stores have none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import (
    ArraySpec,
    BackboneRecipe,
    ClipRow,
    FeatureStore,
    FormatError,
    NoiseRecipe,
    Recipe,
    StorageRecipe,
    StoreWriter,
    create,
    finalize,
)
from store.sharing.skeleton import check_same_array
from store.upkeep.diff import Difference, diff, nearest
from tests.store.conftest import SPECS, Example, dataset_recipe

TAP = ArraySpec("tap", (2, 1, 1, 3), "float32", ("frame", "y", "x", "channel"), {"site": "tap", "depth": 0})


def clip(row: int, **changes: Any) -> ClipRow:
    facts = {"id": f"clip{row}", "scene": "s", "split": "train", "bank": (0, 1), "n_frames": 9, "digest": "00"}
    return ClipRow(row=row, **(facts | changes))


def make(path: Path, clips: list[ClipRow], specs: list[ArraySpec], recipe: Recipe | None = None) -> FeatureStore:
    path.parent.mkdir(parents=True, exist_ok=True)
    recipe = recipe or Recipe(kind="features", dataset=dataset_recipe("data", clips))
    create(path, recipe, clips, specs, attrs={}, coordinates={}, provenance={})
    return FeatureStore.open(path)


def both(filled: Example) -> tuple[FeatureStore, FeatureStore]:
    other = filled.path.with_name("copy")
    shutil.copytree(filled.path, other)
    return FeatureStore.open(filled.path), FeatureStore.open(other)


def test_a_copy_does_not_differ_whether_finalized_or_not(filled: Example) -> None:
    a, b = both(filled)
    finalize(b)
    assert not diff(a, FeatureStore.open(b.path))
    assert diff(a, b) == Difference()


def test_fields_of_recipes_are_named_with_both_values(store_root: Path) -> None:
    clips = [clip(0)]
    data = dataset_recipe("data", clips)
    a = make(store_root / "a" / "data", clips, [TAP], Recipe(kind="features", dataset=data, noise=NoiseRecipe(seed=0)))
    b = make(
        store_root / "b" / "data",
        clips,
        [TAP],
        Recipe(kind="features", dataset=data, preprocessing={"size": [4, 4]}, noise=NoiseRecipe(seed=1)),
    )
    assert diff(a, b).recipe == [
        ("noise.seed", 0, 1),
        ("preprocessing", {}, None),
        ("preprocessing.size", None, [4, 4]),
    ]


def test_clips_are_matched_by_id(store_root: Path) -> None:
    a = make(store_root / "a" / "data", [clip(0), clip(1), clip(2)], [TAP])
    changed = clip(1, digest="11", split="val", bank=(0, 3))
    b = make(store_root / "b" / "data", [clip(0), changed, clip(2, id="new")], [TAP])
    found = diff(a, b)
    assert (found.clips_only_a, found.clips_only_b) == (["clip2"], ["new"])
    assert found.clips == {
        "clip1": [("bank", [0, 1], [0, 3]), ("digest", "00", "11"), ("split", "train", "val")],
    }
    assert found.rows_only_a == found.shards == {}


def test_arrays_differ_in_shape_type_and_attributes(store_root: Path) -> None:
    clips = [clip(0)]
    other = ArraySpec("tap", (2, 1, 2, 3), "bfloat16", TAP.dims, {"site": "tap", "depth": 0, "noise": {"sigma": 2.0}})
    extra = ArraySpec("more", (4,), "uint8", ("slot",))
    found = diff(make(store_root / "a" / "data", clips, [TAP]), make(store_root / "b" / "data", clips, [other, extra]))
    assert (found.arrays_only_a, found.arrays_only_b) == ([], ["more"])
    fields = {name: (a, b) for name, a, b in found.arrays["tap"]}
    assert fields["shape"] == ([2, 1, 1, 3], [2, 1, 2, 3])
    assert fields["dtype"] == ("float32", "bfloat16")
    assert fields["attributes.noise.sigma"] == (None, 2.0)
    assert "attributes.logical_dtype" not in fields


def test_commits_and_values_are_compared_where_the_recipe_is_the_same(example: Example) -> None:
    example.create()
    a, b = both(example)
    for store, rows, offset in ((a, [0, 1], 0.0), (b, [1, 2], 1.0)):
        with StoreWriter(store.path) as writer:
            for row in rows:
                wide = example.values[row]["wide"] + np.float32(offset if row == 1 else 0)
                writer.put(row, {"early": example.values[row]["early"], "wide": wide})
    found = diff(FeatureStore.open(a.path), FeatureStore.open(b.path))
    assert found.rows_only_a == {"early": [0], "wide": [0]}
    assert found.rows_only_b == {"early": [2], "wide": [2]}
    assert found.shards == {"wide": [1]}
    assert found.recipe == []


@pytest.fixture
def recipe() -> Recipe:
    backbone = BackboneRecipe(
        family="f",
        family_version=1,
        model="m",
        kind="vgm",
        checkpoint="c",
        revision=None,
        digest="0" * 32,
        attention=None,
    )
    return Recipe(
        kind="features",
        dataset=dataset_recipe("data", [clip(0)]),
        backbone=backbone,
        noise=NoiseRecipe(seed=0),
    )


def test_the_same_recipe_elsewhere_is_all_that_is_near(store_root: Path, recipe: Recipe) -> None:
    make(store_root / "first" / "data", [clip(0)], [TAP], recipe)
    make(store_root / "second" / "data", [clip(0)], [TAP], recipe.model_copy(update={"noise": NoiseRecipe(seed=1)}))
    assert nearest(recipe, store_root) == [(store_root / "first" / "data", [])]


def test_otherwise_the_nearest_come_first_with_what_differs(store_root: Path, recipe: Recipe) -> None:
    far = recipe.model_copy(update={"noise": NoiseRecipe(seed=1), "storage": StorageRecipe(dtype="bfloat16")})
    near = recipe.model_copy(update={"noise": NoiseRecipe(seed=2)})
    make(store_root / "a" / "data", [clip(0)], [TAP], far)
    make(store_root / "b" / "data", [clip(0)], [TAP], near)
    assert nearest(recipe, store_root) == [
        (store_root / "b" / "data", [("noise.seed", 2, 0)]),
        (store_root / "a" / "data", [("noise.seed", 1, 0), ("storage.dtype", "bfloat16", "float16")]),
    ]


def test_another_model_or_data_set_is_not_near_and_damage_is_passed_over_aloud(
    store_root: Path, recipe: Recipe, caplog: pytest.LogCaptureFixture
) -> None:
    assert recipe.backbone is not None
    other = recipe.backbone.model_copy(update={"model": "other"})
    make(store_root / "a" / "data", [clip(0)], [TAP], recipe.model_copy(update={"backbone": other}))
    make(store_root / "b" / "data", [clip(0)], [TAP])
    damaged = make(store_root / "c" / "data", [clip(0)], [TAP], recipe)
    (damaged.path / "recipe.json").write_text("{}")
    assert nearest(recipe, store_root) == []
    assert str(damaged.path) in caplog.text


def test_targets_are_told_apart_from_features(filled: Example, store_root: Path) -> None:
    targets = filled.recipe.model_copy(update={"kind": "targets"})
    assert nearest(targets, store_root) == []
    assert nearest(filled.recipe, store_root) == [(filled.path, [])]
    assert len(SPECS) == len(FeatureStore.open(filled.path).arrays)


def test_attributes_that_make_another_tap_are_named(store_root: Path) -> None:
    clips = [clip(0)]
    specs = [ArraySpec("tap", TAP.shape, TAP.dtype, TAP.dims, {**TAP.attrs, "step": step}) for step in (1, 1.0)]
    a, b = (make(store_root / name / "data", clips, [spec]) for name, spec in zip("ab", specs, strict=True))
    assert a.tap_fingerprint("tap") != b.tap_fingerprint("tap")
    assert diff(a, b).arrays == {"tap": [("attributes.step", 1, 1.0)]}
    with pytest.raises(FormatError, match="another array"):
        check_same_array(a.info("tap"), b.info("tap"), "here")
    with pytest.raises(FormatError, match="the array is another one"):
        make(a.path, clips, [specs[1]])
