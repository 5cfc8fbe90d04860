"""The cache of shards: bounded, checked, shared by threads and processes, and found by digests that strangers wrote."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from store.digest import digest_bytes
from store.errors import CorruptShardError, FormatError, SettingError, StoreError
from store.folder import LocalShard
from store.records import FileRecord
from store.sharing.cache import NoRoomError, ShardCache
from store.sharing.room import entries, locked
from store.sharing.settings import default_cache
from store.sharing.sizes import parse_size, show_size

PROJECT = Path(__file__).parents[2]


def blob(number: int, size: int = 1000) -> tuple[bytes, FileRecord]:
    content = np.random.default_rng(number).bytes(size)
    return content, FileRecord(size=size, xxh3_128=digest_bytes(content))


class Source:
    """Hands out blobs and counts."""

    def __init__(self, cache: ShardCache) -> None:
        self.cache, self.downloads = cache, 0

    def open(self, number: int, size: int = 1000) -> LocalShard:
        content, record = blob(number, size)
        return self.cache.open(record, self.writing(content), f"far://away/{number}")

    def writing(self, content: bytes) -> Callable[[Path], None]:
        def download(path: Path) -> None:
            self.downloads += 1
            path.write_bytes(content)

        return download

    def holds(self, number: int) -> bool:
        digest = blob(number)[1].xxh3_128
        return (self.cache.path / digest[:2] / digest).exists()


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(ShardCache(tmp_path / "cache", 3500))


def content_of(shard: LocalShard) -> bytes:
    content = bytearray(shard.size)
    assert shard.read_into(0, [content]) == shard.size
    return bytes(content)


def taken(cache: ShardCache) -> int:
    """Bytes in the cache at one moment: while files are counted, none is dropped for another."""
    cache.path.mkdir(parents=True, exist_ok=True)
    with locked(cache.path):
        return cache.held_bytes()


def files_in(cache: ShardCache) -> list[str]:
    return sorted(path.name for path in cache.path.rglob("*") if path.is_file() and path.name != "lock")


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


def test_threads_share_one_download(source: Source) -> None:
    content, record = blob(1)
    started = threading.Barrier(8)

    def read() -> bytes:
        started.wait()
        return content_of(source.cache.open(record, slowly, "far://away/1"))

    def slowly(path: Path) -> None:
        time.sleep(0.1)
        source.writing(content)(path)

    with ThreadPoolExecutor(8) as pool:
        assert {future.result() for future in [pool.submit(read) for _ in range(8)]} == {content}
    assert source.downloads == 1


def test_threads_share_the_failure_of_a_download(source: Source) -> None:
    tries = 0

    def download(path: Path) -> None:
        nonlocal tries
        tries += 1
        time.sleep(0.2)
        raise StoreError("the network is gone")

    def read() -> None:
        with pytest.raises(StoreError, match="the network is gone"):
            source.cache.open(blob(1)[1], download, "far://away/1")

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(read) for _ in range(4)]:
            future.result()
    assert tries == 1


def test_a_thread_that_is_interrupted_does_not_take_the_others_with_it(source: Source) -> None:
    waiting = threading.Event()

    def interrupted(path: Path) -> None:
        waiting.wait()
        time.sleep(0.05)
        raise KeyboardInterrupt

    def first() -> None:
        with pytest.raises(KeyboardInterrupt):
            source.cache.open(blob(1)[1], interrupted, "far://away/1")

    with ThreadPoolExecutor(2) as pool:
        stopped = pool.submit(first)
        time.sleep(0.05)
        other = pool.submit(source.open, 1)
        waiting.set()
        stopped.result()
        assert content_of(other.result()) == blob(1)[0]


def test_threads_that_need_more_than_there_is_never_exceed_the_bound(source: Source) -> None:
    def read(number: int) -> None:
        try:
            assert content_of(source.open(number)) == blob(number)[0]
        except NoRoomError:
            refused.append(number)
        assert taken(source.cache) <= source.cache.max_bytes

    refused: list[int] = []
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(100)))
    assert len(refused) < 100


def test_room_is_kept_for_downloads_of_others_but_not_for_those_of_the_dead(source: Source) -> None:
    def partial(number: int, age: float) -> Path:
        record = blob(number)[1]
        path = source.cache.path / record.xxh3_128[:2] / f".{record.xxh3_128}.{number:012x}.1000.partial"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (time.time() - age, time.time() - age))
        return path

    fresh, dead = partial(11, 5), partial(12, 5000)
    assert source.cache.held_bytes() == 2000
    source.open(1)
    source.open(2)
    assert fresh.exists()
    assert not dead.exists()
    source.open(3)
    assert fresh.exists()
    assert source.cache.held_bytes() == 3000


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


_READER = """
import sys
from pathlib import Path
from tests.store.test_cache import ShardCache, Source, blob, content_of
source = Source(ShardCache(Path(sys.argv[1]), int(sys.argv[2])))
for number in [*range(20)] * 2:
    assert content_of(source.open(number)) == blob(number)[0]
