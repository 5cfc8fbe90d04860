"""A manifest and consolidated metadata that follow from the store alone, and carry no damage on."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr

from store import ArraySpec, FeatureStore, FormatError, finalize, finalize_if_stale
from store.upkeep import finalize as finalize_module
from store.upkeep.finalize import is_current, refinalize
from store.upkeep.verify import verify
from tests.store.conftest import SPECS, Example


def documents(path: Path) -> dict[str, bytes]:
    names = ["manifest.json", "features.zarr/zarr.json", *(table.name for table in path.glob("manifest-*.table"))]
    return {name: (path / name).read_bytes() for name in names}


@pytest.fixture
def closed(filled: Example) -> Example:
    finalize(FeatureStore.open(filled.path))
    return filled


def test_the_consolidated_metadata_is_what_zarr_python_would_write(closed: Example, tmp_path: Path) -> None:
    ours = json.loads((closed.path / "features.zarr" / "zarr.json").read_bytes())
    copy = shutil.copytree(closed.path / "features.zarr", tmp_path / "copy.zarr")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(str(copy))
    theirs = json.loads((copy / "zarr.json").read_bytes())
    assert ours == theirs
    assert list(ours["consolidated_metadata"]["metadata"]) == list(theirs["consolidated_metadata"]["metadata"])


def test_zarr_python_opens_it_without_looking_at_the_arrays(closed: Example) -> None:
    for document in closed.path.glob("features.zarr/*/zarr.json"):
        document.unlink()
    group = zarr.open_consolidated(str(closed.path / "features.zarr"), zarr_format=3)
    assert dict(group.attrs) == {"model": "toy"}
    np.testing.assert_array_equal(np.asarray(group["label"][0]), closed.values[0]["label"])  # type: ignore[index]


def test_the_same_store_has_the_same_documents_whoever_closes_it(closed: Example) -> None:
    before = documents(closed.path)
    finalize(FeatureStore.open(closed.path))
    assert documents(closed.path) == before


@pytest.mark.parametrize("name", ["features.zarr/wide/zarr.json", "features.zarr/bank_frame/zarr.json"])
def test_damaged_metadata_is_not_made_the_new_truth(closed: Example, name: str) -> None:
    before = documents(closed.path)
    content = (closed.path / name).read_bytes()
    (closed.path / name).write_bytes(content.replace(b'"clip"', b'"klip"'))
    with pytest.raises(FormatError, match=rf"{name}: missing, or not the one that was written"):
        finalize(FeatureStore.open(closed.path))
    assert documents(closed.path) == before
    (closed.path / name).unlink()
    with pytest.raises(FormatError, match="Restore it"):
        refinalize(closed.path)


def test_a_damaged_table_is_not_carried_on_under_a_new_digest(closed: Example) -> None:
    before = documents(closed.path)
    (table,) = closed.path.glob("manifest-*.table")
    content = bytearray(table.read_bytes())
    content[70] ^= 1
    table.write_bytes(content)
    store = FeatureStore.open(closed.path)
    with pytest.raises(FormatError, match="python -m store finalize"):
        finalize(store)
    refinalize(closed.path)
    assert documents(closed.path) == before


@pytest.mark.parametrize("name", ["manifest.json", "features.zarr/zarr.json", "table"])
@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
def test_what_follows_from_the_rest_is_made_again_to_the_byte(closed: Example, name: str, how: str) -> None:
    before = documents(closed.path)
    path = next(closed.path.glob("manifest-*.table")) if name == "table" else closed.path / name
    content = path.read_bytes()
    path.write_bytes(content[:-9] if how == "cut" else content[:50] + b"?" + content[51:])
    if how == "gone":
        path.unlink()
    refinalize(closed.path)
    assert documents(closed.path) == before
    assert verify(closed.path, deep=True).bad == []


def test_an_array_whose_metadata_is_gone_is_named(filled: Example) -> None:
    (filled.path / "features.zarr" / "wide" / "zarr.json").unlink()
    with pytest.raises(FormatError, match=r"wide.*Restore"):
        refinalize(filled.path)


def test_a_store_that_is_up_to_date_is_left_alone(closed: Example) -> None:
    manifest = closed.path / "manifest.json"
    before = manifest.stat().st_ino
    finalize_if_stale(closed.path)
    assert manifest.stat().st_ino == before
    closed.create([*SPECS, ArraySpec("more", (2,), "uint8", ("slot",))])
    finalize_if_stale(closed.path)
    assert manifest.stat().st_ino != before
    assert verify(closed.path, deep=True).bad == []


def test_a_finalize_that_was_cut_off_between_its_two_files_is_no_damage(filled: Example) -> None:
    finalize(FeatureStore.open(filled.path))
    (filled.path / "manifest.json").unlink()
    assert verify(filled.path, deep=True).bad == []
    document = filled.path / "features.zarr" / "zarr.json"
    document.write_bytes(document.read_bytes().replace(b'"toy"', b'"tox"'))
    assert [bad.name for bad in verify(filled.path).bad] == ["features.zarr/zarr.json"]


def test_two_processes_may_finalize_at_once(example: Example) -> None:
    example.create()
    example.write([0])
    finalize(FeatureStore.open(example.path))
    (table,) = example.path.glob("manifest-*.table")
    os.utime(table, (0, 0))
    example.write([1])
    one, other = FeatureStore.open(example.path), FeatureStore.open(example.path)
    finalize(one)
    assert table.exists(), "somebody may have opened the store under it a moment ago"
    finalize(other)
    os.utime(table, (0, 0))
    finalize(FeatureStore.open(example.path))
    assert not table.exists()
    assert FeatureStore.open(example.path).rows() == [0, 1]
    assert verify(example.path, deep=True).bad == []


def test_a_group_that_another_process_wrote_in_between_is_made_anew(
    example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    example.create()
    example.write([0])
    group, calls = example.path / "features.zarr" / "zarr.json", []
    real = finalize_module.write_manifest

    def interrupted(*arguments: object) -> object:
        written = real(*arguments)  # type: ignore[arg-type]
        if not calls:
            group.write_text(group.read_text() + " ")
        calls.append(written)
        return written

    monkeypatch.setattr(finalize_module, "write_manifest", interrupted)
    finalize(FeatureStore.open(example.path))
    assert len(calls) == 2
    assert verify(example.path, deep=True).bad == []


def test_a_group_that_does_not_fit_its_manifest_is_stale(filled: Example) -> None:
    finalize(FeatureStore.open(filled.path))
    group = filled.path / "features.zarr" / "zarr.json"
    group.write_text(group.read_text() + " ")
    assert not is_current(FeatureStore.open(filled.path))
    finalize_if_stale(filled.path)
    assert verify(filled.path, deep=True).bad == []
