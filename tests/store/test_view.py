"""A store as xarray: the same values as the direct reader, only those that are asked for, with names and units."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import store
from extract.preprocess import Preprocessing
from probes.sampling import GridMap
from store import (
    ArraySpec,
    Coordinate,
    FeatureStore,
    FormatError,
    MissingClipError,
    Recipe,
    RecipeMismatchError,
    StoreWriter,
    UnknownArrayError,
    create,
    finalize,
)
from tests.store.conftest import SPECS, Example, dataset_recipe
from tests.store.many_clips import FRAMES, GRID, TAPS, write_many_clips
from tests.store.servers import Served, web_server  # noqa: F401

PROJECT = Path(__file__).parents[2]
Reads = list[tuple[str, int, tuple[int, ...]]]


@pytest.fixture
def many(store_root: Path) -> FeatureStore:
    """Eleven clips of 5, 2 and 4 frames; taps of every storage type."""
    return write_many_clips(store_root / "many" / "clips", lengths=(5, 2, 4))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Everything that is read: array, row, frames."""
    seen: Reads = []
    original = FeatureStore.read

    def read(
        self: FeatureStore, array: str, row: int, frames: Sequence[int] | None = None, **options: Any
    ) -> NDArray[Any]:
        info = self.info(array)
        held = range(len(self.clips[row].bank)) if info.framed else ()
        seen.append((array, row, tuple(held if frames is None else frames)))
        return original(self, array, row, frames, **options)

    monkeypatch.setattr(FeatureStore, "read", read)
    return seen


def padded(features: FeatureStore, array: str) -> NDArray[Any]:
    """All committed clips, read one by one; NaN or 0 where a clip has no such frame."""
    clips = [features.read(array, row) for row in features.rows(None, [array])]
    info = features.info(array)
    if not info.framed:
        return np.stack(clips)
    values = np.full((len(clips), *info.shape[1:]), np.nan if clips[0].dtype.kind == "f" else 0, clips[0].dtype)
    for place, clip in zip(values, clips, strict=True):
        place[: len(clip)] = clip
    return values


@pytest.mark.parametrize("tap", TAPS)
def test_values_are_those_of_the_direct_reader(many: FeatureStore, tap: str) -> None:
    values = store.open("store/many")[f"{tap}/features"]
    assert values.dims == ("clip", "frame", "y", "x", "channel")
    assert values.dtype == (np.float16 if tap == "half" else np.float32)
    np.testing.assert_array_equal(values.values, padded(many, tap))
    np.testing.assert_array_equal(store.open_tap("store/many", tap).features.values, padded(many, tap))


def test_short_clips_end_in_nan_or_zero(filled: Example) -> None:
    tree = store.open(filled.path)
    early, label = tree["early/features"], tree["label/label"]
    assert np.isfinite(early.sel(clip="clip1").isel(frame=slice(2)).values).all()
    assert np.isnan(early.sel(clip="clip1").isel(frame=slice(2, None)).values).all()
    assert np.isnan(early.isel(clip=1, frame=3, y=0, x=0, channel=0).values)
    assert not label.sel(clip="clip1").isel(frame=slice(2, None)).values.any()
    np.testing.assert_array_equal(label[1, :2].values, filled.values[1]["label"])
    assert tree.bank_frame.values.tolist() == [[0, 1, 5, 9], [0, 2, -1, -1], [0, 1, 5, 9]]


def test_only_frames_that_are_indexed_are_read(filled: Example, reads: Reads) -> None:
    tree = store.open(filled.path)
    repr(tree)
    tree._repr_html_()
    early = tree["early/features"]
    chosen = early[early.split == "test"].isel(frame=[3, 0], channel=slice(1, 3))
    assert reads == []
    np.testing.assert_array_equal(chosen.values[0], FeatureStore.open(filled.path).read("early", 2)[[3, 0], ..., 1:3])
    assert reads[0] == ("early", 2, (3, 0))
    reads.clear()
    early.isel(clip=xr.DataArray([0, 2, 0], dims="p"), frame=xr.DataArray([1, 3, 1], dims="p")).load()
    assert reads == [("early", 0, (1,)), ("early", 2, (3,))]
    reads.clear()
    assert early.isel(clip=1, frame=[2, 3]).isnull().all()
    assert reads == [], "frames that a clip does not have need no reading"


