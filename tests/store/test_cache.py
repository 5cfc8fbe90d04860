"""The cache of shards: bounded, checked, and found by digests that strangers wrote."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from store.errors import CorruptShardError, FormatError, StoreError
from store.records import FileRecord
from store.sharing.cache import NoRoomError, ShardCache
from store.sharing.room import entries
from tests.store.blobs import Source, blob, content_of, files_in, source_of_blobs  # noqa: F401


def test_a_shard_is_downloaded_once_and_then_found(source: Source) -> None:
    for _ in range(3):
        assert content_of(source.open(1)) == blob(1)[0]
    assert source.downloads == 1
    assert content_of(Source(ShardCache(source.cache.path, 3500)).open(1)) == blob(1)[0]
    digest = blob(1)[1].xxh3_128
    assert [path.relative_to(source.cache.path) for path in source.cache.path.rglob(digest)] == [
        Path(digest[:2], digest)
    ]


def test_what_was_used_longest_ago_goes_first(source: Source) -> None:
    for number in (1, 2, 3):
        source.open(number)
    os.utime(source.cache.path, (0, 0))
    source.open(1)  # used again: now 2 is the oldest
    source.open(4)
    assert [source.holds(number) for number in (1, 2, 3, 4)] == [True, False, True, True]
    assert source.cache.held_bytes() == 3000
    assert source.downloads == 4


def test_reading_without_the_cache_does_not_count_as_use(source: Source) -> None:
    for number in (1, 2, 3):
        source.open(number)
    digest = blob(1)[1].xxh3_128
    path = source.cache.path / digest[:2] / digest
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))  # as a mount with strict access times would
    source.open(4)
    assert not source.holds(1)


def test_the_bound_holds_over_many_sizes(source: Source) -> None:
    rng = np.random.default_rng(0)
    for number in range(60):
        source.open(number, int(rng.integers(1, 2000)))
        assert source.cache.held_bytes() <= source.cache.max_bytes


def test_many_small_shards_are_not_looked_at_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from store.sharing import cache as module

    looks = 0
    real = module.make_room

    def counted(path: Path, size: int, max_bytes: int) -> tuple[int, list[str]]:
        nonlocal looks
        looks += 1
        return real(path, size, max_bytes)

    monkeypatch.setattr(module, "make_room", counted)
    source = Source(ShardCache(tmp_path / "cache", 100_000))
    for number in range(400):
        source.open(number, 100)
    assert source.cache.held_bytes() == 40_000
    assert looks < 40
    for number in range(400, 420):
        source.open(number, 6000)
        assert source.cache.held_bytes() <= 100_000


def test_a_dropped_shard_stays_readable_for_those_who_have_it_open(source: Source) -> None:
    shard = source.open(1)
    for number in (2, 3, 4):
        source.open(number)
    assert not source.holds(1)
    assert content_of(shard) == blob(1)[0]


def test_a_working_set_larger_than_the_cache_is_said_once(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        for number in range(5):
            source.open(number)
    [record] = caplog.records  # said when the fourth came
    assert record.levelno == logging.WARNING
    assert "(4 kB)" in record.message
    assert "(3.5 kB)" in record.message
    assert "FEATURE_CACHE_SIZE" in record.message


def test_dropping_what_another_process_fetched_is_not_worth_a_word(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2, 3):
        content, record = blob(number)
        path = source.cache.path / record.xxh3_128[:2] / record.xxh3_128
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    source.open(4)
    assert source.cache.held_bytes() == 3000
    assert not caplog.records


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c + b"x", lambda c: b"x" + c[1:], lambda c: b""])
def test_wrong_bytes_are_refused_and_leave_nothing(source: Source, damage: Callable[[bytes], bytes]) -> None:
    content, record = blob(1)
    with pytest.raises(CorruptShardError, match=r"far://away.*committed w.*nothing of it was kept"):
        source.cache.open(record, source.writing(damage(content)), "far://away/1")
    assert source.downloads == 2
    assert files_in(source.cache) == []
    assert content_of(source.open(1)) == content


def test_bytes_that_were_damaged_once_on_the_way_are_fetched_again(source: Source) -> None:
    content, record = blob(1)
    answers = [b"x" + content[1:], content]
    shard = source.cache.open(record, lambda path: path.write_bytes(answers.pop(0)) and None, "far://away/1")
    assert content_of(shard) == content


def test_a_shard_that_lost_its_end_on_disk_is_fetched_again(source: Source) -> None:
    source.open(1)
    digest = blob(1)[1].xxh3_128
    os.truncate(source.cache.path / digest[:2] / digest, 10)
    assert content_of(source.open(1)) == blob(1)[0]
    assert source.downloads == 2


def test_a_forgotten_shard_is_fetched_again(source: Source) -> None:
    source.open(1)
    source.cache.forget(blob(1)[1])
    source.cache.forget(blob(1)[1])
    assert content_of(source.open(1)) == blob(1)[0]
    assert source.downloads == 2


def test_a_failed_download_leaves_nothing(source: Source) -> None:
    def download(path: Path) -> None:
        path.write_bytes(b"half")
        raise StoreError("the network is gone")

    with pytest.raises(StoreError, match="the network is gone"):
        source.cache.open(blob(1)[1], download, "far://away/1")
    assert files_in(source.cache) == []


def test_files_of_others_in_the_folder_are_left_alone(source: Source) -> None:
    source.open(1)
    stranger = source.cache.path / "notes" / "thesis.txt"
    stranger.parent.mkdir()
    stranger.write_bytes(b"x" * 5000)
    beside = source.cache.path / "ab"
    beside.mkdir(exist_ok=True)
    (beside / "notes.txt").write_bytes(b"x" * 5000)
    for number in range(2, 9):
        source.open(number)
    assert stranger.exists()
    assert (beside / "notes.txt").exists()
    assert all(not entry.partial for entry in entries(source.cache.path))


def test_a_shard_larger_than_the_cache_is_refused_before_it_is_fetched(source: Source) -> None:
    source.open(1)
    with pytest.raises(NoRoomError, match=r"has 4 kB, the cache holds 3.5 kB"):
        source.open(2, 4000)
    assert source.downloads == 1
    assert source.holds(1)


def test_a_full_disk_is_no_room(source: Source) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(NoRoomError, match=r"the disk of the cache at .* is full"):
        source.cache.open(blob(1)[1], full, "far://away/1")
    assert files_in(source.cache) == []


def test_a_cache_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file.*cannot be used.*FEATURE_CACHE.*FEATURE_CACHE_SIZE=0"):
        Source(ShardCache(tmp_path / "file" / "cache", 9999)).open(1)


@pytest.mark.parametrize(
    "digest",
    ["../../../../etc/passwd", "", "/etc/passwd", "0" * 31, "0" * 33, "A" * 32, "0" * 32 + "\n", "0" * 31 + "/"],
)
def test_digests_of_strangers_lead_nowhere(source: Source, digest: str) -> None:
    record = FileRecord.model_construct(size=4, xxh3_128=digest)
    with pytest.raises(FormatError, match="no xxh3_128"):
        source.cache.open(record, source.writing(b"evil"), "far://away/1")
    with pytest.raises(FormatError, match="no xxh3_128"):
        source.cache.forget(record)
    assert source.downloads == 0
    assert not source.cache.path.exists()
