"""Stores behind a network: the same bytes as at home, few requests, and clear words when something is wrong."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.digest import digest_bytes
from store.errors import (
    CorruptShardError,
    FormatError,
    MissingPackageError,
    NotWritableError,
    RemoteError,
    StoreNotFoundError,
)
from store.feature_store import FeatureStore
from store.folder import Folder, ShardFile
from store.records import FileRecord
from store.sharing import objects, trouble
from store.sharing.cache import ShardCache
from store.sharing.hub import commit_files
from store.sharing.remote import RemoteFolder
from store.upkeep.finalize import finalize
from tests.store.conftest import Example
from tests.store.fake_hub import Hub, hub_server  # noqa: F401
from tests.store.servers import Bucket, Served, s3_endpoint, s3_server, web_server  # noqa: F401

SHARD = "features.zarr/blocks.20@t502+a=b~c/c.3.0.0.0.0"
CONTENT = np.random.default_rng(0).bytes(10_000)
RECORD = FileRecord(size=len(CONTENT), xxh3_128=digest_bytes(CONTENT))


@dataclass
class Place:
    """A store somewhere, of whatever kind.

    Attributes:
        url: of the store.
        put: publish a file without the code that is tested.
        requests: how many requests for content of files there were.
        lists: whether the place can list.
    """

    url: str
    put: Callable[[str, bytes], Any]
    requests: Callable[[], int]
    lists: bool = True


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "FIRST_DELAY", 0.001)


@pytest.fixture(params=["web", "s3", "hub", "memory"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "memory":
        yield from _memory()
        return
    server = request.getfixturevalue(request.param)
    if isinstance(server, Served):

        def put(name: str, content: bytes) -> None:
            path = server.path / "lab" / "svd" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

        yield Place(f"{server.url}/lab/svd", put, server.behaviour.count, lists=False)
    elif isinstance(server, Bucket):
        import s3fs

        direct = s3fs.S3FileSystem()
        url = f"{server.url}/lab/svd"
        yield Place(
            url,
            lambda name, content: direct.pipe_file(f"{url}/{name}", content),
            lambda: server.calls.count("get_object"),
        )
    else:
        yield Place(
            f"{server.url}/lab/svd",
            lambda name, content: server.files.update({f"lab/svd/{name}": content}),
            lambda: server.behaviour.count("/resolve/"),
        )


def _memory() -> Iterator[Place]:
    """Any other place that fsspec can reach."""
    from fsspec.implementations.memory import MemoryFileSystem

    system = MemoryFileSystem()
    reads = 0
    real = MemoryFileSystem.cat_file

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal reads
        reads += 1
        return real(self, *args, **kwargs)

    def put(name: str, content: bytes) -> None:
        system.pipe_file(f"/lab/svd/{name}", content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFileSystem, "cat_file", counted)
        yield Place("memory://lab/svd", put, lambda: reads)
    system.store.clear()


@pytest.fixture
def cache(tmp_path: Path) -> ShardCache:
    return ShardCache(tmp_path / "cache", 50_000)


def read(shard: ShardFile, offset: int, *sizes: int) -> bytes:
    buffers: list[memoryview | bytearray] = [bytearray(size) for size in sizes]
    count = shard.read_into(offset, buffers)
    return b"".join(buffers)[:count]


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


def test_a_web_server_is_not_written_to(web: Served) -> None:
    with pytest.raises(NotWritableError, match=r"read from only\. Copy the store to where"):
        RemoteFolder(web.url, None).write("recipe.json", [b"{}"])
    assert not web.behaviour.requests


def test_places_where_half_a_file_could_be_seen_are_not_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_ATOMIC", set())
    with pytest.raises(NotWritableError, match="half-written"):
        RemoteFolder("memory://written", None).write("recipe.json", [b"{}"])


@pytest.mark.parametrize("status", [503, 500, 429, 0])
def test_trouble_that_passes_is_waited_for(web: Served, cache: ShardCache, status: int) -> None:
    (web.path / "clips.json").write_bytes(b"{}")
    web.behaviour.status, web.behaviour.fail = status, 3
    assert RemoteFolder(web.url, None).read("clips.json", 9) == b"{}"
    assert len(web.behaviour.requests) == 4


def test_trouble_that_stays_becomes_one_clear_error(web: Served, cache: ShardCache) -> None:
    web.behaviour.fail = 999
    folder = RemoteFolder(web.url, cache)
    for use in (lambda: folder.read("clips.json", 9), lambda: folder.open(SHARD, RECORD)):
        with pytest.raises(RemoteError, match=r"after 4 attempts.*503.*run the same command again.*cache stays"):
            use()
    assert len(web.behaviour.requests) == 8
    assert cache.held_bytes() == 0


def test_a_server_that_falls_silent_is_given_up(web: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from store.sharing import web as module

    monkeypatch.setattr(objects, "_SYSTEMS", {})
    monkeypatch.setattr(module, "_SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(module, "_ATTEMPTS", 2)
    web.behaviour.delay = 0.5
    with pytest.raises(RemoteError, match=r"after 2 attempts .*Timeout"):
        RemoteFolder(web.url, None).read("clips.json", 9)


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(
        RemoteError, match=r"http://127\.0\.0\.1:9/store/recipe\.json: network trouble after 4 attempts"
    ):
        RemoteFolder("http://127.0.0.1:9/store", None).read("recipe.json", 9)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_is_not_tried_again_and_says_where_logins_come_from(web: Served, status: int) -> None:
    web.behaviour.status, web.behaviour.fail = status, 9
    with pytest.raises(RemoteError, match=r"access refused.*user:password@host.*netrc"):
        RemoteFolder(web.url, None).read("clips.json", 9)
    assert len(web.behaviour.requests) == 1


def test_a_password_in_the_address_is_never_shown(web: Served) -> None:
    (web.path / "clips.json").write_bytes(b"{}")
    secret = web.url.replace("http://", "http://me:pa55word@")
    folder = RemoteFolder(secret, None)
    assert folder.read("clips.json", 9) == b"{}"
    assert folder.url == web.url
    assert "pa55word" not in repr(folder)
    for status in (403, 404, 500):
        web.behaviour.status, web.behaviour.fail = status, 4
        with pytest.raises((RemoteError, FileNotFoundError)) as caught:
            folder.read("clips.json", 9)
        web.behaviour.fail = 0
        chain: BaseException | None = caught.value
        while chain is not None:
            assert "pa55word" not in str(chain)
            chain = chain.__cause__


@pytest.mark.parametrize("cached", [True, False])
def test_a_body_that_is_cut_short_is_fetched_again(web: Served, cache: ShardCache, cached: bool) -> None:
    (web.path / "shard").write_bytes(CONTENT)
    web.behaviour.cut = 2
    shard = RemoteFolder(web.url, cache if cached else None).open("shard", RECORD)
    assert read(shard, 0, 10_000) == CONTENT
    assert len(web.behaviour.requests) == 3


def test_a_body_that_stays_short_is_never_taken_for_the_shard(web: Served, cache: ShardCache) -> None:
    (web.path / "shard").write_bytes(CONTENT)
    web.behaviour.cut = 99
    with pytest.raises(RemoteError, match="after 4 attempts"):
        RemoteFolder(web.url, cache).open("shard", RECORD)
    web.behaviour.cut, web.behaviour.lie = 0, 7
    with pytest.raises(CorruptShardError, match="has 9993 bytes, committed were 10000"):
        RemoteFolder(web.url, cache).open("shard", RECORD)
    assert cache.held_bytes() == 0


def test_a_bit_that_flips_on_the_way_is_noticed(web: Served, cache: ShardCache) -> None:
    (web.path / "shard").write_bytes(CONTENT)
    web.behaviour.flip = True
    with pytest.raises(CorruptShardError, match="has the digest"):
        RemoteFolder(web.url, cache).open("shard", RECORD)
    assert cache.held_bytes() == 0


def test_a_server_without_ranges_serves_whole_shards_only(web: Served, cache: ShardCache) -> None:
    (web.path / "shard").write_bytes(CONTENT)
    web.behaviour.ranges = False
    assert read(RemoteFolder(web.url, cache).open("shard", RECORD), 500, 9) == CONTENT[500:509]
    with pytest.raises(RemoteError, match="FEATURE_CACHE_SIZE"):
        read(RemoteFolder(web.url, None).open("shard", RECORD), 500, 9)
    assert len(web.behaviour.requests) == 2


def test_an_endless_file_is_not_read_to_its_end(web: Served) -> None:
    with (web.path / "recipe.json").open("wb") as file:
        file.truncate(1 << 25)
    with pytest.raises(FormatError, match="more than 1000 bytes"):
        RemoteFolder(web.url, None).read("recipe.json", 1000)
    assert RemoteFolder(web.url, None).exists("recipe.json")


def test_a_slow_shard_is_fetched_once_for_all_threads(web: Served, cache: ShardCache) -> None:
    (web.path / "shard").write_bytes(CONTENT)
    web.behaviour.delay = 0.1
    folder = RemoteFolder(web.url, cache)
    start = threading.Barrier(6)

    def one() -> bytes:
        start.wait()
        return read(folder.open("shard", RECORD), 0, 10_000)

    with ThreadPoolExecutor(6) as pool:
        assert {future.result() for future in [pool.submit(one) for _ in range(6)]} == {CONTENT}
    assert len(web.behaviour.requests) == 1


def test_large_shards_on_s3_come_in_parts(s3: Bucket, cache: ShardCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_PART", 900)
    monkeypatch.setattr(objects, "_PARTS", 4)
    folder = RemoteFolder(f"{s3.url}/lab", cache)
    folder.write("shard", [CONTENT])
    assert read(folder.open("shard", RECORD), 0, 10_000) == CONTENT
    assert s3.calls.count("get_object") == 12
    nearly = FileRecord(size=10**15, xxh3_128=RECORD.xxh3_128)
    roomy = ShardCache(cache.path / "roomy", 10**18)
    with pytest.raises(CorruptShardError, match="has 10000 bytes, committed were 1000000000000000"):
        RemoteFolder(f"{s3.url}/lab", roomy).open("shard", nearly)
    assert s3.calls.count("get_object") < 50
    assert read(RemoteFolder(f"{s3.url}/lab", None).open("shard", RECORD), 1, 5000) == CONTENT[1:5001]
    folder.write("shard", [CONTENT[:3000]])
    with pytest.raises(CorruptShardError, match="has 3000 bytes, committed were 10000"):
        RemoteFolder(f"{s3.url}/lab", ShardCache(cache.path / "other", 50_000)).open("shard", RECORD)


def test_s3_without_credentials_says_where_they_come_from(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(key)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(RemoteError, match=r"access refused.*AWS_ACCESS_KEY_ID.*FSSPEC_S3_ANON"):
        RemoteFolder(s3.url, None).read("recipe.json", 9)


def test_a_bucket_that_is_not_there_is_not_found(s3: Bucket) -> None:
    folder = RemoteFolder("s3://nobody/svd", None)
    with pytest.raises(FileNotFoundError):
        folder.read("recipe.json", 9)
    assert folder.names("") == []
    with pytest.raises(NotWritableError, match="no such bucket"):
        folder.write("recipe.json", [b"{}"])


def test_many_files_are_one_commit_on_the_hub(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(CONTENT)
    files = {"recipe.json": b"{}", SHARD: tmp_path / "shard", "features.zarr/zarr.json": [b"a", memoryview(b"b")]}
    made = commit_files(f"{hub.url}/svd", files, "Add a store")
    assert hub.commits == [("Add a store", sorted(f"svd/{name}" for name in files))]
    assert hub.files == {"svd/recipe.json": b"{}", f"svd/{SHARD}": CONTENT, "svd/features.zarr/zarr.json": b"ab"}
    assert made == hub.sha
    assert commit_files(hub.url, {"README.txt": b"hello"}, "Read me") == hub.sha
    assert hub.files["README.txt"] == b"hello"
    assert RemoteFolder(f"{hub.url}@main/svd", None).read("recipe.json", 9) == b"{}"
    assert RemoteFolder(f"{hub.url}@{made}/svd".replace(made, hub.sha), None).read("recipe.json", 9) == b"{}"


def test_a_commit_that_comes_second_is_tried_again(hub: Hub) -> None:
    hub.conflicts = 1
    commit_files(hub.url, {"recipe.json": b"{}"}, "Add")
    assert [message for message, _ in hub.commits] == ["Add"]


def test_files_that_the_hub_leaves_out_are_an_error(hub: Hub) -> None:
    hub.ignored = {"svd/b.json"}
    with pytest.raises(RemoteError, match=r"left out 1 of 2 files of the commit, svd/b\.json among.*\.gitignore"):
        commit_files(f"{hub.url}/svd", {"a.json": b"1", "b.json": b"2"}, "Add")


@pytest.mark.parametrize("url", ["hf://datasets/lab/nothing", "hf://datasets/lab/features@nobranch/svd"])
def test_a_repository_that_is_not_there_is_not_made(hub: Hub, url: str) -> None:
    with pytest.raises(NotWritableError, match=r"no such repository or branch.*huggingface\.co/new-dataset"):
        commit_files(url, {"recipe.json": b"{}"}, "Add")
    with pytest.raises(FileNotFoundError, match="not found"):
        RemoteFolder(url, None).read("recipe.json", 9)


def test_a_private_repository_without_a_login_is_not_found_and_says_why(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent")
    with pytest.raises(FileNotFoundError, match="make sure you are authenticated"):
        RemoteFolder(hub.url, None).read("recipe.json", 9)


def test_the_hub_offline_is_said_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RemoteError, match="offline mode is enabled"):
        RemoteFolder(hub.url, None).read("recipe.json", 9)
    assert not hub.behaviour.requests


def test_downloads_from_the_hub_draw_no_bars(hub: Hub, cache: ShardCache, capfd: pytest.CaptureFixture[str]) -> None:
    hub.files["shard"] = CONTENT
    RemoteFolder(hub.url, cache).open("shard", RECORD)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "url",
    [
        "s3:/bucket/key",
        "S3://bucket/key",
        "store/svd",
        "s3://",
        "s3://bucket/../other",
        "s3://bucket/a b",
        "s3://bucket/a\\b",
        "s3://bucket/a\nb",
        "s3://bucket/key?versionId=1",
        "https://host/store?token=1",
        "https://host/store#part",
        "https://",
        "https:///store",
        "hf://datasets/only",
        "hf://name",
        "file:///etc",
        "nonsense://place/store",
        "simplecache::s3://bucket/key",
    ],
)
def test_addresses_that_name_no_remote_folder_are_refused(url: str) -> None:
    with pytest.raises(StoreNotFoundError):
        RemoteFolder(url, None)


@pytest.mark.parametrize(("url", "package"), [("s3://bucket/store", "s3fs"), ("https://host/store", "aiohttp")])
def test_a_missing_package_is_named_with_the_remedy(url: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_SYSTEMS", {})
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    # By this name: the package's attribute `registry` is something else.
    known = import_module("fsspec.registry")._registry
    for scheme in ("s3", "http"):
        monkeypatch.delitem(known, scheme, raising=False)
    with pytest.raises(MissingPackageError, match=r"pip install -e \"\.\[hub\]\""):
        RemoteFolder(url, None)


def test_asking_the_hub_twice_uses_what_was_listed(hub: Hub) -> None:
    for row in range(5):
        hub.files[f"features.zarr/a/c.{row}"] = CONTENT
    folder = RemoteFolder(hub.url, None)
    for row in range(5):
        read(folder.open(f"features.zarr/a/c.{row}", RECORD), 0, 10)
    assert hub.behaviour.count("/tree/") == 1
    assert hub.behaviour.count("/resolve/") == 5