def test_whole_frames_are_read_into_the_result(filled: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    outs = []
    original = FeatureStore.read

    def read(self: FeatureStore, *arguments: Any, out: NDArray[Any] | None = None, **options: Any) -> NDArray[Any]:
        outs.append(out)
        return original(self, *arguments, out=out, **options)

    monkeypatch.setattr(FeatureStore, "read", read)
    values = store.open_tap(filled.path, "wide").features[1:].values
    assert len(outs) == 2
    assert all(out is not None and np.shares_memory(out, values) for out in outs)


def an_index(size: int) -> st.SearchStrategy[Any]:
    inside = st.integers(-size, size - 1)
    return st.one_of(inside, st.slices(size), st.lists(inside, max_size=4).map(lambda each: np.array(each, dtype=int)))


SHAPE = (11, FRAMES, *GRID)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(key=st.tuples(*(an_index(size) for size in SHAPE)), tap=st.sampled_from(sorted(TAPS)))
def test_any_index_of_every_axis(many: FeatureStore, key: tuple[Any, ...], tap: str) -> None:
    values = store.open_tap(many.path, tap).features[key].values
    expected = padded(many, tap)
    for axis in reversed(range(len(key))):
        expected = expected[(slice(None),) * axis + (key[axis],)]
    np.testing.assert_array_equal(values, expected)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    data=st.data(),
    axes=st.sets(st.integers(0, 4), min_size=1),
    shape=st.sampled_from([(3,), (2, 2), (1,), (0,)]),
    tap=st.sampled_from(sorted(TAPS)),
)
def test_any_points(many: FeatureStore, data: st.DataObject, axes: set[int], shape: tuple[int, ...], tap: str) -> None:
    lazy = store.open_tap(many.path, tap).features
    dims = ("p", "q")[: len(shape)]
    key: dict[str, Any] = {}
    for axis, (dim, size) in enumerate(zip(lazy.dims, SHAPE, strict=True)):
        if axis in axes:
            count = int(np.prod(shape))
            points = data.draw(st.lists(st.integers(-size, size - 1), min_size=count, max_size=count))
            key[str(dim)] = xr.DataArray(np.array(points, dtype=int).reshape(shape), dims=dims)
        else:
            key[str(dim)] = data.draw(st.slices(size))
    loaded = xr.DataArray(padded(many, tap), dims=lazy.dims)
    np.testing.assert_array_equal(lazy.isel(key).values, loaded.isel(key).values)


def test_an_index_of_an_index(many: FeatureStore) -> None:
    lazy = store.open_tap(many.path, "brain").features
    loaded = xr.DataArray(padded(many, "brain"), dims=lazy.dims)
    points = xr.DataArray([1, 0, 1], dims="p")
    for each in (lazy, loaded):
        each.attrs = {}
    left, right = (each[::2, [0, 3]].isel(clip=points, frame=points)[:, 1].transpose() for each in (lazy, loaded))
    np.testing.assert_array_equal(left.values, right.values)


@pytest.mark.parametrize("array", ["early", "label", "slot"])
def test_dask_has_the_same_values(filled: Example, array: str) -> None:
    name = "features" if array == "early" else array
    plain, chunked = (store.open_tap(filled.path, array, chunks=chunks)[name] for chunks in (None, {}))
    assert chunked.chunks is not None
    assert [len(sizes) for sizes in chunked.chunks] == [3] + [1] * (plain.ndim - 1), "one chunk per clip"
    np.testing.assert_array_equal(chunked.values, plain.values)
    np.testing.assert_array_equal(chunked[1].values, plain[1].values)


