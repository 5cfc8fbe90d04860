"""One cache for many threads and processes: no download twice, no bound exceeded, nobody waits for the dead."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store.errors import StoreError
from store.sharing.cache import NoRoomError, ShardCache
from tests.store.blobs import Source, blob, content_of, files_in, source_of_blobs, taken  # noqa: F401

PROJECT = Path(__file__).parents[2]


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


_READER = """
import sys
from pathlib import Path
from store.sharing.cache import ShardCache
from tests.store.blobs import Source, blob, content_of
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
