"""What is written is what is read, by our reader and by zarr-python, and nothing else exists."""

from __future__ import annotations

import numpy as np
import pytest
import xarray
import zarr

from store import (
    ArrayValueError,
    FeatureStore,
    FormatError,
    MissingClipError,
    RecipeMismatchError,
    StorageRecipe,
    UnknownArrayError,
    finalize,
)
from store.arrays import ArraySpec
from store.casting import to_physical
from store.dtypes import to_logical
from store.writer import StoreWriter
from tests.store.conftest import SPECS, Example


def bfloat16_reference(values: np.ndarray) -> np.ndarray:
    import torch

    return torch.from_numpy(values).to(torch.bfloat16).float().numpy()


def test_values_come_back(filled: Example) -> None:
    store = FeatureStore.open(filled.path)
    for row, arrays in filled.values.items():
        assert np.array_equal(store.read("early", row), arrays["early"].astype(np.float16))
        assert np.array_equal(store.read("late@t5", row), bfloat16_reference(arrays["late@t5"]))
        for name in ("wide", "label", "slot"):
            assert np.array_equal(store.read(name, row), arrays[name])


def test_zarr_python_reads_the_same_bytes(filled: Example) -> None:
    store = FeatureStore.open(filled.path)
    group = zarr.open_group(str(filled.path / "features.zarr"), mode="r")
    for name, info in store.arrays.items():
        for row in (0, 1, 2):
            raw = np.asarray(group[name][row])  # type: ignore[index]
            frames = len(filled.clips[row].bank) if info.framed else len(raw)
            assert np.array_equal(to_logical(raw, info.dtype)[:frames], store.read(name, row))
            assert not raw[frames:].any()


def test_xarray_opens_the_group_with_named_dimensions(filled: Example) -> None:
    finalize(FeatureStore.open(filled.path))
    others = [
        name for name in FeatureStore.open(filled.path).arrays if name != "early"
    ]  # other grids are other dimensions
    with xarray.open_zarr(
        filled.path / "features.zarr", consolidated=False, drop_variables=others, chunks=None
    ) as dataset:
        assert dataset["early"].dims == ("clip", "frame", "y", "x", "channel")
        assert dataset["bank_frame"].values[1].tolist() == [0, 2, -1, -1]


def test_frame_subsets_in_any_order_and_into_a_buffer(filled: Example) -> None:
    store = FeatureStore.open(filled.path)
    whole = store.read("early", 0)
    for frames in ([0], [3], [2, 0], [1, 2, 3], [3, 3, 0], []):
        assert np.array_equal(store.read("early", 0, frames), whole[frames])
    assert np.array_equal(store.read("label", 0, [2, 0]), store.read("label", 0)[[2, 0]])
    out = np.empty((2, *whole.shape[1:]), np.float16)
    assert store.read("early", 0, [3, 1], out=out) is out
    assert np.array_equal(out, whole[[3, 1]])
    with pytest.raises(ValueError, match="C-contiguous"):
        store.read("early", 0, [3, 1], out=out[:1])


def test_shorter_clips_end_where_their_bank_ends(filled: Example) -> None:
    store = FeatureStore.open(filled.path)
    assert store.read("early", 1).shape[0] == 2
    with pytest.raises(MissingClipError, match=r"bank frames 0 … 1"):
        store.read("early", 1, [2])


def test_a_clip_without_commit_does_not_exist(example: Example) -> None:
    example.create()
    example.write([0])
    store = FeatureStore.open(example.path)
    assert store.rows() == [0]
    with pytest.raises(MissingClipError, match="clip1"):
        store.read("early", 1)
    with pytest.raises(MissingClipError, match="1 of split 'train'"):
        store.rows(split="test")


def test_unknown_arrays_suggest_the_nearest(filled: Example) -> None:
    with pytest.raises(UnknownArrayError, match=r"Did you mean late@t5"):
        FeatureStore.open(filled.path).read("late@t6", 0)


