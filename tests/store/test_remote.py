"""Stores behind a network, whatever kind: the same bytes as at home, few requests, nothing wrong taken for right."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.digest import digest_bytes
from store.errors import CorruptShardError, FormatError
from store.feature_store import FeatureStore
from store.folder import Folder
from store.records import FileRecord
from store.sharing.cache import ShardCache
from store.sharing.remote import RemoteFolder
from store.upkeep.finalize import finalize
from tests.store.conftest import Example
from tests.store.elsewhere import CONTENT, RECORD, SHARD, Place, cache_elsewhere, no_waiting, place_elsewhere, read  # noqa: F401
from tests.store.fake_hub import hub_server  # noqa: F401
from tests.store.servers import s3_endpoint, s3_server, web_server  # noqa: F401


def test_small_files_are_read_whole(place: Place) -> None:
    place.put("clips.json", b'{"clips": []}')
    folder: Folder = RemoteFolder(place.url, None)
    assert folder.read("clips.json", 100) == b'{"clips": []}'
    assert folder.read("clips.json", 13) == b'{"clips": []}'
    assert place.requests() == 2


def test_a_file_that_is_too_large_is_not_read(place: Place) -> None:
    place.put("recipe.json", b"x" * 5000)
    with pytest.raises(FormatError, match=r"recipe\.json: has more than 4999 bytes"):
        RemoteFolder(place.url, None).read("recipe.json", 4999)


def test_what_is_not_there_is_not_found(place: Place, cache: ShardCache) -> None:
    place.put("clips.json", b"{}")
    folder = RemoteFolder(place.url, cache)
    with pytest.raises(FileNotFoundError):
        folder.read("recipe.json", 100)
    with pytest.raises(FileNotFoundError):
        folder.read("commits/000000-ab.json", 100)
    assert not folder.exists("recipe.json")
    assert folder.exists("clips.json")
    with pytest.raises(CorruptShardError, match="not there"):
        folder.open(SHARD, RECORD)
    with pytest.raises(CorruptShardError, match="not there"):
        read(RemoteFolder(place.url, None).open(SHARD, RECORD), 0, 10)


def test_what_comes_later_is_found(place: Place) -> None:
    folder = RemoteFolder(place.url, None)
    place.put("commits/a.json", b"1")
    assert folder.names("commits") in (["a.json"], None)
    assert not folder.exists("commits/b.json")
    place.put("commits/b.json", b"2")
    assert folder.names("commits") in (["a.json", "b.json"], None)
    assert folder.read("commits/b.json", 9) == b"2"
    place.put("commits/b.json", b"22222")
    assert folder.read("commits/b.json", 9) == b"22222"


def test_names_are_listed_where_the_place_can(place: Place) -> None:
    for name in ["recipe.json", "commits/b.json", "commits/a.json", "commits-of-old/c.json", "commits/deep/d.json"]:
        place.put(name, b"{}")
    folder = RemoteFolder(place.url, None)
    if not place.lists:
        assert folder.names("commits") is None
        return
    assert folder.names("commits") == ["a.json", "b.json", "deep"]
    assert folder.names("") == ["commits", "commits-of-old", "recipe.json"]
    assert folder.names("nowhere") == []
    assert RemoteFolder(f"{place.url}/nowhere", None).names("") == []


def test_without_a_cache_a_frame_is_one_request_and_the_index_one_more(place: Place, tmp_path: Path) -> None:
    place.put(SHARD, CONTENT)
    shard = RemoteFolder(place.url, None).open(SHARD, RECORD)
    assert shard.size == 10_000
    assert place.requests() == 0
    assert read(shard, 9_900, 100) == CONTENT[9_900:]
    assert place.requests() == 1
    assert read(shard, 1000, 500, 4, 500, 4) == CONTENT[1000:2008]
    assert place.requests() == 2
    assert read(shard, 0, 500, 4) == CONTENT[:504]
    assert place.requests() == 3
    assert read(shard, 9_990, 20) == CONTENT[9_990:]
    assert read(shard, 10_000, 20) == b""
    assert place.requests() == 4


def test_with_a_cache_the_shard_is_one_download_and_then_no_request(place: Place, cache: ShardCache) -> None:
    place.put(SHARD, CONTENT)
    shard = RemoteFolder(place.url, cache).open(SHARD, RECORD)
    assert place.requests() == 1
    assert read(shard, 0, 4000, 6000) == CONTENT
    assert read(RemoteFolder(place.url, cache).open(SHARD, RECORD), 5, 7) == CONTENT[5:12]
    assert place.requests() == 1
    assert cache.held_bytes() == 10_000


def _share(filled: Example, place: Place) -> None:
    finalize(FeatureStore.open(filled.path))
    for path in filled.path.rglob("*"):
        if path.is_file():
            place.put(path.relative_to(filled.path).as_posix(), path.read_bytes())


def test_a_store_elsewhere_reads_like_one_at_home(place: Place, filled: Example, cache: ShardCache) -> None:
    _share(filled, place)
    home = FeatureStore.open(filled.path)
    for kept, arrays in ((cache, list(home.arrays)), (None, ["late@t5"])):
        away = FeatureStore(RemoteFolder(place.url, kept))
        assert away.fingerprint == home.fingerprint
        assert away.rows() == home.rows() == [0, 1, 2]
        for array in arrays:
            for row in home.rows():
                np.testing.assert_array_equal(away.read(array, row), home.read(array, row))
        np.testing.assert_array_equal(away.read("early", 0, [2, 0, 3]), home.read("early", 0, [2, 0, 3]))


def test_frame_after_frame_costs_one_request_each(place: Place, filled: Example) -> None:
    _share(filled, place)
    away = FeatureStore(RemoteFolder(place.url, None))
    assert away.rows(arrays=["early", "wide"]) == [0, 1, 2]
    costs = []
    for frames in ([0], [1], [2, 3], [0, 1, 2, 3]):
        before = place.requests()
        away.read("early", 0, frames)
        costs.append(place.requests() - before)
    assert costs[0] <= 2
    assert costs[1:] == [1, 1, 1]


def test_equal_shards_of_two_stores_are_kept_once(place: Place, cache: ShardCache) -> None:
    place.put(SHARD, CONTENT)
    RemoteFolder(place.url, cache).open(SHARD, RECORD)
    assert read(RemoteFolder(f"{place.url}-copy", cache).open(SHARD, RECORD), 0, 10) == CONTENT[:10]


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c + b"x", lambda c: b"x" + c[1:]])
def test_a_shard_that_is_not_what_was_committed_is_refused(
    place: Place, cache: ShardCache, damage: Callable[[bytes], bytes]
) -> None:
    place.put(SHARD, damage(CONTENT))
    with pytest.raises(CorruptShardError, match=r"svd/features\.zarr/.*nothing of it was kept.*verify"):
        RemoteFolder(place.url, cache).open(SHARD, RECORD)
    assert cache.held_bytes() == 0


def test_without_a_cache_a_shard_that_ends_early_is_noticed(place: Place) -> None:
    place.put(SHARD, CONTENT[:5000])
    shard = RemoteFolder(place.url, None).open(SHARD, RECORD)
    assert read(shard, 0, 100) == CONTENT[:100]
    with pytest.raises(CorruptShardError, match="ends at byte 5000, committed were 10000"):
        read(shard, 4900, 200)
    with pytest.raises(CorruptShardError, match="ends at byte"):
        read(shard, 9000, 200)


def test_a_shard_without_room_is_read_in_parts_and_that_is_said_once(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place.put(SHARD, CONTENT)
    folder = RemoteFolder(place.url, ShardCache(tmp_path / "small", 9_999))
    for _ in range(3):
        assert read(folder.open(SHARD, RECORD), 100, 50) == CONTENT[100:150]
    warnings = [record for record in caplog.records if record.name.startswith("store")]
    assert [record.levelno for record in warnings] == [logging.WARNING]
    assert "has 10 kB, the cache holds 10 kB" in warnings[0].message
    assert "FEATURE_CACHE_SIZE" in warnings[0].message


def test_a_full_disk_does_not_stop_reading(
    place: Place, cache: ShardCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from store.sharing import cache as module

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_sync", full)
    place.put(SHARD, CONTENT)
    assert read(RemoteFolder(place.url, cache).open(SHARD, RECORD), 100, 50) == CONTENT[100:150]
    assert "is full" in caplog.text


def test_many_threads_read_one_folder(place: Place, cache: ShardCache) -> None:
    contents = {f"features.zarr/a/c.{row}": CONTENT[row:] for row in range(12)}
    for name, content in contents.items():
        place.put(name, content)
    for folder in (RemoteFolder(place.url, None), RemoteFolder(place.url, cache)):

        def whole(name: str, folder: Folder = folder) -> bool:
            content = contents[name]
            shard = folder.open(name, FileRecord(size=len(content), xxh3_128=digest_bytes(content)))
            return read(shard, 0, len(content)) == content

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(whole, contents))


def test_a_folder_can_be_sent_to_another_process(place: Place, cache: ShardCache) -> None:
    place.put(SHARD, CONTENT)
    folder = RemoteFolder(place.url, cache)
    folder.open(SHARD, RECORD)
    again = pickle.loads(pickle.dumps(folder))
    assert (again.url, again.cache.path) == (folder.url, cache.path)
    assert read(again.open(SHARD, RECORD), 0, 9) == CONTENT[:9]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_folder_outlives_a_fork(place: Place, cache: ShardCache) -> None:
    place.put("clips.json", b"{}")
    place.put(SHARD, CONTENT)
    folder = RemoteFolder(place.url, cache)
    folder.read("clips.json", 9)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            good = folder.read("clips.json", 9) == b"{}" and read(folder.open(SHARD, RECORD), 0, 9) == CONTENT[:9]
            status = 0 if good else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cache.held_bytes() == 10_000
    assert folder.read("clips.json", 9) == b"{}"


HOSTILE = ["/etc/passwd", "../r.json", "a/../../b", "a//b", "a/", "a\\b", "a\0b", "a\nb", "a b", "a?b", "a#b", "é", ""]


def test_names_that_could_lead_elsewhere_are_refused(place: Place, cache: ShardCache) -> None:
    folder = RemoteFolder(place.url, cache)
    uses: list[Callable[[str], Any]] = [
        lambda name: folder.read(name, 9),
        lambda name: folder.open(name, RECORD),
        lambda name: folder.write(name, [b"x"]),
        folder.exists,
        lambda name: folder.names(name or ".."),
    ]
    for name in HOSTILE:
        for use in uses:
            with pytest.raises(FormatError, match="not a name that a store may hold"):
                use(name)
    assert place.requests() == 0


@pytest.mark.parametrize("kind", ["s3", "memory", "hub"])
def test_what_is_written_is_there_whole(kind: str, request: pytest.FixtureRequest) -> None:
    base = "memory://lab" if kind == "memory" else request.getfixturevalue(kind).url
    folder = RemoteFolder(f"{base}/written", None)
    folder.write(SHARD, [b"one", memoryview(b"two")])
    assert folder.read(SHARD, 9) == b"onetwo"
    folder.write(SHARD, [b"three"])
    assert folder.read(SHARD, 9) == b"three"
    assert folder.names("features.zarr") == [SHARD.split("/")[1]]
