"""The recipe says all that can change a number and nothing else; what cannot be known is refused, with what to pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from extract.backbones.base import Weights
from extract.cached import explain_miss
from extract.errors import ExtractError
from extract.loop import extract
from extract.plan import Request, make_plan
from extract.progress import Progress
from extract.registry import make_dataset
from store import FeatureStore, RecipeMismatchError, differences
from tests.extract.tiny_rooms import write_rooms
from tests.extract.toy_family import ToyFamily


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    write_rooms(tmp_path / "rooms", splits=("train", "val"), size=(32, 32), frames=3)
    return tmp_path / "rooms"


def recipe_of(rooms: Path, **request: object):  # type: ignore[no-untyped-def]
    return make_plan(ToyFamily("toy"), make_dataset("rooms", rooms), Request(**request)).recipe  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"seed": 1}, "noise.seed"),
        ({"dtype": "bfloat16"}, "backbone.dtype"),
        ({"store_dtype": "int8-channel"}, "storage.dtype"),
        ({"grid": (4, 4)}, "storage.grid"),
    ],
)
def test_what_changes_numbers_changes_the_fingerprint_and_is_named(
    rooms: Path, request_: dict[str, object], field: str
) -> None:
    changed = recipe_of(rooms, **request_)
    assert changed.fingerprint != recipe_of(rooms).fingerprint
    assert [name for name, _, _ in differences(recipe_of(rooms), changed)] == [field]


@pytest.mark.parametrize(
    "request_", [{"split": "val"}, {"limit": 1}, {"sites": ["latent"]}, {"noise": ["sigma=3"]}, {"out": "elsewhere"}]
)
def test_how_much_is_asked_for_does_not_change_the_fingerprint(rooms: Path, request_: dict[str, object]) -> None:
    assert recipe_of(rooms, **request_).fingerprint == recipe_of(rooms).fingerprint


def test_one_more_frame_in_the_bank_is_named(rooms: Path) -> None:
    before = recipe_of(rooms)
    write_rooms(rooms, splits=("train", "val"), size=(32, 32), frames=4)
    assert {name for name, _, _ in differences(before, recipe_of(rooms))} == {"dataset.bank", "dataset.clips"}


@pytest.mark.parametrize(
    ("weights", "field", "remedy"),
    [
        (Weights("toy", None, ""), "digest", "--checkpoint DIR"),
        (Weights("", None, "0" * 32), "checkpoint", "--checkpoint DIR or"),
        (Weights("toy", "", "0" * 32), "revision", "--revision COMMIT"),
    ],
)
def test_weights_that_cannot_be_told_are_refused(
    rooms: Path, monkeypatch: pytest.MonkeyPatch, weights: Weights, field: str, remedy: str
) -> None:
    monkeypatch.setattr(ToyFamily, "weights", lambda self: weights)
    with pytest.raises(ExtractError, match=rf"(?s)model toy.*{field} is ''.*{remedy}"):
        recipe_of(rooms)


def test_data_of_unknown_version_are_refused(rooms: Path) -> None:
    dataset = make_dataset("rooms", rooms)
    dataset.version = ""
    with pytest.raises(ExtractError, match=r"(?s)data set rooms.*version is ''.*--root DIR"):
        make_plan(ToyFamily("toy"), dataset, Request())


def test_a_tap_is_identified_by_recipe_site_and_noise_level(rooms: Path) -> None:
    def taps(**request: object) -> dict[str, str]:
        plan = make_plan(ToyFamily("toy"), make_dataset("rooms", rooms), Request(**request))  # type: ignore[arg-type]
        extract(plan, torch.device("cpu"), Progress(quiet=True))
        store = FeatureStore.open(plan.path)
        return {tap: store.tap_fingerprint(tap) for tap in store.taps}

    many = taps(sites=["latent", "blocks.0"], noise=["sigma=1", "sigma=2"])
    assert len(set(many.values())) == 3
    assert taps(sites=["blocks.0"], noise=["sigma=2"], out="alone") == {"blocks.0@sigma2": many["blocks.0@sigma2"]}
    assert taps(sites=["blocks.0"], noise=["sigma=2"], out="other", seed=1) != {
        "blocks.0@sigma2": many["blocks.0@sigma2"]
    }


def test_a_miss_names_the_field_that_missed(rooms: Path) -> None:
    def plan(**request: object):  # type: ignore[no-untyped-def]
        return make_plan(ToyFamily("toy"), make_dataset("rooms", rooms), Request(**request))  # type: ignore[arg-type]

    assert explain_miss(plan()) == []
    extract(plan(), torch.device("cpu"), Progress(quiet=True))
    assert explain_miss(plan()) == []
    (why,) = explain_miss(plan(out="mine", seed=4))
    assert why == "store/toy/rooms cannot be used: noise.seed is 0 there, 4 asked for"
    assert explain_miss(plan(out="mine")) == ["store/toy/rooms has this very recipe; to go on there: --out toy"]
    with pytest.raises(RecipeMismatchError, match=r"noise\.seed: 0 in the store, 4 asked for"):
        extract(plan(seed=4), torch.device("cpu"), Progress(quiet=True))


def test_int8_features_are_within_half_a_step_of_float32(rooms: Path) -> None:
    stores = {}
    for dtype in ("float32", "int8-channel"):
        plan = make_plan(ToyFamily("toy"), make_dataset("rooms", rooms), Request(store_dtype=dtype, out=f"toy-{dtype}"))
        extract(plan, torch.device("cpu"), Progress(quiet=True))
        stores[dtype] = FeatureStore.open(plan.path)
    exact, small = stores["float32"], stores["int8-channel"]
    assert small.taps == exact.taps
    for tap in exact.taps:
        for row in exact.rows():
            error = np.abs(small.read(tap, row) - exact.read(tap, row))
            assert (error <= small.scale(tap, row) * (0.5 + 1e-4)).all()
            assert error.max() > 0
