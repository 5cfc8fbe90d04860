"""A plain web server: what it does wrong is noticed, waited for, or said in clear words."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from store import FeatureStore, finalize
from store.errors import CorruptShardError, FormatError, NotWritableError, RemoteError
from store.sharing import objects
from store.sharing.cache import ShardCache
from store.sharing.remote import RemoteFolder
from tests.store.conftest import Example
from tests.store.elsewhere import CONTENT, RECORD, SHARD, cache_elsewhere, no_waiting, read  # noqa: F401
from tests.store.servers import Served, web_server  # noqa: F401


def test_a_web_server_is_not_written_to(web: Served) -> None:
    with pytest.raises(NotWritableError, match=r"read from only\. Copy the store to where"):
        RemoteFolder(web.url, None).write("recipe.json", [b"{}"])
    assert not web.behaviour.requests


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


@pytest.mark.parametrize("array", ["early", "label"])
def test_a_cached_shard_that_was_damaged_is_fetched_once_more(
    web: Served, filled: Example, tmp_path: Path, array: str
) -> None:
    finalize(FeatureStore.open(filled.path))
    shutil.copytree(filled.path, web.path / "toy")
    folder = RemoteFolder(f"{web.url}/toy", ShardCache(tmp_path / "cache", 10**9))
    expected = FeatureStore(folder).read(array, 0)
    record = FeatureStore.open(filled.path).committed[0][array]
    (kept,) = (tmp_path / "cache").rglob(record.xxh3_128)
    content = bytearray(kept.read_bytes())
    content[9] ^= 4
    kept.write_bytes(content)
    asked = web.behaviour.count(f"{array}/c.0")
    assert np.array_equal(FeatureStore(folder).read(array, 0, verify=True), expected)
    assert web.behaviour.count(f"{array}/c.0") == asked + 1
