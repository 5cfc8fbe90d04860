"""docs/format.md is true: its examples are a store, its numbers are those of the code, and its reader reads."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from store import FeatureStore, StoreWriter, finalize
from store.arrays import ArraySpec, create_arrays
from store.casting import absmax_scale, quantise, to_physical
from store.clips import clips_digest, common_bank
from store.commits import NAME_PATTERN
from store.digest import digest_bytes
from store.documents import seal, unseal
from store.dtypes import physical_dtype
from store.manifest import RECORD
from store.recipe import parse_recipe
from store.shard import crc32c, encode_shard
from store.upkeep.group import group_document
from tests.store.conftest import Example
from tests.store.many_clips import TAPS, write_many_clips

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```[a-z]+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = dict(_BLOCK.findall(PAGE))
COMMIT = next(name for name in BLOCKS if name.startswith("commits/"))
ARRAY = "blocks.1"
VALUES = np.array([[1, -2], [0.5, 3]], np.float16).reshape(2, 1, 1, 2)


def from_hex(name: str) -> bytes:
    """Bytes of a listing: pairs of digits, of which notes stand apart by three blanks."""
    return bytes.fromhex("".join(line.split("   ")[0] for line in BLOCKS[name].splitlines()))


def said(pattern: str) -> str:
    """What the text says in the only place where the pattern matches."""
    (found,) = re.findall(pattern, PAGE)
    return str(found)


@pytest.fixture
def printed(store_root: Path) -> Path:
    """The store that the page prints, finalized."""
    path = store_root / "printed" / "rooms"
    documents = {name: BLOCKS[name].encode() for name in ("recipe.json", "clips.json", "provenance.json", COMMIT)}
    documents["manifest.json"] = BLOCKS["manifest.json"].encode()
    documents[json.loads(BLOCKS["manifest.json"])["table"]["file"]] = from_hex("table")
    array = BLOCKS["zarr.json"].encode()
    documents[f"features.zarr/{ARRAY}/zarr.json"] = array
    documents[f"features.zarr/{ARRAY}/c.1.0.0.0.0"] = from_hex("shard")
    documents["features.zarr/zarr.json"] = group_document({"model": "toy"}, {ARRAY: array})
    for name, content in documents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def unmerged(path: Path) -> None:
    """The same store before it was finalized."""
    for file in path.glob("manifest*"):
        file.unlink()
    (path / "features.zarr" / "zarr.json").write_text(BLOCKS["group"])


@pytest.mark.parametrize("finalized", [True, False])
def test_the_examples_are_a_store(printed: Path, finalized: bool) -> None:
    if not finalized:
        unmerged(printed)
    store = FeatureStore.open(printed)
    assert (store.manifest is not None) == finalized
    assert store.fingerprint == said(r"and the fingerprint `([0-9a-f]{32})`")
    assert store.rows() == [1]
    np.testing.assert_array_equal(store.read(ARRAY, 1), VALUES)
    record = store.committed[1][ARRAY]
    assert record.xxh3_128 == digest_bytes(from_hex("shard"))
    assert (record.minimum, record.maximum, record.mean) == (VALUES.min(), VALUES.max(), VALUES.mean())
    assert record.std == pytest.approx(VALUES.astype(np.float64).std())


def test_every_file_of_creation_has_the_digest_that_the_recipe_says() -> None:
    files = json.loads(BLOCKS["recipe.json"])["files"]
    assert files == {
        "clips.json": digest_bytes(BLOCKS["clips.json"].encode()),
        "features.zarr/zarr.json": digest_bytes(BLOCKS["group"].encode()),
        "provenance.json": digest_bytes(BLOCKS["provenance.json"].encode()),
    }


def test_finalizing_the_examples_writes_the_printed_manifest(printed: Path) -> None:
    unmerged(printed)
    finalize(FeatureStore.open(printed))
    manifest = json.loads((printed / "manifest.json").read_bytes())
    assert manifest | {"xxh3_128": 0} == json.loads(BLOCKS["manifest.json"]) | {"xxh3_128": 0}
    assert (printed / manifest["table"]["file"]).read_bytes() == from_hex("table")


def test_the_sealed_example_is_right() -> None:
    body = BLOCKS["sealed-body"].removesuffix("\n").encode()
    sealed = BLOCKS["sealed"].encode()
    assert sealed == seal({"note": "grüße"})
    assert unseal(sealed, "here") == {"note": "grüße"}
    assert sealed.startswith(body)
    assert json.loads(sealed)["xxh3_128"] == digest_bytes(body)
    assert len(sealed) - len(body) == int(said(r"exactly these (\d+) bytes"))
    assert len(body) == int(said(r"For the (\d+) bytes"))


def test_digests_and_checksums_are_those_of_the_code() -> None:
    assert said(r"digest of no bytes is `(\w+)`") == digest_bytes(b"")
    assert said(r"`123456789` is `([\w ]+)`") == crc32c(b"123456789").hex(" ")


def test_canonical_json_and_fingerprint_are_those_of_the_code() -> None:
    recipe = parse_recipe(json.loads(BLOCKS["recipe"]), "here")
    canonical = BLOCKS["canonical"].removesuffix("\n")
    assert recipe.canonical_json() == canonical
    assert len(canonical.encode()) == int(said(r"one line, (\d+) bytes"))
    assert digest_bytes(canonical.encode()) == recipe.fingerprint
    assert json.loads(BLOCKS["recipe"]) == json.loads(BLOCKS["recipe.json"])["recipe"]


def test_digests_in_the_recipe_are_made_as_the_page_says(printed: Path) -> None:
    store = FeatureStore.open(printed)
    assert store.recipe.dataset.clips == clips_digest(store.clips)
    assert store.recipe.dataset.bank == common_bank(store.clips)


def test_tables_of_members_are_complete() -> None:
    """Every member of the printed documents stands in a table of the page."""
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    for name in ("recipe.json", "manifest.json", COMMIT):
        assert json.loads(BLOCKS[name]).keys() - {"xxh3_128"} <= listed
    assert json.loads(BLOCKS["recipe"]).keys() <= listed
    assert json.loads(BLOCKS["clips.json"])["clips"][0].keys() <= listed
    assert json.loads(BLOCKS[COMMIT])["arrays"][ARRAY].keys() <= listed


def test_members_of_a_recipe_are_all_named() -> None:
    from store.recipe import BackboneRecipe, DatasetRecipe, FusionRecipe, NoiseRecipe, Recipe, StorageRecipe

    for model in (Recipe, DatasetRecipe, BackboneRecipe, NoiseRecipe, StorageRecipe, FusionRecipe):
        for name in model.model_fields:
            assert f"`{name}`" in PAGE, f"{model.__name__}.{name}"


def test_the_metadata_is_what_zarr_python_writes(tmp_path: Path) -> None:
    printed = json.loads(BLOCKS["zarr.json"])
    shape, dims = tuple(printed["shape"]), tuple(printed["dimension_names"])
    zarr.open_group(str(tmp_path / "group"), mode="w", zarr_format=3)
    spec = ArraySpec(ARRAY, shape[1:], printed["data_type"], dims[1:], printed["attributes"])
    create_arrays(tmp_path / "group", [spec], shape[0])
    written = json.loads((tmp_path / "group" / ARRAY / "zarr.json").read_text())
    assert written.pop("storage_transformers", []) == []
    assert written == printed


def test_the_shard_is_what_the_writer_writes(printed: Path) -> None:
    shard = encode_shard(VALUES, FeatureStore.open(printed).info(ARRAY))
    assert b"".join(bytes(part) for part in shard.buffers) == from_hex("shard")
    assert shard.size == int(said(r"these (\d+) bytes:\n\n```text shard"))


def test_zarr_reads_the_printed_store(printed: Path) -> None:
    array: Any = zarr.open_group(str(printed / "features.zarr"), mode="r")[ARRAY]
    np.testing.assert_array_equal(array[1, :2], VALUES)
    assert not array[1, 2].any(), "as the page warns, Zarr takes what is not there for zeros"


def test_the_table_is_as_described() -> None:
    assert RECORD.itemsize == int(said(r"one record of (\d+) bytes"))
    assert [RECORD.fields[name][1] for name in ("size", "xxh3_128", "minimum")] == [0, 8, 24]  # type: ignore[index]
    assert f"`{NAME_PATTERN}`" in PAGE


def test_storage_types_are_all_there() -> None:
    for name in ("float16", "float32", "bool", "uint8", "uint16", "int32", "int64", "float64"):
        assert f"`{name}`" in PAGE
        assert physical_dtype(name).name == name
    for logical in ("bfloat16", "int8-channel"):
        assert f"| `{logical}` | `{physical_dtype(logical).name}` |" in PAGE


def test_formulas_are_those_of_the_code() -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(4, 5, 6)) * 10.0 ** np.arange(-42, 6, 8)).astype(np.float32)
    assert "(u + 0x7FFF + ((u >> 16) & 1)) >> 16" in PAGE
    u = values.view(np.uint32)
    bits = ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)
    np.testing.assert_array_equal(to_physical(values, "bfloat16", "here"), bits)
    m = np.abs(values).max(axis=(0, 1))
    scale = (m / np.float32(127)).astype(np.float32)
    scale[scale < 2.0**-126] = 0
    assert 0 < (scale == 0).sum() < len(scale)
    np.testing.assert_array_equal(absmax_scale(values), scale)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > 0)
    np.testing.assert_array_equal(quantise(values, scale), np.clip(np.rint(values * inverse), -127, 127))


def reader() -> Any:
    """The class `Store` of the page's last block."""
    scope: dict[str, Any] = {"__name__": "page"}
    exec(compile(BLOCKS["reader"], "docs/format.md", "exec"), scope)
    return scope["Store"]


