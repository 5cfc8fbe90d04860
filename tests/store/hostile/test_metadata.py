"""Zarr metadata that a stranger wrote, with all digests in order: what is impossible is refused at once, and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store.digest import digest_file
from tests.store.hostile.forge import assert_refused, edit, edit_array, use

LONG = pytest.mark.long
SHAPES: list[Any] = [
    [2**60], [0], [-1], [True], [1.0], ["4"], [None], [], None, "2", {}, [2] * 9, [10**400], [2, [2]], [2**39] * 5,
]  # fmt: skip


@pytest.mark.parametrize("place", ["shape", pytest.param("shard", marks=LONG), pytest.param("chunk", marks=LONG)])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: repr(shape)[:20])
def test_impossible_shapes(either: Path, shape: Any, place: str) -> None:
    def change(metadata: dict[str, Any]) -> None:
        if place == "shape":
            metadata["shape"] = shape
        elif place == "shard":
            metadata["chunk_grid"]["configuration"]["chunk_shape"] = shape
        else:
            metadata["codecs"][0]["configuration"]["chunk_shape"] = shape

    edit_array(either, "half", change)
    assert_refused(either, "not the metadata of an array")


def reshape(shape: list[int], chunk: list[int]) -> Callable[[dict[str, Any]], None]:
    def change(metadata: dict[str, Any]) -> None:
        metadata["shape"] = [2, *shape]
        metadata["chunk_grid"]["configuration"]["chunk_shape"] = [1, *shape]
        metadata["codecs"][0]["configuration"]["chunk_shape"] = [1, *chunk]

    return change


@pytest.mark.parametrize(
    ("shape", "chunk", "match"),
    [
        ([2**60, 2, 3, 5], [1, 2, 3, 5], "a size is"),
        ([2**39, 2, 3, 5], [1, 2, 3, 5], "larger than 64 GiB"),
        ([2**30, 1, 1, 1], [1, 1, 1, 1], "too many chunks"),
        ([4, 2**17, 1, 1], [1, 1, 1, 1], "too many chunks"),
        ([4, 2, 3, 5], [3, 2, 3, 5], "chunks do not fill"),
        ([4, 2, 3, 5], [1, 2, 2, 5], "chunks do not fill"),
        ([4, 2, 3, 5], [8, 2, 3, 5], "chunks do not fill"),
        ([4, 2, 3, 5], [1, 2, 3], "an inner chunk is not part of one clip"),
        ([3, 2, 3, 5], [1, 2, 3, 5], "fewer frames than the longest bank"),
        ([5, 2, 3, 5], [1, 2, 3, 5], "index is damaged"),
        ([4, 2, 3, 6], [1, 2, 3, 6], "bytes in the shard's index"),
        ([4, 4000, 4000, 500], [1, 4000, 4000, 500], "bytes in the shard's index"),
    ],
)
def test_shapes_that_are_not_those_of_the_shards(either: Path, shape: list[int], chunk: list[int], match: str) -> None:
    edit_array(either, "half", reshape(shape, chunk))
    assert_refused(either, match)


def test_arrays_of_other_lengths_than_the_clip_table(store: Path) -> None:
    edit_array(store, "half", lambda metadata: metadata["shape"].__setitem__(0, 3))
    assert_refused(store, "arrays half do not have 2 clips")


@pytest.mark.parametrize("dtype", [
    "object", "|O", "string", "bytes", "complex64", "r16", "bool8", "float16le", "", None, 1, True, [], ["float16"],
    {"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}},
    {"name": "fixed_length_utf32", "configuration": {"length_bytes": 2**40}},
    {"name": "structured", "configuration": {"fields": [["a", "float16"]]}}, {"name": "float16"}, "int8", "uint16",
])  # fmt: skip
@pytest.mark.parametrize("key", ["data_type", pytest.param("logical_dtype", marks=LONG)])
def test_types_that_no_store_has(either: Path, dtype: Any, key: str) -> None:
    def change(metadata: dict[str, Any]) -> None:
        if key == "data_type":
            metadata["data_type"] = dtype
        else:
            metadata["attributes"]["logical_dtype"] = dtype

    edit_array(either, "half", change)
    if dtype == "uint16" and key == "data_type":  # other values, but nothing that could not be
        use(either)
    else:
        assert_refused(either, "not the metadata of an array")


@pytest.mark.parametrize("codecs", [
    ["pickle"], ["bytes", "numcodecs.pickle"], ["vlen-utf8"], ["bytes", "gzip"], ["numcodecs.blosc"], [],
    ["bytes", "zstd", "zstd", "crc32c"], ["bytes", "blosc", "zstd"], ["sharding_indexed"], [["bytes"]], [None], "bytes",
    {"name": "bytes"}, None, 1, ["bytes", "crc32c", "crc32c"], ["crc32c", "bytes"], ["transpose", "bytes", "crc32c"],
])  # fmt: skip
@pytest.mark.parametrize("array", ["half", pytest.param("label", marks=LONG)])
def test_codecs_that_no_store_has(either: Path, codecs: Any, array: str) -> None:
    named = [{"name": name, "configuration": {}} for name in codecs] if isinstance(codecs, list) else codecs

    def change(metadata: dict[str, Any]) -> None:
        metadata["codecs"][0]["configuration"]["codecs"] = named

    edit_array(either, array, change)
    assert_refused(either)


@pytest.mark.parametrize("key", ["index_codecs", "codecs", "chunk_shape", "index_location"])
@pytest.mark.parametrize("value", [None, 1, "start", [], {}, [[]], [{"name": "bytes"}], [{"name": "bytes"}] * 2])
def test_shards_laid_out_otherwise(either: Path, key: str, value: Any) -> None:
    edit_array(either, "label", lambda metadata: metadata["codecs"][0]["configuration"].update({key: value}))
    assert_refused(either)


@pytest.mark.parametrize("order", ["big", "middle", 1, None, []])
@pytest.mark.parametrize("place", ["codecs", "index_codecs"])
def test_bytes_in_another_order(either: Path, order: Any, place: str) -> None:
    def change(metadata: dict[str, Any]) -> None:
        metadata["codecs"][0]["configuration"][place][0]["configuration"] = {"endian": order}

    edit_array(either, "half", change)
    assert_refused(either, "not the metadata of an array")


def test_consolidated_metadata_that_are_not_those_of_the_array(store: Path) -> None:
    """The manifest vouches for the group's metadata, and whoever forged both decides what is read, but not beyond."""
    group = store / "features.zarr" / "zarr.json"
    document = json.loads(group.read_bytes())
    sharding = document["consolidated_metadata"]["metadata"]["half"]["codecs"][0]["configuration"]
    sharding["codecs"] = [{"name": "bytes"}, {"name": "numcodecs.pickle"}]
    group.write_text(json.dumps(document))
    edit(store / "manifest.json", lambda manifest: manifest.update(group=digest_file(group)))
    assert_refused(store, r"codecs bytes, numcodecs\.pickle; accepted are")


@pytest.mark.parametrize("content", [[], 1, "x", {"metadata": []}, {"metadata": {"half": []}}, {"metadata": 1}])
def test_consolidated_metadata_of_a_wrong_type(store: Path, content: Any) -> None:
    group = store / "features.zarr" / "zarr.json"
    group.write_text(json.dumps(json.loads(group.read_bytes()) | {"consolidated_metadata": content}))
    edit(store / "manifest.json", lambda manifest: manifest.update(group=digest_file(group)))
    if content == []:  # as good as none: arrays are read one by one
        use(store)
    else:
        assert_refused(store)