def test_chunks_are_read_once_and_cut_as_asked(filled: Example, reads: Reads) -> None:
    tree = store.open(filled.path, chunks={"clip": 2, "channel": 3})
    assert tree["early/features"].chunks == ((2, 1), (4,), (2,), (3,), (3, 2))
    assert tree["label/label"].chunks == ((2, 1), (4,), (6,), (6,))
    assert tree["early"].scene.chunks is None
    assert reads == []
    tree["early/features"][:, :, :, :, :3].mean().compute()
    assert sorted(reads) == [("early", 0, (0, 1, 2, 3)), ("early", 1, (0, 1)), ("early", 2, (0, 1, 2, 3))]
    with pytest.raises(ValueError, match="unknown dimension 'frames'"):
        store.open(filled.path, chunks={"frames": 1})


def test_chunks_of_equal_values_have_equal_names(filled: Example) -> None:
    def name(**options: Any) -> str:
        return str(store.open_tap(filled.path, "early", **options).features.data.name)

    assert name(chunks={}) == name(chunks={})
    assert len({name(chunks={}), name(chunks={"clip": 3}), name(chunks={}, split="train")}) == 3


def test_it_may_be_pickled_and_copied(filled: Example) -> None:
    tree = store.open(filled.path, chunks={})
    for other in (pickle.loads(pickle.dumps(tree)), copy.deepcopy(tree), tree.copy(deep=True)):
        xr.testing.assert_identical(other.load(), tree.copy().load())
    lazy = store.open_tap(filled.path, "wide")
    assert len(pickle.dumps(lazy)) < 10_000, "a reference is sent, no values"


def test_another_process_opens_the_store_itself(filled: Example) -> None:
    tap = store.open_tap(filled.path, "late@t5", chunks={"clip": 2})
    Path("tap.pickle").write_bytes(pickle.dumps(tap.features.sum(skipna=True)))
    code = "import pickle, sys; print(float(pickle.load(open(sys.argv[1], 'rb')).compute(scheduler='synchronous')))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path("tap.pickle").absolute())],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(float(tap.features.sum()))


def test_another_store_in_its_place_is_noticed(filled: Example) -> None:
    pickled = pickle.dumps(store.open_tap(filled.path, "early"))
    filled.path.rename(filled.path.with_name("old"))
    filled.create(recipe=filled.recipe.model_copy(update={"preprocessing": {"other": 1}}))
    filled.write([0, 1, 2])
    with pytest.raises(RecipeMismatchError, match="Open it again"):
        pickle.loads(pickled).load()


def test_a_store_on_a_web_server(filled: Example, web: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEATURE_CACHE", str(tmp_path / "cache"))
    finalize(FeatureStore.open(filled.path))
    shutil.copytree(filled.path, web.path / "toys")
    tree = store.open(f"{web.url}/toys", chunks={})
    assert tree.attrs["source"] == f"{web.url}/toys"
    assert tree.bank_frame.values.tolist() == [[0, 1, 5, 9], [0, 2, -1, -1], [0, 1, 5, 9]]
    committed = FeatureStore.open(filled.path).committed.values()
    shards = {record.xxh3_128 for arrays in committed for record in arrays.values()}

    def fetched() -> set[str]:
        return shards.intersection(path.name for path in (tmp_path / "cache").rglob("*"))

    assert not fetched(), "no shard is fetched before a value is asked for"
    here, away = store.open(filled.path), pickle.loads(pickle.dumps(tree))
    for name in ("early/features", "late@t5/features", "label/label", "slot"):
        np.testing.assert_array_equal(away[name].values, here[name].values)
    assert 0 < len(fetched()) < len(shards), "`wide` was not asked for"


def test_threads_may_share_it(many: FeatureStore) -> None:
    lazy = store.open_tap(many.path, "byte").features
    expected = padded(many, "byte")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda clip: lazy[clip % 11].values, range(88)))
    for clip, values in enumerate(found):
        np.testing.assert_array_equal(values, expected[clip % 11])


def test_writing_into_it_changes_memory_only(filled: Example) -> None:
    tap = store.open_tap(filled.path, "wide")
    tap.features[0] = 7
    assert (tap.features[0] == 7).all()
    np.testing.assert_array_equal(store.open_tap(filled.path, "wide").features[0].values, filled.values[0]["wide"])