print(source.downloads)
"""


@pytest.mark.parametrize("max_bytes", [5000, 100_000])
def test_processes_share_one_cache(tmp_path: Path, max_bytes: int) -> None:
    cache = ShardCache(tmp_path / "cache", max_bytes)
    command = [sys.executable, "-c", _READER, str(cache.path), str(max_bytes)]
    readers = [subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE) for _ in range(2)]
    while any(reader.poll() is None for reader in readers):
        assert taken(cache) <= max_bytes
        time.sleep(0.005)
    downloads = [int(reader.communicate()[0]) for reader in readers]
    assert [reader.returncode for reader in readers] == [0, 0]
    names = files_in(cache)
    assert not any(name.endswith("partial") for name in names)
    if max_bytes == 100_000:
        assert len(names) == 20
        assert 20 <= sum(downloads) <= 40


def test_the_cache_is_where_and_as_large_as_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATURE_CACHE", str(tmp_path / "here"))
    monkeypatch.setenv("FEATURE_CACHE_SIZE", " 1.5 GB")
    cache = default_cache()
    assert cache is not None
    assert (cache.path, cache.max_bytes) == (tmp_path / "here", 1_500_000_000)
    monkeypatch.setenv("FEATURE_CACHE_SIZE", "0")
    assert default_cache() is None


def test_without_a_word_the_cache_follows_xdg_and_leaves_most_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.delenv("FEATURE_CACHE", raising=False)
    monkeypatch.delenv("FEATURE_CACHE_SIZE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    free = 50_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9 * free, 8 * free, free))
    cache = default_cache()
    assert cache is not None
    assert (cache.path, cache.max_bytes) == (tmp_path / "spatial-probing" / "shards", 5000)
    Source(cache).open(1)
    free -= 1000
    assert (again := default_cache()) is not None
    assert again.max_bytes == 5000
    free = 10**15
    assert (again := default_cache()) is not None
    assert again.max_bytes == 20 * 10**9
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert (again := default_cache()) is not None
    assert again.path == tmp_path / "home" / ".cache" / "spatial-probing" / "shards"


@pytest.mark.parametrize("text", ["much", "-1", "20 XB", "nan", "1e9", "20GB!", "iB", "1.GB", "²GB"])
def test_a_size_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("FEATURE_CACHE_SIZE", text)
    with pytest.raises(SettingError, match=r"FEATURE_CACHE_SIZE=.*sizes look like 20GB, 500MB or 0"):
        default_cache()


def test_a_cache_that_is_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEATURE_CACHE", str(tmp_path / "file"))
    with pytest.raises(SettingError, match=r"FEATURE_CACHE=.*is a file"):
        default_cache()


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("20GB", 20 * 10**9), ("500mb", 5 * 10**8), ("1.5TiB", 3 * 2**39), ("7", 7), ("2k", 2000), ("9 B", 9)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (27_525_120, "27.5 MB"), (999_600, "1 MB")]
)
def test_sizes_are_shown_with_three_digits(size: int, text: str) -> None:
    assert show_size(size) == text
