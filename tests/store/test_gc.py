"""What killed writers left goes, what living ones are at stays, and age is what tells them apart."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from store import FeatureStore, FormatError, StoreWriter, finalize
from store.files import partial_name
from store.upkeep import gc
from store.upkeep.gc import DAY, DRAFT, PARTIAL_FILE, SHARD, TABLE, Garbage, delete, drafts, garbage
from store.upkeep.verify import verify
from tests.store.conftest import Example

NOW = 0.0


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time()
    monkeypatch.setattr(gc.time, "time", lambda: now + seconds)


def kinds(found: list[Garbage], store: Path) -> dict[str, str]:
    return {each.path.relative_to(store).as_posix(): each.kind for each in found}


@pytest.fixture
def littered(filled: Example) -> Example:
    """A store with one of everything that is left behind."""
    path = filled.path
    finalize(FeatureStore.open(path))
    for parent in (path / "manifest.json", path / "commits" / "000000-0123456789ab.json"):
        partial_name(parent).write_bytes(b"half")
    (path / "features.zarr" / "zarr.0123456789abcdef0123456789abcdef.partial").write_bytes(b"{")  # zarr-python's
    arrays = partial_name(path / "arrays")
    (arrays / "new").mkdir(parents=True)
    (arrays / "new" / "zarr.json").write_bytes(b"{}")
    (path / f"manifest-{'0' * 32}.table").write_bytes(bytes(56))
    for commit in (path / "commits").glob("000001-*.json"):
        commit.unlink()
    return filled


def test_a_clean_store_has_no_garbage(filled: Example) -> None:
    assert garbage(filled.path, NOW) == []
    finalize(FeatureStore.open(filled.path))
    assert garbage(filled.path, NOW) == []


def test_everything_left_behind_is_found_and_nothing_else(littered: Example) -> None:
    path = littered.path
    found = garbage(path, NOW)
    by_kind = kinds(found, path)
    assert sorted(by_kind.values()) == sorted([PARTIAL_FILE] * 4 + [TABLE] + [SHARD] * 5)
    assert {name for name, kind in by_kind.items() if kind == SHARD} == {
        FeatureStore.open(path).arrays[name].shard(1) for name in littered.values[1]
    }
    before = {file for file in path.rglob("*") if file.is_file()}
    size = sum(file.stat().st_size for file in before)
    gone = delete(found)
    after = {file for file in path.rglob("*") if file.is_file()}
    assert gone == found
    assert sum(each.size for each in gone) == size - sum(file.stat().st_size for file in after)
    assert not list(path.rglob("*.partial"))
    assert garbage(path, NOW) == []
    assert verify(path, deep=True).bad == []
    littered.write([1])
    assert FeatureStore.open(path).rows() == [0, 1, 2]


def test_nothing_young_is_touched(littered: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    assert garbage(littered.path) == []
    later(monkeypatch, DAY - 60)
    assert garbage(littered.path) == []
    later(monkeypatch, 2 * DAY)
    assert len(garbage(littered.path)) == 10


def test_a_copy_that_kept_old_times_is_young_all_the_same(littered: Example) -> None:
    for file in littered.path.rglob("*"):
        os.utime(file, (0, 0))
    assert garbage(littered.path, 3600.0) == []


def test_a_folder_is_as_young_as_the_youngest_in_it(store_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = partial_name(store_root / "toys")
    (draft / "features.zarr").mkdir(parents=True)
    first = drafts(store_root, NOW)[0].changed
    time.sleep(0.02)
    (draft / "features.zarr" / "zarr.json").write_bytes(b"12345")
    (found,) = drafts(store_root, NOW)
    assert found.changed > first
    assert (found.kind, found.size) == (DRAFT, 5)


def test_drafts_beside_a_store_are_its_own_or_those_of_all(filled: Example) -> None:
    folder = filled.path.parent
    for name in ("toys", "toys.old"):
        partial_name(folder / name).mkdir()
    (folder / ".toys.0123456789ab.partial.txt").write_text("x")
    assert len(drafts(folder, NOW)) == 2
    (own,) = drafts(folder, NOW, "toys")
    assert own.path.name.startswith(".toys.")
    assert delete([own]) == [own]
    assert len(drafts(folder, NOW)) == 1


def test_a_shard_that_was_committed_meanwhile_stays(littered: Example) -> None:
    found = [each for each in garbage(littered.path, NOW) if each.kind == SHARD]
    littered.write([1])  # finds its shards there, and commits them
    assert delete(found) == []
    assert verify(littered.path, deep=True).bad == []


def test_a_file_that_changed_meanwhile_stays(littered: Example) -> None:
    found = [each for each in garbage(littered.path, NOW) if each.kind == PARTIAL_FILE and each.path.is_file()]
    time.sleep(0.02)
    found[0].path.write_bytes(b"more")
    found[1].path.unlink()
    assert delete(found) == found[2:]


def test_a_draft_that_was_published_frees_nothing(filled: Example) -> None:
    published = filled.path / FeatureStore.open(filled.path).arrays["wide"].shard(0)
    os.link(published, partial_name(published))
    (found,) = garbage(filled.path, NOW)
    assert (found.kind, found.size) == (PARTIAL_FILE, 0)
    delete([found])
    assert verify(filled.path, deep=True).bad == []


def test_a_damaged_store_is_not_cleared(littered: Example) -> None:
    next((littered.path / "commits").glob("000000-*.json")).write_text("{}")
    (littered.path / "manifest.json").unlink()
    with pytest.raises(FormatError):
        garbage(littered.path, NOW)


def test_a_writer_at_work_keeps_what_it_has_published(example: Example) -> None:
    example.create()
    with StoreWriter(example.path, threads=1) as writer:
        writer.put(0, example.values[0])
        assert garbage(example.path) == []
    assert garbage(example.path, NOW) == []