def test_only_clips_committed_for_all_that_is_opened(example: Example) -> None:
    example.create()
    with StoreWriter(example.path) as writer:
        writer.put(0, example.values[0])
        writer.put(2, {"early": example.values[2]["early"]})
    assert store.open(example.path).clip.values.tolist() == ["clip0"]
    both = store.open(example.path, taps=["early"])
    assert list(both.children) == ["early"]
    assert both.clip.values.tolist() == ["clip0", "clip2"]
    assert both.row.values.tolist() == [0, 2]
    assert both["early"].bank_frame.values.tolist() == [[0, 1, 5, 9]] * 2
    np.testing.assert_array_equal(
        both["early/features"].sel(clip="clip2").values, example.values[2]["early"].astype(np.float16)
    )
    assert store.open_tap(example.path, "early", split="test").split.values.tolist() == ["test"]
    with pytest.raises(MissingClipError, match="'test' with late@t5"):
        store.open_tap(example.path, "late@t5", split="test")


def test_wrong_names_are_answered(filled: Example) -> None:
    with pytest.raises(UnknownArrayError, match="Did you mean late@t5"):
        store.open(filled.path, taps=["late@t50"])
    with pytest.raises(TypeError, match=r"\['early'\]"):
        store.open(filled.path, taps="early")
    with pytest.raises(ValueError, match="names no array"):
        store.open(filled.path, taps=[])


def a_tap(name: str, grid: tuple[int, int], depth: int, **attrs: Any) -> ArraySpec:
    said = {"site": name.split("@")[0], "depth": depth, "noise": None, "native_grid": list(grid)} | attrs
    return ArraySpec(name, (4, *grid, 3), "float32", ("frame", "y", "x", "channel"), said)


def test_the_tree_says_what_everything_is(example: Example) -> None:
    crop = Preprocessing(height=224, width=224, fit="crop").grid_to_image(240, 320)
    noise = {"name": "t502", "sigma": 2.5, "log_snr": -1.8, "timestep": 502.0}
    specs = [
        a_tap("blocks.10@t502", (2, 3), 10, noise=noise, grid_to_image=[list(row) for row in crop]),
        a_tap("blocks.2", (4, 4), 2),
    ]
    span = np.arange(24, dtype=np.int32).reshape(3, 4, 2)
    coordinates = {"span": Coordinate(span, ("clip", "frame", "bound"), "frames that a row summarises")}
    create(
        example.path,
        example.recipe,
        example.clips,
        specs,
        attrs={"model": "toy", "kind": "encoder"},
        coordinates=coordinates,
        provenance={},
    )
    with StoreWriter(example.path) as writer:
        for row in (1, 2):
            frames = len(example.clips[row].bank)
            writer.put(row, {spec.name: np.ones((frames, *spec.shape[1:]), np.float32) for spec in specs})
    tree = store.open("store/toy")
    assert {name: tree.attrs[name] for name in ("store", "model", "kind", "dataset", "fingerprint", "source")} == {
        "store": "toy/toys",
        "model": "toy",
        "kind": "encoder",
        "dataset": "toys",
        "fingerprint": example.recipe.fingerprint,
        "source": str(example.path),
    }
    assert list(tree.children) == ["blocks.2", "blocks.10@t502"], "in the order of execution"
    node = tree["blocks.10@t502"]
    assert {name: node.attrs[name] for name in ("site", "depth", "noise_level", "sigma", "log_snr", "timestep")} == {
        "site": "blocks.10",
        "depth": 10,
        "noise_level": "t502",
        "sigma": 2.5,
        "log_snr": -1.8,
        "timestep": 502.0,
    }
    assert node.features.attrs["long_name"] == "features of blocks.10 at noise level t502"
    assert tree["blocks.2"].features.attrs["long_name"] == "features of blocks.2"
    assert tree["blocks.2"].sizes == {"clip": 2, "frame": 4, "y": 4, "x": 4, "channel": 3, "bound": 2}
    np.testing.assert_array_equal(node.span.values, span[1:])
    assert node.span.attrs["long_name"] == "frames that a row summarises"
    for name in ("features", "y", "x", "bank_frame", "span"):
        assert node[name].attrs["units"] == "1", name
    assert all(node[name].attrs["long_name"] for name in (*node.coords, "features"))
    # The centres of the cells, by the probes' own map from the image to the grid.
    (a, _, c), (_, e, f) = crop
    centres = np.stack(np.meshgrid(node.x.values, node.y.values), axis=-1)
    in_grid = GridMap(a, c, e, f).to_grid(torch.from_numpy(centres)).numpy()
    np.testing.assert_allclose(in_grid[0, :, 0], (np.arange(3) + 0.5) / 3)
    np.testing.assert_allclose(in_grid[:, 0, 1], (np.arange(2) + 0.5) / 2)
    assert node.x.values[1] == pytest.approx(0.5)
    np.testing.assert_allclose(tree["blocks.2"].y.values, [0.125, 0.375, 0.625, 0.875])


