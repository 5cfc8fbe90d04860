"""Whatever is damaged is found and named, and nothing sound is dropped with it."""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from store import ArraySpec, CorruptShardError, FeatureStore, FormatError, StoreError, StoreNotFoundError, StoreWriter
from store.commits import COMMITS, write_commit
from store.digest import digest_file
from store.documents import seal, unseal
from store.folder import LocalFolder
from store.upkeep import drop as drop_module
from store.upkeep import verify as verify_module
from store.upkeep.drop import Dropped, drop
from store.upkeep.finalize import finalize, refinalize
from store.upkeep.verify import Report, verify
from tests.store.conftest import GRID, SPECS, Example

BYTE = ArraySpec("byte", (4, *GRID), "int8-channel", ("frame", "y", "x", "channel"), {"site": "byte", "depth": 3})


@pytest.fixture
def store(example: Example) -> Example:
    """Every storage type, also int8 with its scales, in three clips."""
    for row, values in example.values.items():
        values["byte"] = np.random.default_rng(row).normal(size=(len(example.clips[row].bank), *GRID))
    example.create([*SPECS, BYTE])
    example.write([0, 1, 2])
    return example


@pytest.fixture(params=["commits only", "finalized"])
def any_store(store: Example, request: pytest.FixtureRequest) -> Example:
    if request.param == "finalized":
        finalize(FeatureStore.open(store.path))
    return store


