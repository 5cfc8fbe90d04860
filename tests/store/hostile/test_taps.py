"""Taps that do not say where they stand, scales that do not belong to their values, and a store of nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import ArraySpec, FeatureStore, FormatError, MissingClipError, StoreWriter
from store.arrays import create_arrays
from tests.store.hostile.forge import assert_refused, edit, edit_array
from tests.store.truth import make, table, values


@pytest.mark.parametrize("change", [
    {"depth": None}, {"depth": "x"}, {"depth": [1]}, {"depth": True}, {"depth": 0.5}, {"noise": "x"}, {"noise": [1]},
    {"noise": {"sigma": "x"}}, {"noise": {"sigma": None}}, {"noise": {"sigma": {}}}, {"noise": 1},
])  # fmt: skip
def test_taps_that_do_not_say_where_they_stand(store: Path, change: dict[str, Any]) -> None:
    edit_array(store, "half", lambda metadata: metadata["attributes"].update(change))
    assert_refused(store, "depth and noise of a tap|not the metadata of an array")


@pytest.mark.parametrize("change", ["missing", "longer", "other type", "no longer an array"])
def test_scales_that_do_not_belong_to_their_values(store: Path, change: str) -> None:
    (store / "manifest.json").unlink()
    if change == "missing":
        shutil.rmtree(store / "features.zarr" / "byte~scale")
    elif change == "no longer an array":
        edit_array(store, "byte~scale", lambda metadata: metadata.update(node_type="group"))
    elif change == "other type":
        edit_array(store, "byte~scale", lambda metadata: metadata.update(data_type="int32"))
    else:
        edit_array(store, "byte", lambda metadata: None)
        edit_array(store, "byte~scale", lambda metadata: _widen(metadata, 1))
    assert_refused(store)


def _widen(metadata: dict[str, Any], size: int) -> None:
    metadata["shape"] = [2, size]
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = [1, size]
    metadata["codecs"][0]["configuration"]["chunk_shape"] = [1, size]


@pytest.mark.parametrize("dims", [["clip", "y", "x", "channel", "frame"], ["clip", "frame", "y", "x", "frame"]])
def test_int8_without_an_axis_of_channels(store: Path, dims: list[str]) -> None:
    edit_array(store, "byte", lambda metadata: metadata.update(dimension_names=dims))
    assert_refused(store, "int8-channel without an axis of channels")


def test_scales_of_one_number_are_not_spread_over_all_channels(store: Path) -> None:

    (store / "manifest.json").unlink()
    shutil.rmtree(store / "features.zarr" / "byte~scale")
    create_arrays(store / "features.zarr", [ArraySpec("byte~scale", (1,), "float32", ("channel",))], 2)
    for commit in store.glob("commits/*"):
        edit(commit, lambda document: [document[key].pop("byte~scale") for key in ("arrays", "metadata")])
    with StoreWriter(store) as writer:
        for clip in table(2):
            writer.put(clip.row, {"byte~scale": np.ones(1, np.float32), "slot": values(clip)["slot"]})
    with pytest.raises(FormatError, match=r"byte~scale is float32 \(1,\), but the scales of byte are float32 \(5,\)"):
        FeatureStore.open(store).read("byte", 0)


def test_a_store_without_arrays_has_no_clip(tmp_path: Path) -> None:
    make(tmp_path / "known", 2, [])
    with pytest.raises(MissingClipError, match="no committed clip"):
        FeatureStore.open(tmp_path / "known").rows()