def test_targets_are_variables_of_the_root(example: Example) -> None:
    labels: dict[str, tuple[tuple[str, ...], NDArray[Any], dict[str, Any]]] = {
        "rgb": (("frame", "y", "x", "rgb"), np.ones((4, 6, 8, 3), np.uint8), {}),
        "depth": (
            ("frame", "y", "x"),
            np.ones((4, 6, 8), np.float32),
            {"description": "planar z, 0 = invalid", "units": "m"},
        ),
        "cam_to_world": (("frame", "row", "column"), np.ones((4, 4, 4), np.float64), {}),
        "class_pixels": (("frame", "class"), np.ones((4, 2), np.int32), {}),
        "small": (("frame", "slot"), np.ones((4, 2), bool), {}),
        "instance_class": (("slot",), np.ones(5, np.uint16), {}),
    }
    specs = [
        ArraySpec(name, values.shape, str(values.dtype), dims, attrs, compressed=True)
        for name, (dims, values, attrs) in labels.items()
    ]
    classes = [{"name": "chair", "kind": "thing"}, {"name": "wall", "kind": "stuff"}]
    recipe = Recipe(kind="targets", dataset=dataset_recipe("toys", example.clips))
    create(example.path, recipe, example.clips, specs, attrs={"classes": classes}, coordinates={}, provenance={})
    with StoreWriter(example.path) as writer:
        for clip in example.clips:
            framed = {name: dims[0] == "frame" for name, (dims, _, _) in labels.items()}
            held = len(clip.bank)
            writer.put(clip.row, {name: each[1][:held] if framed[name] else each[1] for name, each in labels.items()})
    tree = store.open(example.path)
    assert set(tree.data_vars) == {"rgb", "depth", "cam_to_world", "class_pixels"}
    assert set(tree.children) == {"small", "instance_class"}, "two sizes of `slot` cannot stand in one node"
    assert tree.rgb.dims == ("clip", "frame", "y", "x", "rgb_axis")
    assert tree.cam_to_world.dims == ("clip", "frame", "row_axis", "column")
    assert tree.row.dims == ("clip",)
    assert tree["depth"].attrs["units"] == "m"
    assert tree["depth"].attrs["long_name"] == "planar z, 0 = invalid"
    assert tree.class_pixels.sel({"class": "wall"}).values.tolist() == [[1] * 4, [1, 1, 0, 0], [1] * 4]
    assert tree.class_kind.values.tolist() == ["thing", "stuff"]
    np.testing.assert_allclose(tree.x.values, (np.arange(8) + 0.5) / 8)
    assert not tree["small/small"].sel(clip="clip1")[2:].any()
    assert np.isnan(tree["depth"][1, 2:]).all()
    assert "classes" not in tree.attrs


def test_taps_and_labels_of_one_store(filled: Example) -> None:
    tree = store.open(filled.path)
    assert list(tree.children) == ["early", "late@t5", "wide", "label"]
    assert list(tree.data_vars) == ["slot"]
    assert list(store.open(filled.path, taps=["label", "slot"]).data_vars) == ["label", "slot"]
    np.testing.assert_allclose(tree["label"].y.values, (np.arange(6) + 0.5) / 6)


