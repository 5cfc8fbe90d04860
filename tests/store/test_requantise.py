"""Conversions to another storage type: what they cost is said, what they cannot keep is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from store import (
    ArraySpec,
    FeatureStore,
    FormatError,
    RecipeMismatchError,
    StoreError,
    StoreWriter,
    UnknownArrayError,
)
from store.sharing.requantise import relative_error, requantise
from store.sharing.selection import Selection
from tests.store.conftest import SPECS, Example

PROJECT = Path(__file__).parents[2]
TAPS = ["early", "late@t5", "wide"]


def half(value: NDArray[np.float32]) -> NDArray[np.float16]:
    return value.astype(np.float16)


def test_a_converted_store_is_a_store_of_its_own(filled: Example, tmp_path: Path) -> None:
    source = FeatureStore.open(filled.path)
    done = requantise(source, tmp_path / "wide", "float32")
    assert (done.clips, done.clips_there, done.failed) == (3, 0, [])
    there = FeatureStore.open(tmp_path / "wide")
    assert there.fingerprint == done.recipe.fingerprint != source.fingerprint
    assert (there.recipe.storage.dtype, there.recipe.storage.converted_from) == ("float32", "float16")
    assert there.recipe.dataset == source.recipe.dataset
    assert there.clips == source.clips
    assert there.manifest is not None
    for array in ("early", "label", "late@t5", "slot", "wide"):
        assert there.arrays[array].dtype == ("float32" if array in TAPS else source.arrays[array].dtype)
        assert there.arrays[array].dims == source.arrays[array].dims
        for row in range(3):
            np.testing.assert_array_equal(there.read(array, row), source.read(array, row))
    assert {tap: (cost.clips, cost.worst) for tap, cost in done.costs.items()} == dict.fromkeys(TAPS, (3, 0.0))
    provenance = json.loads((tmp_path / "wide" / "provenance.json").read_text())
    assert provenance == {"host": "here", "converted": {"from": source.fingerprint, "dtype": "float32"}}
    coordinate = "features.zarr/bank_frame/c/0/0"
    assert (tmp_path / "wide" / coordinate).read_bytes() == (filled.path / coordinate).read_bytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "int8-channel"])
def test_the_error_that_is_told_is_the_one_that_was_made(dtype: str, filled: Example, tmp_path: Path) -> None:
    source = FeatureStore.open(filled.path)
    done = requantise(source, tmp_path / "there", dtype, threads=1)
    there = FeatureStore.open(tmp_path / "there")
    for tap in TAPS:
        errors = []
        for row in range(3):
            before, after = (store.read(tap, row).astype(np.float64) for store in (source, there))
            errors.append(float(np.linalg.norm(after - before) / np.linalg.norm(before)))
        cost = done.costs[tap]
        assert cost.mean == pytest.approx(np.mean(errors), rel=1e-6)
        assert cost.worst == pytest.approx(max(errors), rel=1e-6)
        assert cost.worst_clip == f"clip{np.argmax(errors)}" or max(errors) == 0
    assert done.costs["late@t5"].mean == (0 if dtype == "bfloat16" else pytest.approx(0.005, abs=0.005))


@pytest.fixture
def massive(tmp_path: Path, example: Example) -> Example:
    """Heavy-tailed channels, a few of them massive, as in the residual stream of a transformer."""
    rng = np.random.default_rng(0)
    channels = 256
    gain = np.exp(rng.normal(size=channels)).astype(np.float32)
    offset = np.zeros(channels, np.float32)
    offset[[3, 70, 200]] = 40, -25, 60
    spec = ArraySpec(
        "tap",
        (4, 16, 28, channels),
        "float16",
        ("frame", "y", "x", "channel"),
        {"site": "tap", "depth": 0, "noise": None},
    )
    example.path = tmp_path / "massive"
    example.create([spec])
    example.values = {
        clip.row: {
            "tap": gain * rng.normal(size=(len(clip.bank), 16, 28, channels)).astype(np.float32)
            + offset * rng.normal(1, 0.1, size=(len(clip.bank), 16, 28, 1)).astype(np.float32)
        }
        for clip in example.clips
    }
    example.write([0, 1, 2])
    return example


def test_int8_takes_half_the_bytes_for_less_than_a_percent(massive: Example, tmp_path: Path) -> None:
    source = FeatureStore.open(massive.path)
    done = requantise(source, tmp_path / "int8", "int8-channel")
    there = FeatureStore.open(tmp_path / "int8")
    before, after = (
        sum(record.size for arrays in store.committed.values() for record in arrays.values())
        for store in (source, there)
    )
    assert set(there.committed[0]) == {"tap", "tap~scale"}
    assert after / before < 0.51
    assert 0.001 < done.costs["tap"].mean <= done.costs["tap"].worst < 0.01
    for row in range(3):
        original, kept = source.read("tap", row).astype(np.float32), there.read("tap", row)
        assert relative_error(original, kept) < 0.01
        # No value is off by more than half a step of its own channel, massive neighbours or not.
        step = np.abs(original).max(axis=(0, 1, 2)) / 127
        assert (np.abs(kept - original) <= step * 0.5001 + 1e-7).all()


def test_bfloat16_is_kept_to_eight_bits(massive: Example, tmp_path: Path) -> None:
    source = FeatureStore.open(massive.path)
    done = requantise(source, tmp_path / "there", "bfloat16")
    assert 1e-4 < done.costs["tap"].worst < 2**-8
    there = FeatureStore.open(tmp_path / "there")
    original = source.read("tap", 0).astype(np.float32)
    assert (np.abs(there.read("tap", 0) - original) <= np.abs(original) * 2**-8).all()


def test_what_does_not_fit_is_listed_and_the_rest_is_converted(example: Example, tmp_path: Path) -> None:
    recipe = example.recipe.model_copy(
        update={"storage": example.recipe.storage.model_copy(update={"dtype": "float32"})}
    )
    example.create([SPECS[1], SPECS[2]], recipe)
    for row in range(3):
        example.values[row] = {name: example.values[row][name] for name in ("late@t5", "wide")}
        example.values[row]["late@t5"] /= 1e6
    example.values[1]["late@t5"][0, 0, 0, 0] = -1e5
    example.write([0, 1, 2])
    done = requantise(FeatureStore.open(example.path), tmp_path / "there", "float16")
    ((clip, tap, problem),) = done.failed
    assert (clip, tap) == ("clip1", "late@t5")
    assert "clip clip1, tap late@t5" in problem
    assert "9.984e+04, does not fit float16" in problem
    there = FeatureStore.open(tmp_path / "there")
    assert {row: list(arrays) for row, arrays in there.committed.items()} == {
        0: ["late@t5", "wide"],
        1: ["wide"],
        2: ["late@t5", "wide"],
    }
    done_again = subprocess.run(
        [sys.executable, "-m", "store", "copy", str(example.path), str(tmp_path / "there"), "--dtype", "float16"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )
    assert done_again.returncode == 1
    assert "does not fit float16" in done_again.stderr


def test_a_conversion_goes_on_where_it_stopped(filled: Example, tmp_path: Path) -> None:
    source = FeatureStore.open(filled.path)
    requantise(source, tmp_path / "there", "int8-channel", Selection(arrays=["early"], limit=2))
    commits = set((tmp_path / "there" / "commits").iterdir())
    done = requantise(source, tmp_path / "there", "int8-channel")
    assert done.clips_there == 0
    assert done.costs["early"].clips == 1
    assert done.costs["wide"].clips == 3
    assert commits < set((tmp_path / "there" / "commits").iterdir())
    again = requantise(source, tmp_path / "there", "int8-channel")
    assert (again.clips, again.clips_there, again.costs) == (3, 3, {})


def test_a_clip_that_does_not_fit_the_memory_gets_several_commits(
    filled: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.sharing.requantise._MEMORY", 1000)
    requantise(FeatureStore.open(filled.path), tmp_path / "there", "bfloat16")
    there = FeatureStore.open(tmp_path / "there")
    assert len(there.commits) > 3
    assert all(len(arrays) == 5 for arrays in there.committed.values())


def test_every_conversion_is_in_the_recipe(filled: Example, tmp_path: Path) -> None:
    requantise(FeatureStore.open(filled.path), tmp_path / "int8", "int8-channel")
    done = requantise(FeatureStore.open(tmp_path / "int8"), tmp_path / "half", "bfloat16", Selection(arrays=["wide"]))
    assert done.recipe.storage.converted_from == "float16 > int8-channel"
    direct = requantise(FeatureStore.open(filled.path), tmp_path / "direct", "bfloat16")
    assert direct.recipe.fingerprint != done.recipe.fingerprint


def test_there_must_be_something_to_convert(filled: Example, tmp_path: Path) -> None:
    source = FeatureStore.open(filled.path)
    for dtype, selection, error, message in [
        ("float16", None, StoreError, "is float16 already. Copy it without --dtype"),
        ("flaot32", None, StoreError, "Did you mean float32"),
        ("uint8", None, StoreError, "unknown storage type 'uint8'"),
        ("bfloat16", Selection(arrays=["label"]), StoreError, "label hold no features"),
        ("bfloat16", Selection(arrays=["lable"]), UnknownArrayError, "Did you mean label"),
    ]:
        with pytest.raises(error, match=message):
            requantise(source, tmp_path / "there", dtype, selection)
    with pytest.raises(FormatError, match="is the source"):
        requantise(source, filled.path, "bfloat16")
    assert not (tmp_path / "there").exists()


def test_labels_are_not_converted(example: Example, tmp_path: Path) -> None:
    recipe = example.recipe.model_copy(update={"kind": "targets"})
    example.create([SPECS[3]], recipe)
    with StoreWriter(example.path) as writer:
        writer.put(0, {"label": example.values[0]["label"]})
    with pytest.raises(StoreError, match="holds labels"):
        requantise(FeatureStore.open(example.path), tmp_path / "there", "float32")


def test_another_store_is_not_converted_into(filled: Example, tmp_path: Path) -> None:
    source = FeatureStore.open(filled.path)
    requantise(source, tmp_path / "there", "bfloat16")
    with pytest.raises(RecipeMismatchError, match=r"storage\.dtype: 'bfloat16' there, 'float32' here"):
        requantise(source, tmp_path / "there", "float32")


def test_a_damaged_shard_is_not_converted(filled: Example, tmp_path: Path) -> None:
    path = filled.path / "features.zarr" / "wide" / "c.1.0.0.0.0"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)
    done = requantise(FeatureStore.open(filled.path), tmp_path / "there", "bfloat16")
    assert [(clip, array) for clip, array, _ in done.failed] == [("clip1", "wide")]
    assert "wide" not in FeatureStore.open(tmp_path / "there").committed[1]


def test_the_error_of_zeros_is_zero() -> None:
    zeros = np.zeros((2, 3), np.float32)
    assert relative_error(zeros, zeros) == 0
    assert relative_error(zeros, zeros + 1) == np.inf
    assert relative_error(np.full(4, 1e30, np.float32), np.full(4, 1.01e30, np.float32)) == pytest.approx(0.01, 1e-4)


def test_the_command_says_what_it_cost(massive: Example, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "store", "copy", str(massive.path), str(tmp_path / "there"), "--dtype", "int8-channel"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "3 clips as int8-channel (from float16)" in done.stdout
    assert "Relative L2 error of the conversion" in done.stdout
    again = subprocess.run(
        [
            *(sys.executable, "-m", "store", "copy", str(massive.path), str(tmp_path / "more")),
            *("--dtype", "int8-channel", "--json"),
        ],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=True,
    )
    assert 0 < json.loads(again.stdout)["relative_error"]["tap"]["mean"] < 0.01
