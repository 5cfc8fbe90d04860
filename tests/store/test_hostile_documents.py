"""Documents that a stranger wrote, seals and digests in order: what is impossible is refused at once, and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import FeatureStore, FormatError
from store.manifest import RECORD
from tests.store.forge import adopt, assert_refused, edit, edit_array, replace_table, use
from tests.store.truth import make, tap, whole

pytestmark = pytest.mark.timeout(60)
TRAVERSALS = ["../../x", "..", ".", "/etc/passwd", "a/../b", "a/b", "a\\b", "a\0b", "a\nb", ".hidden", "", "x" * 5000]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pristine") / "known"
    whole(path, 2)
    return path


@pytest.fixture
def store(pristine: Path, tmp_path: Path) -> Path:
    """A closed store."""
    return shutil.copytree(pristine, tmp_path / "known")


@pytest.fixture(params=["closed", "open"])
def either(store: Path, request: pytest.FixtureRequest) -> Path:
    """A store that is closed or not."""
    for name in list(store.glob("manifest*")) if request.param == "open" else ():
        name.unlink()
    return store


def commit_of(store: Path, row: int = 0) -> Path:
    return next(store.glob(f"commits/{row:06d}-*"))


def test_a_forged_store_is_otherwise_in_order(store: Path) -> None:
    adopt(store)
    use(store)
    for name in store.glob("manifest*"):
        name.unlink()
    adopt(store)
    use(store)


@pytest.mark.parametrize("name", TRAVERSALS)
def test_names_of_arrays_in_a_commit(store: Path, name: str) -> None:
    (store / "manifest.json").unlink()

    def change(commit: dict[str, Any]) -> None:
        commit["arrays"][name] = commit["arrays"]["half"]
        commit["metadata"][name] = commit["metadata"]["half"]

    edit(commit_of(store), change)
    assert_refused(store, "not a commit")


@pytest.mark.parametrize("name", TRAVERSALS)
def test_names_of_arrays_in_the_manifest_and_the_consolidated_metadata(store: Path, name: str) -> None:
    group = store / "features.zarr" / "zarr.json"
    document = json.loads(group.read_bytes())
    metadata = document["consolidated_metadata"]["metadata"]
    metadata[name] = metadata.pop("half")
    group.write_text(json.dumps(document))

    def change(manifest: dict[str, Any]) -> None:
        manifest["arrays"][name] = manifest["arrays"].pop("half")

    edit(store / "manifest.json", change)
    from store.digest import digest_file

    edit(store / "manifest.json", lambda manifest: manifest.update(group=digest_file(group)))
    assert_refused(store, "not a manifest")


@pytest.mark.parametrize("name", TRAVERSALS)
def test_names_of_files_in_the_recipe(store: Path, name: str) -> None:
    edit(store / "recipe.json", lambda head: head["files"].update({name: "0" * 32}))
    if name == "a/b":  # a file in a folder, which nothing asks for
        use(store)
    else:
        assert_refused(store, "not a name that a store may hold")


@pytest.mark.parametrize("name", [*TRAVERSALS, "manifest-" + "0" * 32 + ".table\n", "recipe.json"])
def test_the_name_of_the_table(store: Path, name: str) -> None:
    edit(store / "manifest.json", lambda manifest: manifest["table"].update(file=name))
    assert_refused(store, "not a manifest")


@pytest.mark.parametrize("name", [*TRAVERSALS, "1e5-0123456789ab.json", "-00001-0123456789ab.json"])
def test_names_of_commits_in_the_manifest(store: Path, name: str) -> None:
    edit(store / "manifest.json", lambda manifest: manifest["commits"].append(name))
    assert_refused(store, "not a manifest")


@pytest.mark.parametrize("field", ["id", "scene", "split"])
@pytest.mark.parametrize("name", [*TRAVERSALS, "x" * 201])
def test_names_of_clips(store: Path, field: str, name: str) -> None:
    edit(store / "clips.json", lambda table: table["clips"][0].update({field: name}))
    adopt(store)
    assert_refused(store, "clips.json: cannot be read as a clip table")


def test_a_name_that_no_array_may_have_is_not_made(tmp_path: Path) -> None:
    for name in TRAVERSALS:
        with pytest.raises(FormatError):
            make(tmp_path / "known", 2, [tap(name, "float16", 0)])
    assert not list(tmp_path.glob("x*"))


SHAPES: list[Any] = [
    [2**60], [0], [-1], [True], [1.0], ["4"], [None], [], None, "2", {}, [2] * 9, [10**400], [2, [2]], [2**39] * 5,
]  # fmt: skip


@pytest.mark.parametrize("place", ["shape", "shard", "chunk"])
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
@pytest.mark.parametrize("key", ["data_type", "logical_dtype"])
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
@pytest.mark.parametrize("array", ["half", "label"])
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
    from store.digest import digest_file

    edit(store / "manifest.json", lambda manifest: manifest.update(group=digest_file(group)))
    assert_refused(store, r"codecs bytes, numcodecs\.pickle; accepted are")


@pytest.mark.parametrize("content", [[], 1, "x", {"metadata": []}, {"metadata": {"half": []}}, {"metadata": 1}])
def test_consolidated_metadata_of_a_wrong_type(store: Path, content: Any) -> None:
    group = store / "features.zarr" / "zarr.json"
    group.write_text(json.dumps(json.loads(group.read_bytes()) | {"consolidated_metadata": content}))
    from store.digest import digest_file

    edit(store / "manifest.json", lambda manifest: manifest.update(group=digest_file(group)))
    if content == []:  # as good as none: arrays are read one by one
        use(store)
    else:
        assert_refused(store)


@pytest.mark.parametrize("row", [2, -1, 2**40, 2**70, True, "x", None, 0.5, [0]])
def test_commits_of_rows_that_do_not_exist(store: Path, row: Any) -> None:
    (store / "manifest.json").unlink()
    commit = commit_of(store)
    edit(commit, lambda document: document.update(row=row))
    if isinstance(row, int) and 0 <= row < 10**12:
        commit.rename(commit.with_name(f"{int(row):06d}-0123456789ab.json"))
    assert_refused(store)


@pytest.mark.parametrize("change", [{"clip": "clip1"}, {"n_frames": 3}, {"n_frames": -1}, {"metadata": {}}])
def test_commits_of_another_clip(store: Path, change: dict[str, Any]) -> None:
    (store / "manifest.json").unlink()
    edit(commit_of(store), lambda document: document.update(change))
    assert_refused(store, "a commit of row 0")


@pytest.mark.parametrize("size", [1, 10**9, 2**62, 2**63, 2**64, 10**400, 0, -1, 1.5, "x", None, [], {}])
def test_sizes_of_shards_that_are_not_theirs(store: Path, size: Any) -> None:
    (store / "manifest.json").unlink()
    edit(commit_of(store), lambda document: document["arrays"]["half"].update(size=size))
    assert_refused(store)


@pytest.mark.parametrize("size", [0, 1, 56, -56, 2**62, 2**70, True, None])
def test_tables_of_another_size(store: Path, size: Any) -> None:
    edit(store / "manifest.json", lambda manifest: manifest["table"].update(size=size))
    assert_refused(store, "manifest")


@pytest.mark.parametrize("surplus", [-1, 1, 56, 10_000])
def test_tables_that_are_no_whole_tables(store: Path, surplus: int) -> None:
    def change(manifest: dict[str, Any]) -> None:
        content = (store / manifest["table"]["file"]).read_bytes()
        replace_table(store, manifest, content[:surplus] if surplus < 0 else content + bytes(surplus))

    edit(store / "manifest.json", change)
    assert_refused(store, "no whole table")


@pytest.mark.parametrize("field", RECORD.names or ())
@pytest.mark.parametrize("fill", [b"\xff", b"\x7f", b"\x00\x01"])
def test_entries_of_the_table_that_are_impossible(store: Path, field: str, fill: bytes) -> None:
    def change(manifest: dict[str, Any]) -> None:
        table = np.frombuffer((store / manifest["table"]["file"]).read_bytes(), RECORD).copy()
        width = RECORD[field].itemsize
        table[field] = np.frombuffer((fill * width)[:width], RECORD[field])
        replace_table(store, manifest, table.tobytes())

    edit(store / "manifest.json", change)
    if field == "size" or (fill == b"\xff" and field != "xxh3_128"):  # a NaN
        assert_refused(store)
    else:
        use(store)


@pytest.mark.parametrize("bank", [[0] * 5, [0] * 1000, [], None, [0.5], ["x"], {}, [[0]]])
def test_banks_that_no_array_has_room_for(store: Path, bank: Any) -> None:
    edit(store / "clips.json", lambda table: table["clips"][0].update(bank=bank))
    (store / "manifest.json").unlink()
    adopt(store)
    assert_refused(store)


@pytest.mark.parametrize("change", [
    {"depth": None}, {"depth": "x"}, {"depth": [1]}, {"depth": True}, {"noise": "x"}, {"noise": [1]},
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


def test_scales_of_one_number_are_not_spread_over_all_channels(store: Path) -> None:
    from store.arrays import ArraySpec
    from store.creation import create_arrays
    from store.writer import StoreWriter
    from tests.store.truth import table, values

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
    from store import MissingClipError

    make(tmp_path / "known", 2, [])
    with pytest.raises(MissingClipError, match="no committed clip"):
        FeatureStore.open(tmp_path / "known").rows()