def same(path: Path) -> None:
    """The page's reader sees the same clips as ours, and the same values of all arrays that are not compressed."""
    ours, theirs = FeatureStore.open(path), reader()(path)
    sizes = {(array, row): record.size for row, arrays in ours.committed.items() for array, record in arrays.items()}
    assert theirs.sizes == sizes
    assert sizes
    for array, row in sizes:
        if "zstd" in ours.info(array).codecs:
            continue
        expected = ours.read(array, row)
        values = theirs.read(array, row)
        assert (values.dtype, values.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(values, expected)
        if ours.info(array).framed:
            np.testing.assert_array_equal(theirs.read(array, row, [1, 0], verify=False), expected[[1, 0]])


def test_the_reader_is_short_and_needs_numpy_only() -> None:
    assert len(BLOCKS["reader"].splitlines()) <= 60
    assert max(map(len, BLOCKS["reader"].splitlines())) <= 120
    modules = {
        name
        for node in ast.walk(ast.parse(BLOCKS["reader"]))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }
    assert modules <= {*sys.stdlib_module_names, "numpy"}


def test_the_reader_reads_the_printed_store(printed: Path) -> None:
    same(printed)


def test_the_reader_reads_every_storage_type(store_root: Path) -> None:
    store = write_many_clips(store_root / "many" / "clips", clips=5, lengths=(5, 2))
    assert {store.info(tap).dtype for tap in TAPS} == {"float16", "bfloat16", "float32", "int8-channel"}
    same(store.path)


def test_the_reader_merges_as_we_do(example: Example) -> None:
    example.create()
    example.write([0])
    same(example.path)
    finalize(FeatureStore.open(example.path))
    same(example.path)
    with StoreWriter(example.path) as writer:
        writer.put(1, {"early": example.values[1]["early"]})
        writer.put(2, example.values[2])
    same(example.path)
    finalize(FeatureStore.open(example.path))
    with StoreWriter(example.path) as writer:
        writer.put(1, {"wide": example.values[1]["wide"]})
    (taken_back,) = (example.path / "commits").glob("000000-*.json")
    taken_back.unlink()
    (first, *_) = sorted((example.path / "commits").glob("000001-*.json"), key=lambda path: path.stat().st_mtime_ns)
    first.unlink()
    assert FeatureStore.open(example.path).rows(None, ["wide"]) == [1, 2]
    assert FeatureStore.open(example.path).rows(None, ["early"]) == [2]
    same(example.path)


def test_the_reader_finds_flipped_bits(filled: Example) -> None:
    path = filled.path / "features.zarr" / "early" / "c.0.0.0.0.0"
    content = bytearray(path.read_bytes())
    for position in (3, len(content) - 6):
        content[position] ^= 1
        path.write_bytes(content)
        with pytest.raises(AssertionError, match="crc32c"):
            reader()(filled.path).read("early", 0)
        content[position] ^= 1
    path.write_bytes(content[:-1])
    with pytest.raises(AssertionError, match="cut short"):
        reader()(filled.path).read("early", 0)


def test_the_reader_refuses_what_is_not_there(filled: Example) -> None:
    store = reader()(filled.path)
    with pytest.raises((OSError, ValueError)):
        store.read("early", 1, [2])
    with pytest.raises(AssertionError, match="compressed"):
        store.read("label", 0)
    del store.sizes["early", 0]
    with pytest.raises(KeyError):
        store.read("early", 0)
