"""A full disk at any moment, and a disk that may not be written to: what was there stays, and the work can go on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from store import (
    FeatureStore,
    StorageFullError,
    StoreError,
    StoreWriter,
    finalize,
    finalize_if_stale,
)
from store.upkeep.verify import verify
from tests.store.truth import NAMES, SPECS, assert_same_store, files, make, readings, table, tap, values, whole, write

CLIPS = 3
PAGE = 4096
LARGE = tap("large", "float32", 5, (16, 16, 8))
"""A shard of it takes nine pages, so that a disk can be full in the middle."""


class TinyDisk:
    """A file system with room for little, in bytes or in files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def leave(self, pages: int | None = None, files: int | None = None) -> None:
        """Fill it up to some pages, or up to some files."""
        self.empty()
        self._filler.mkdir()
        if files is not None:
            for number in range(os.statvfs(self.path).f_favail - files):
                (self._filler / str(number)).touch()
        if pages is not None:
            size = (os.statvfs(self.path).f_bavail - pages) * PAGE
            with (self._filler / "pages").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)

    def empty(self) -> None:
        shutil.rmtree(self._filler, ignore_errors=True)

    def remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[TinyDisk]:
    mount = tmp_path / "disk"
    mount.mkdir()
    options = f"size={200 * PAGE},nr_inodes=160"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(mount)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield TinyDisk(mount)
    finally:
        subprocess.run(["umount", str(mount)], check=True)


@pytest.fixture(params=["pages", "files"])
def shrink(request: pytest.FixtureRequest, disk: TinyDisk) -> Callable[[Callable[[], None]], Iterator[None]]:
    """Try something with room for nothing, for one page (or file) more, and so on, until it goes well."""

    def attempts(work: Callable[[], None]) -> Iterator[None]:
        for left in range(100):
            disk.leave(**{request.param: left})
            try:
                work()
            except StorageFullError:
                yield
            else:
                assert left > 1
                disk.empty()
                return
        raise AssertionError("it takes more than a hundred")

    return attempts


Shrink = Callable[[Callable[[], None]], Iterator[None]]


def test_a_full_disk_while_a_store_is_made(disk: TinyDisk, shrink: Shrink, tmp_path: Path) -> None:
    path = disk.path / "model" / "known"
    for _ in shrink(lambda: make(path, CLIPS, [])):
        assert not path.exists()
    whole(path, CLIPS)
    whole(tmp_path / "elsewhere" / "known", CLIPS)
    assert_same_store(path, tmp_path / "elsewhere" / "known")


def test_a_full_disk_while_arrays_are_added(disk: TinyDisk, shrink: Shrink) -> None:
    path = disk.path / "known"
    whole(path, CLIPS)
    before, held = files(path), readings(path)
    more = [*SPECS, LARGE, tap("other", "int8-channel", 6)]
    for _ in shrink(lambda: make(path, CLIPS, more)):
        assert files(path) == before  # threads of zarr-python may still put something into a draft that is given up
        assert_equal(readings(path), held)
    assert {*NAMES, "byte~scale", "large", "other", "other~scale"} == set(FeatureStore.open(path).arrays)


def test_a_full_disk_while_clips_are_written(
    disk: TinyDisk, shrink: Shrink, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """In the middle of a shard, between two, and at the commit."""
    path, elsewhere = disk.path / "known", tmp_path / "known"
    clip = table(CLIPS)[1]
    new = values(clip) | {"large": np.random.default_rng(0).normal(size=(4, 16, 16, 8)).astype(np.float32)}
    for place in (path, elsewhere):
        make(place, CLIPS, [*SPECS, LARGE])
        write(place, [0])
    held, published = readings(path), set()

    def put() -> None:
        with StoreWriter(path, threads=1) as writer:
            writer.put(1, new)

    for _ in shrink(put):
        assert FeatureStore.open(path).rows() == [0]
        assert_equal(readings(path), held)
        assert not list(path.rglob("*.partial"))
        shards = list(path.glob("features.zarr/*/c.1.*"))
        published.add(len(shards))
        for shard in shards:
            shard.unlink()
    # A shard takes a second entry while it is published, so where the last one finds room, the commit does, too.
    moments = 8 if request.node.callspec.params["shrink"] == "pages" else 7
    assert published == set(range(moments)), "there was a moment at which the disk never was full"
    with StoreWriter(elsewhere) as writer:
        writer.put(1, new)
    for place in (path, elsewhere):
        write(place, [2])
        finalize(FeatureStore.open(place))
    assert_same_store(path, elsewhere)


def test_a_full_disk_while_a_store_is_closed(disk: TinyDisk, shrink: Shrink, tmp_path: Path) -> None:
    path = disk.path / "known"
    make(path, CLIPS)
    write(path, range(CLIPS))
    held = readings(path)
    for _ in shrink(lambda: finalize(FeatureStore.open(path))):
        assert_equal(readings(path), held)
        assert not verify(path, deep=True).bad
        assert not list(path.rglob("*.partial"))
    whole(tmp_path / "known", CLIPS)
    assert_same_store(path, tmp_path / "known")


def test_a_writer_goes_on_when_there_is_room_again(disk: TinyDisk) -> None:
    path = disk.path / "known"
    make(path, CLIPS)
    with StoreWriter(path) as writer:
        disk.leave(pages=1)
        writer.put(0, values(table(CLIPS)[0]))
        with pytest.raises(StorageFullError, match=r"no room left.*run the same command again"):
            writer.flush()
        disk.empty()
        for clip in table(CLIPS):
            writer.put(clip.row, values(clip))
    assert FeatureStore.open(path).rows() == list(range(CLIPS))
    assert not verify(path, deep=True).bad


def test_a_store_that_may_not_be_written_to_is_read_joined_and_found_closed(disk: TinyDisk) -> None:
    path = disk.path / "known"
    whole(path, CLIPS)
    before, held = files(path), readings(path)
    disk.remount("ro")
    try:
        assert_equal(readings(path), held)
        assert not verify(path, deep=True).bad
        make(path, CLIPS)
        finalize_if_stale(path)
        for refused in (
            lambda: write(path, [0]),
            lambda: finalize(FeatureStore.open(path)),
            lambda: make(path, CLIPS, [LARGE]),
            lambda: make(path.with_name("other"), CLIPS),
        ):
            with pytest.raises(StoreError, match="Read-only file system"):
                refused()
    finally:
        disk.remount("rw")
    assert files(path) == before


def assert_equal(found: dict[int, dict[str, np.ndarray]], expected: dict[int, dict[str, np.ndarray]]) -> None:
    assert found.keys() == expected.keys()
    for row, arrays in expected.items():
        assert found[row].keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[row][name], array, strict=True)