def test_clips_are_selected_in_all_nodes_at_once(filled: Example) -> None:
    tree = store.open(filled.path, taps=["early", "wide"])
    one = tree.sel(clip="clip2").isel(frame=0)
    np.testing.assert_array_equal(one["wide/features"].values, filled.values[2]["wide"][0])
    assert one["early/features"].shape == (2, 3, 5)
    trained = tree.isel(clip=np.flatnonzero(tree.split == "train"))
    assert trained["early"].scene.values.tolist() == ["scene0", "scene1"]


@pytest.mark.filterwarnings("ignore:The data type .* does not have a Zarr V3 specification")
def test_other_formats_can_hold_it(filled: Example) -> None:
    tap = store.open_tap(filled.path, "late@t5", chunks={})
    tap.to_zarr("copy.zarr", zarr_format=3, consolidated=False)
    xr.testing.assert_equal(xr.open_zarr("copy.zarr", consolidated=False), tap)
    tap.to_netcdf("copy.nc", engine="scipy")
    with xr.open_dataset("copy.nc", engine="scipy") as copied:
        np.testing.assert_array_equal(copied.features.values, tap.features.values)
        assert copied.attrs["fingerprint"] == filled.recipe.fingerprint


@pytest.mark.parametrize("finalized", [False, True])
def test_coordinates_come_with_or_without_a_manifest(filled: Example, finalized: bool) -> None:
    if finalized:
        finalize(FeatureStore.open(filled.path))
    assert store.open_tap(filled.path, "early").bank_frame.values[0].tolist() == [0, 1, 5, 9]


def with_coordinate(example: Example, values: NDArray[Any]) -> Path:
    create(
        example.path,
        example.recipe,
        example.clips,
        SPECS,
        attrs={},
        coordinates={"extra": Coordinate(values, ("clip", "frame"), "something")},
        provenance={},
    )
    example.write([0])
    return example.path / "features.zarr" / "extra"


def test_a_coordinate_of_zeros_has_no_file(example: Example) -> None:
    place = with_coordinate(example, np.zeros((3, 4), np.float64))
    assert not (place / "c").exists(), "Zarr leaves out a chunk that is all fill value"
    extra = store.open_tap(example.path, "early").extra
    assert extra.values.tolist() == [[0, 0, 0, 0]]
    assert extra.dtype == np.float64


@pytest.mark.parametrize("file", ["zarr.json", "c/0/0"])
def test_a_damaged_coordinate_is_noticed(example: Example, file: str) -> None:
    path = with_coordinate(example, np.ones((3, 4))) / file
    content = bytearray(path.read_bytes())
    content[content.rindex(b"something") if b"something" in content else -1] ^= 1
    path.write_bytes(content)
    with pytest.raises(FormatError, match=f"{file}: is not the one that recipe.json names"):
        store.open_tap(example.path, "early")
    path.unlink()
    with pytest.raises(FormatError, match=f"{file}: missing"):
        store.open_tap(example.path, "early")


@pytest.mark.parametrize("matrix", [[[1, 0.5, 0], [0, 1, 0]], [[1, 0, 0]], "none", [["a", 0, 0], [0, 1, 0]]])
def test_a_grid_that_is_turned_or_senseless_has_no_axes(example: Example, matrix: Any) -> None:
    example.create([a_tap("turned", (2, 3), 0, grid_to_image=matrix)])
    with StoreWriter(example.path) as writer:
        writer.put(0, {"turned": np.ones((4, 2, 3, 3), np.float32)})
    with pytest.raises(FormatError, match="turned: its attribute grid_to_image"):
        store.open(example.path)


def test_a_star_import_does_not_hide_the_built_in_open() -> None:
    scope: dict[str, Any] = {}
    exec("from store import *", scope)
    assert scope["open_tap"] is store.open_tap
    assert "open" not in scope


def test_importing_store_imports_neither_xarray_nor_zarr() -> None:
    code = (
        "import sys, store; store.FeatureStore; "
        "assert not {'xarray', 'zarr', 'dask', 'torch'} & set(sys.modules); "
        "store.open; assert 'xarray' in sys.modules; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 0, done.stderr