def files(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def shards(path: Path) -> dict[str, bytes]:
    return {name: content for name, content in files(path).items() if name.rpartition("/")[2].startswith("c.")}


def shard(example: Example, array: str, row: int) -> Path:
    return example.path / FeatureStore.open(example.path).arrays[array].shard(row)


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def bad(path: Path, *, deep: bool = True) -> list[str]:
    return [each.name for each in verify(path, deep=deep).bad]


def held(path: Path) -> dict[int, set[str]]:
    return {row: set(arrays) for row, arrays in FeatureStore.open(path).committed.items()}


ALL = {"early", "late@t5", "wide", "label", "slot", "byte", "byte~scale"}


@pytest.mark.parametrize("deep", [False, True])
def test_a_sound_store_has_no_bad_file(any_store: Example, deep: bool) -> None:
    report = verify(any_store.path, deep=deep)
    assert report.bad == []
    assert report.shards == 3 * len(ALL) == len(shards(any_store.path))
    assert report.size == sum(map(len, shards(any_store.path).values()))


def test_every_flipped_bit_is_found_and_its_file_named(any_store: Example) -> None:
    rng = random.Random(5)
    contents = files(any_store.path)
    names = sorted(contents)
    assert {"recipe.json", "clips.json", "provenance.json", "features.zarr/zarr.json"} < set(names)
    for name in names * (1 + 300 // len(names)):
        path, bit = any_store.path / name, rng.randrange(8 * len(contents[name]))
        flip(path, bit)
        assert name in bad(any_store.path), f"bit {bit}"
        path.write_bytes(contents[name])
    assert bad(any_store.path) == []


def test_every_truncation_is_found_and_its_file_named(any_store: Example) -> None:
    for name, content in files(any_store.path).items():
        for length in (0, len(content) // 2, len(content) - 1):
            os.truncate(any_store.path / name, length)
            assert name in bad(any_store.path), f"{length} of {len(content)} bytes"
            (any_store.path / name).write_bytes(content)


def test_every_missing_file_is_found_without_reading_any_shard(
    any_store: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_module, "digest_of", None)
    for name, content in files(any_store.path).items():
        if name in ("recipe.json", "manifest.json") or name.startswith(COMMITS):
            continue  # no store; a store that was not finalized; a commit that was taken back
        (any_store.path / name).unlink()
        assert name in bad(any_store.path, deep=False)
        (any_store.path / name).write_bytes(content)
    assert bad(any_store.path, deep=False) == []


def test_what_does_not_open_is_never_called_sound(any_store: Example) -> None:
    rng = random.Random(6)
    documents = {name: content for name, content in files(any_store.path).items() if name not in shards(any_store.path)}
    refused = 0
    for name, content in sorted(documents.items()) * 8:
        flip(any_store.path / name, rng.randrange(8 * len(content)))
        try:
            FeatureStore.open(any_store.path)
        except StoreError:
            refused += 1
            assert name in bad(any_store.path, deep=False)
        (any_store.path / name).write_bytes(content)
    assert refused > 20


def test_a_store_without_its_folder_of_commits_is_not_sound(any_store: Example) -> None:
    for commit in (any_store.path / COMMITS).iterdir():
        commit.unlink()
    (any_store.path / COMMITS).rmdir()
    assert COMMITS in bad(any_store.path, deep=False)


def test_no_store_and_another_version_are_errors(store: Example) -> None:
    recipe = store.path / "recipe.json"
    content = recipe.read_bytes()
    document = unseal(content, "")
    for other in (json.dumps({"schema_version": 1}).encode(), seal(document | {"format": 3})):
        recipe.write_bytes(other)
        with pytest.raises(FormatError, match="this code reads version 2"):
            verify(store.path)
    recipe.unlink()
    with pytest.raises(StoreNotFoundError, match=r"no recipe\.json"):
        verify(store.path)


def test_stray_files_are_passed_over(any_store: Example) -> None:
    for name in ("notes.txt", "features.zarr/notes.txt", "features.zarr/wide/c.2.0", "commits/readme.md", ".hidden"):
        (any_store.path / name).write_text("x")
    (any_store.path / "features.zarr" / "empty").mkdir()
    assert bad(any_store.path) == []
    assert FeatureStore.open(any_store.path).rows() == [0, 1, 2]


@pytest.mark.parametrize("place", ["commits", "features.zarr", "features.zarr/wide"])
def test_links_are_reported_since_nothing_follows_them(store: Example, tmp_path: Path, place: str) -> None:
    (store.path / place).rename(tmp_path / "elsewhere")
    (store.path / place).symlink_to(tmp_path / "elsewhere")
    assert place in bad(store.path, deep=False)


def test_a_shard_that_became_a_link_is_dropped_and_what_it_led_to_is_kept(store: Example, tmp_path: Path) -> None:
    path, target = shard(store, "wide", 0), tmp_path / "target"
    path.rename(target)
    path.symlink_to(target)
    report = verify(store.path)
    assert [each.name for each in report.bad] == ["features.zarr/wide/c.0.0.0.0.0"]
    drop(report)
    assert target.exists()
    assert not path.is_symlink()


def test_a_table_that_says_other_than_its_commits_is_found(store: Example) -> None:
    finalize(FeatureStore.open(store.path))
    manifest = FeatureStore.open(store.path).manifest
    assert manifest is not None
    # Sealed and whole, but made by someone who had other commits.
    for name in manifest.commits:
        commit = store.path / COMMITS / name
        document = unseal(commit.read_bytes(), "")
        document["arrays"]["wide"]["mean"] += 1
        commit.write_bytes(seal(document))
    assert bad(store.path) == [manifest.table.file]
    refinalize(store.path)
    assert bad(store.path) == []
    assert FeatureStore.open(store.path).manifest != manifest


def test_a_shard_that_cannot_be_read_now_is_reported_but_not_dropped(
    store: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        if path == locked:
            raise PermissionError(errno.EACCES, "Permission denied")
        if path == broken:
            raise OSError(errno.EIO, "Input/output error")
        return digest_file(path)

    locked, broken = shard(store, "wide", 0), shard(store, "wide", 1)
    monkeypatch.setattr(verify_module, "digest_of", refuse)
    report = verify(store.path, deep=True)
    assert [(each.row, each.damaged) for each in report.bad] == [(0, False), (1, True)]
    assert drop(report).shards == 1
    assert locked.exists()
    assert not broken.exists()


def test_progress_ends_at_the_number_of_bytes(store: Example) -> None:
    class Heard:
        total, done = -1, 0

        def start(self, total: int) -> None:
            self.total = total

        def advance(self, size: int) -> None:
            self.done += size

    shard(store, "wide", 0).unlink()
    flip(shard(store, "early", 1), 9)
    for deep in (False, True):
        heard = Heard()
        report = verify(store.path, deep=deep, progress=heard)
        assert heard.total == heard.done == report.size > 0


def damage(store: Example) -> Report:
    """One shard cut off, one changed, one gone."""
    os.truncate(shard(store, "early", 0), 40)
    flip(shard(store, "wide", 2), 77)
    shard(store, "slot", 2).unlink()
    return verify(store.path, deep=True)


def test_drop_takes_back_what_is_bad_and_the_refill_is_identical(any_store: Example) -> None:
    before = shards(any_store.path)
    times = {name: (any_store.path / name).stat().st_mtime_ns for name in before}
    report = damage(any_store)
    found = [(each.row, each.array) for each in report.bad]
    assert found == [(0, "early"), (2, "slot"), (2, "wide")]
    assert drop(report) == Dropped(clips=2, shards=3, commits=0)
    assert held(any_store.path) == {0: ALL - {"early"}, 1: ALL, 2: ALL - {"slot", "wide"}}
    assert bad(any_store.path) == []
    for row, array in found:
        assert not shard(any_store, array, row).exists()
        with StoreWriter(any_store.path) as writer:
            writer.put(row, {array: any_store.values[row][array]})
    assert shards(any_store.path) == before
    assert held(any_store.path) == dict.fromkeys(range(3), ALL)
    assert bad(any_store.path) == []
    refilled = {f"features.zarr/{name}" for name in ("early/c.0.0.0.0.0", "slot/c.2.0", "wide/c.2.0.0.0.0")}
    touched = {name for name in before if (any_store.path / name).stat().st_mtime_ns != times[name]}
    assert touched == refilled
    refinalize(any_store.path)
    assert bad(any_store.path) == []
    assert held(any_store.path) == dict.fromkeys(range(3), ALL)


def test_records_of_what_stays_do_not_change(any_store: Example) -> None:
    before = FeatureStore.open(any_store.path).committed
    drop(damage(any_store))
    after = FeatureStore.open(any_store.path).committed
    for row, arrays in after.items():
        assert {name: before.record(row, name) for name in arrays} == arrays  # type: ignore[attr-defined]


@pytest.mark.parametrize("step", ["delete shards", "commit the rest", "delete commits"])
def test_a_drop_that_is_cut_off_is_finished_by_the_next(
    any_store: Example, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = damage(any_store)
    name = "_commit_the_rest" if step == "commit the rest" else "_delete"
    original: Callable[..., None] = getattr(drop_module, name)
    calls = []

    def cut_off(*arguments: object) -> None:
        calls.append(arguments)
        if step != "delete commits" or len(calls) == 2:
            if step == "commit the rest":
                original(*arguments)
            raise KeyboardInterrupt
        original(*arguments)

    monkeypatch.setattr(drop_module, name, cut_off)
    with pytest.raises(KeyboardInterrupt):
        drop(report)
    monkeypatch.undo()
    drop(verify(any_store.path, deep=True))
    assert bad(any_store.path) == []
    assert held(any_store.path) == {0: ALL - {"early"}, 1: ALL, 2: ALL - {"slot", "wide"}}


def test_damaged_commits_go_and_what_others_know_of_their_clips_stays(any_store: Example) -> None:
    finalized = FeatureStore.open(any_store.path).manifest is not None
    before = shards(any_store.path)
    (name,) = [path for path in (any_store.path / COMMITS).iterdir() if path.name.startswith("000001")]
    os.truncate(name, 100)
    report = verify(any_store.path, deep=True)
    assert [each.name for each in report.bad] == [f"commits/{name.name}"]
    assert drop(report) == Dropped(clips=0, shards=0, commits=1)
    assert bad(any_store.path) == []
    # The manifest remembers what the commit said; without one, nothing is known of the clip any more.
    assert held(any_store.path) == dict.fromkeys((0, 1, 2) if finalized else (0, 2), ALL)
    assert shards(any_store.path) == before
    any_store.write([1])
    assert held(any_store.path) == dict.fromkeys(range(3), ALL)
    assert shards(any_store.path) == before


def test_values_fall_with_the_scale_they_were_divided_by(store: Example) -> None:
    flip(shard(store, "byte~scale", 0), 5)
    drop(verify(store.path, deep=True))
    assert held(store.path)[0] == ALL - {"byte", "byte~scale"}
    assert not shard(store, "byte", 0).exists()
    with StoreWriter(store.path) as writer:
        writer.put(0, {"byte": 3 * store.values[0]["byte"]})
    np.testing.assert_allclose(
        FeatureStore.open(store.path).read("byte", 0), 3 * store.values[0]["byte"], atol=3 * 4 / 127
    )


def test_scales_stay_when_only_the_values_fall(store: Example) -> None:
    flip(shard(store, "byte", 0), 5)
    drop(verify(store.path, deep=True))
    assert held(store.path)[0] == ALL - {"byte"}


def test_later_commits_of_a_clip_survive_its_first(store: Example) -> None:
    store.create([*SPECS, BYTE, ArraySpec("more", (2,), "uint8", ("slot",))])
    with StoreWriter(store.path) as writer:
        writer.put(0, {"more": np.array([1, 2], np.uint8)})
    finalize(FeatureStore.open(store.path))
    flip(shard(store, "wide", 0), 5)
    drop(verify(store.path, deep=True))
    assert held(store.path)[0] == ALL - {"wide"} | {"more"}
    assert bad(store.path) == []


@pytest.mark.parametrize("name", ["recipe.json", "clips.json"])
def test_nothing_is_dropped_while_the_recipe_or_the_clips_are_damaged(store: Example, name: str) -> None:
    report = damage(store)
    flip(store.path / name, 333)
    before = files(store.path)
    with pytest.raises(StoreError, match="nothing was dropped"):
        drop(report)
    assert files(store.path) == before


def test_nothing_is_dropped_of_an_array_without_its_metadata(store: Example) -> None:
    (store.path / "features.zarr" / "wide").rename(store.path / "elsewhere")
    report = verify(store.path)
    assert len(report.bad) == 4
    assert drop(report).shards == 0
    (store.path / "elsewhere").rename(store.path / "features.zarr" / "wide")
    assert bad(store.path) == []


def test_what_was_committed_anew_since_the_report_is_not_dropped(store: Example) -> None:
    report = damage(store)
    drop(report)
    with StoreWriter(store.path) as writer:
        writer.put(0, {"early": store.values[0]["early"] + 1})
    assert drop(report).shards == 0
    assert "early" in held(store.path)[0]


def test_a_damaged_manifest_does_not_hide_damaged_shards(store: Example) -> None:
    finalize(FeatureStore.open(store.path))
    damage(store)
    flip(store.path / "manifest.json", 999)
    drop(verify(store.path, deep=True))
    assert bad(store.path) == ["manifest.json"]
    refinalize(store.path)
    assert bad(store.path) == []
    assert held(store.path) == {0: ALL - {"early"}, 1: ALL, 2: ALL - {"slot", "wide"}}


def test_a_commit_of_a_clip_that_the_table_lacks_is_bad(store: Example) -> None:
    commits = FeatureStore.open(store.path).committed
    name = write_commit(LocalFolder(store.path), 7, "clip7", 4, commits[0], {})
    other = write_commit(LocalFolder(store.path), 1, "clip0", 4, {}, {})
    report = verify(store.path)
    assert sorted(each.name for each in report.bad) == sorted([f"commits/{name}", f"commits/{other}"])
    assert drop(report).commits == 2
    assert bad(store.path) == []


def test_reading_names_the_way_out_that_verify_offers(store: Example) -> None:
    flip(shard(store, "wide", 0), 8)
    with pytest.raises(CorruptShardError, match="verify STORE --drop"):
        FeatureStore.open(store.path).read("wide", 0)


def test_nothing_is_dropped_where_commits_name_different_metadata_of_what_stays(any_store: Example) -> None:
    opened, early = FeatureStore.open(any_store.path), shard(any_store, "early", 0)
    record = opened.committed[0]["wide"]
    name = write_commit(LocalFolder(any_store.path), 0, "clip0", 4, {"wide": record}, {"wide": "0" * 32})
    flip(early, 9)
    report = verify(any_store.path, deep=True)
    before = files(any_store.path)
    with pytest.raises(FormatError, match=r"wide/zarr\.json: nothing was dropped.*0{32}.*two stores were mixed"):
        drop(report)
    assert files(any_store.path) == before
    (any_store.path / COMMITS / name).unlink()
    assert drop(verify(any_store.path, deep=True)).shards == 1
    assert bad(any_store.path) == []


def test_a_shard_of_which_the_last_commit_says_something_else_is_reported(any_store: Example) -> None:
    """Readers elsewhere and copies compare with the last record, so that these bytes are of no use to them."""
    opened = FeatureStore.open(any_store.path)
    other = opened.committed[0]["wide"].model_copy(update={"xxh3_128": "1" * 32})
    write_commit(LocalFolder(any_store.path), 0, "clip0", 4, {"wide": other}, {"wide": opened.info("wide").digest})
    report = verify(any_store.path, deep=True)
    assert [(each.row, each.array, each.damaged) for each in report.bad] == [(0, "wide", True)]
    assert "two copies were mixed" in report.bad[0].problem
    drop(report)
    assert held(any_store.path)[0] == ALL - {"wide"}
    any_store.write([0])
    assert bad(any_store.path) == []