def test_arrays_can_be_added_later_and_nothing_is_rewritten(filled: Example) -> None:
    before = {path: path.stat().st_mtime_ns for path in filled.path.rglob("*") if path.is_file()}
    attrs = {"site": "new", "depth": 9, "noise": None}
    filled.create([*SPECS, ArraySpec("new", (4, 1, 1, 2), "float16", ("frame", "y", "x", "channel"), attrs)])
    with StoreWriter(filled.path) as writer:
        writer.put(0, {"new": np.ones((4, 1, 1, 2), np.float32)})
    assert {path: path.stat().st_mtime_ns for path in before} == before
    store = FeatureStore.open(filled.path)
    assert store.rows(arrays=["new"]) == [0]
    assert store.rows(arrays=["early"]) == [0, 1, 2]
    assert store.taps == ["early", "late@t5", "wide", "new"]


def test_another_recipe_is_refused_and_the_field_is_named(filled: Example) -> None:
    other = filled.recipe.model_copy(update={"storage": StorageRecipe(dtype="float32")})
    with pytest.raises(RecipeMismatchError, match=r"storage.dtype: 'float16' in the store, 'float32' asked for"):
        filled.create(recipe=other)


def test_a_changed_array_is_refused(filled: Example) -> None:
    with pytest.raises(FormatError, match=r"shape: \[4, 2, 3, 5\] there, \[4, 9, 9, 5\] asked for"):
        filled.create([ArraySpec("early", (4, 9, 9, 5), "float16", ("frame", "y", "x", "channel"))])


def test_a_folder_in_the_way_is_not_overwritten(example: Example) -> None:
    example.path.mkdir()
    (example.path / "thesis.tex").write_text("years of work")
    with pytest.raises(FormatError, match="in the way"):
        example.create()
    assert (example.path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"1 of 120 values are NaN or infinite"),
        (np.inf, "NaN or infinite"),
        (70000.0, r"7e\+04, does not fit float16.*bfloat16"),
    ],
)
def test_values_that_cannot_be_kept_are_refused_and_nothing_is_written(
    example: Example, value: float, message: str
) -> None:
    example.create()
    values = example.values[0] | {"early": example.values[0]["early"].copy()}
    values["early"][0, 0, 0, 0] = value
    with StoreWriter(example.path) as writer, pytest.raises(ArrayValueError, match=message):
        writer.put(0, values)
    assert not list(example.path.rglob("c.*"))
    assert not FeatureStore.open(example.path).committed


def test_wrong_shapes_and_types_are_refused(example: Example) -> None:
    example.create()
    with StoreWriter(example.path) as writer:
        with pytest.raises(ArrayValueError, match=r"got shape \(3, 2, 3, 5\), expected \(4, 2, 3, 5\)"):
            writer.put(0, {"early": example.values[0]["early"][:3]})
        with pytest.raises(ArrayValueError, match="got dtype int64"):
            writer.put(0, {"label": example.values[0]["label"].astype(np.int64)})
        with pytest.raises(UnknownArrayError, match="no array 'surprise'"):
            writer.put(0, {"surprise": np.zeros(3)})


def test_labels_must_be_finite_too() -> None:
    with pytest.raises(ArrayValueError, match="1 of 2 values are NaN"):
        to_physical(np.array([0.0, np.nan]), "float64", "pose")


def test_an_out_buffer_is_filled_by_every_reader(filled: Example) -> None:
    store = FeatureStore.open(filled.path)
    out = np.zeros((2, 6, 6), np.uint16)
    assert store.read("label", 0, [3, 1], out=out) is out
    assert np.array_equal(out, store.read("label", 0)[[3, 1]])


def test_bfloat16_rounds_to_nearest_even_and_refuses_overflow() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 200_000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values) & (np.abs(values) < 3e38)]
    assert np.array_equal(to_logical(to_physical(values, "bfloat16", "x"), "bfloat16"), bfloat16_reference(values))
    with pytest.raises(ArrayValueError, match="does not fit bfloat16"):
        to_physical(np.array([np.finfo(np.float32).max]), "bfloat16", "x")
