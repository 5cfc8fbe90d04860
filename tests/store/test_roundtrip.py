"""What is written is what is read: any shape and type, any frames, by three readers that share no code."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from store import ArraySpec, ClipRow, FeatureStore, FormatError, MissingClipError, Recipe, StoreWriter, create, finalize
from store.upkeep.verify import verify
from tests.store.conftest import dataset_recipe
from tests.store.foreign import by_tensorstore, by_zarr

FEATURES = ["float16", "bfloat16", "float32", "int8-channel"]
LABELS = ["bool", "uint8", "uint16", "int32", "int64", "float64"]
LARGEST = {"float16": 65504.0, "bfloat16": 3.38e38, "float32": 3.4e38, "int8-channel": 3.4e38}


class Array(NamedTuple):
    """What an `ArraySpec` is made of; to make one calls for random numbers where types are checked, as in tests."""

    dtype: str
    shape: tuple[int, ...] = (2, 3)
    dims: tuple[str, ...] = ("frame", "channel")
    name: str = "a0"
    compressed: bool = False


@dataclass(frozen=True)
class Case:
    """A store: length of the bank of every clip, its arrays, and the numbers that its values are drawn from."""

    banks: tuple[int, ...]
    arrays: tuple[Array, ...]
    seed: int
    magnitude: float
    closed: bool

    @property
    def specs(self) -> list[ArraySpec]:
        return [
            ArraySpec(
                array.name,
                array.shape,
                array.dtype,
                array.dims,
                {"site": array.name, "depth": number, "noise": None} if array.dtype in FEATURES else {},
                array.compressed,
            )
            for number, array in enumerate(self.arrays)
        ]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    frames = draw(st.integers(1, 5))
    banks = draw(st.lists(st.integers(1, frames), min_size=1, max_size=4))
    arrays = []
    for number in range(draw(st.integers(1, 3))):
        dtype = draw(st.sampled_from(FEATURES + LABELS))
        framed = draw(st.booleans())
        least = 1 if dtype == "int8-channel" else 0
        inner = draw(st.lists(st.integers(1, 4), min_size=least, max_size=3))
        shape = (frames, *inner) if framed else tuple(inner)
        dims = tuple(["frame"] * framed + [f"d{axis}" for axis in range(len(inner))])
        compressed = dtype in LABELS and draw(st.booleans())
        name = draw(st.sampled_from(["a", "blocks.", "t@s"])) + str(number)
        arrays.append(Array(dtype, shape, dims, name, compressed))
    magnitude = draw(st.sampled_from([0.0, 1e-45, 1e-39, 1e-7, 1.0, 1e4, 1e18, 1e30, math.inf]))
    return Case(tuple(banks), tuple(arrays), draw(st.integers(0, 2**32)), magnitude, draw(st.booleans()))


def draw_values(case: Case, spec: ArraySpec, row: int) -> NDArray[Any]:
    """Values of any size that the type can hold, with its largest among them, in any type that they may come in."""
    rng = np.random.default_rng([case.seed, row, *spec.name.encode()])
    shape = (case.banks[row], *spec.shape[1:]) if spec.dims[:1] == ("frame",) else spec.shape
    if spec.dtype in FEATURES:
        largest = min(case.magnitude, LARGEST[spec.dtype])
        values = np.asarray(rng.uniform(-1, 1, shape) * largest)
        values[rng.random(shape) < 0.2] = largest
        values[rng.random(shape) < 0.1] = -0.0
        return values.astype(rng.choice(["float32", "float64", ">f4", ">f8", "longdouble"]))
    if spec.dtype == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    if spec.dtype == "float64":
        return np.asarray(rng.normal(size=shape) * min(case.magnitude, 1e140))
    dtype = np.dtype(spec.dtype)  # such an array is read-only
    return np.frombuffer(rng.bytes(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)


def expected(spec: ArraySpec, values: NDArray[Any]) -> NDArray[Any]:
    """What must be read, by types that are not ours."""
    if spec.dtype == "bfloat16":
        return values.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)
    return values.astype(spec.dtype) if spec.dtype in FEATURES else values


def make(path: Path, case: Case) -> None:
    clips = [
        ClipRow(row=row, id=f"c{row}", scene="s", split="train", bank=tuple(range(bank)), n_frames=bank, digest="00")
        for row, bank in enumerate(case.banks)
    ]
    recipe = Recipe(kind="features", dataset=dataset_recipe("any", clips))
    create(path, recipe, clips, case.specs, attrs={}, coordinates={}, provenance={})
    with StoreWriter(path) as writer:
        for row in range(len(clips)):
            writer.put(row, {spec.name: draw_values(case, spec, row) for spec in case.specs})
    if case.closed:
        finalize(FeatureStore.open(path))


def assert_right(found: NDArray[Any], spec: ArraySpec, values: NDArray[Any], scale: NDArray[np.float32] | None) -> None:
    if scale is None:
        truth = expected(spec, values)
        np.testing.assert_array_equal(found, truth, strict=True)
        assert np.array_equal(np.signbit(found), np.signbit(truth)) if found.dtype.kind == "f" else True
        return
    assert found.dtype == np.float32
    assert found.shape == values.shape
    assert np.isfinite(found).all()
    largest = np.abs(values.astype(np.float32)).reshape(-1, values.shape[-1]).max(0)
    tiny = np.finfo(np.float32).tiny
    np.testing.assert_allclose(scale, np.where(largest / 127 < tiny, 0, largest / np.float32(127)), rtol=1e-6)
    error = np.abs(found.astype(np.float64) - values.astype(np.float32))
    assert (error <= np.where(scale > 0, 0.5001 * scale.astype(np.float64), largest)).all()


def check_store(path: Path, case: Case) -> None:
    """Every value by `read`, and the bytes behind it by zarr-python and tensorstore; frames one by one and together."""
    rng = np.random.default_rng(case.seed)
    store = FeatureStore.open(path)
    assert not verify(path, deep=True).bad
    for spec in case.specs:
        info = store.info(spec.name)
        assert info.spec() == spec
        others = [by_zarr(path / "features.zarr" / spec.name), by_tensorstore(path / "features.zarr" / spec.name)]
        for row, bank in enumerate(case.banks):
            values = draw_values(case, spec, row)
            scale = store.scale(spec.name, row) if info.scale else None
            found = store.read(spec.name, row, verify=True)
            assert_right(found, spec, values, scale)
            raw = np.empty(values.shape, info.physical)
            assert store.read(spec.name, row, out=raw, verify=True) is raw
            for other in others:
                assert other.dtype == info.physical
                held = other[row][:bank] if info.framed else other[row]
                np.testing.assert_array_equal(held, raw)
                assert not info.framed or not other[row][bank:].any()
            record = store.committed[row][spec.name]
            np.testing.assert_allclose(
                [record.minimum, record.maximum], [found.min(), found.max()], rtol=1e-6, err_msg=spec.name
            )
            check_statistics(found, record.mean, record.std)
            if info.framed:
                check_frames(store, spec.name, row, found, raw, rng)


def check_statistics(found: NDArray[Any], mean: float, std: float) -> None:
    exact = found.astype(np.longdouble).reshape(-1)
    size = float(np.abs(exact).max()) or 1.0
    assert abs(mean - float(exact.mean())) <= 1e-5 * size
    # Where squares vanish in float32, so does the deviation.
    assert abs(std - float(exact.std())) <= 1e-3 * size or size < 1e-17


def check_frames(
    store: FeatureStore, name: str, row: int, whole: NDArray[Any], raw: NDArray[Any], rng: np.random.Generator
) -> None:
    frames = rng.integers(0, len(whole), rng.integers(0, 8)).tolist()
    for verified in (None, True, False):
        found = store.read(name, row, frames, verify=verified)
        np.testing.assert_array_equal(found, whole[frames], strict=True)
    out = np.empty((len(frames), *raw.shape[1:]), raw.dtype)
    store.read(name, row, frames, out=out)
    np.testing.assert_array_equal(out, raw[frames])
    for wrong in (len(whole), -1):
        with pytest.raises(MissingClipError, match="bank frames 0"):
            store.read(name, row, [*frames, wrong])


def run(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any"
        make(path, case)
        check_store(path, case)


SETTINGS = settings(
    max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


@SETTINGS
@given(cases())
@example(Case((2, 1), (Array("float32"),), 0, math.inf, False))
@example(Case((2, 1), (Array("bfloat16"),), 0, math.inf, False))
@example(Case((2, 1), (Array("int8-channel"),), 0, math.inf, False))
@example(Case((2, 1), (Array("int8-channel"),), 0, 1e-39, False))
@example(Case((1,), (Array("int64", (), ()),), 0, 1.0, True))
def test_any_store_is_read_as_it_was_written(case: Case) -> None:
    run(case)


@pytest.mark.parametrize(("shape", "dims"), [((), ()), ((2,), ("frame",))])
def test_int8_needs_channels(shape: tuple[int, ...], dims: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="needs an axis of channels"):
        make(tmp_path / "any", Case((2,), (Array("int8-channel", shape, dims),), 0, 1.0, False))


@pytest.mark.long
@pytest.mark.timeout(1800)
@settings(SETTINGS, max_examples=600)
@given(cases())
def test_any_of_many_stores_is_read_as_it_was_written(case: Case) -> None:
    run(case)
