"""Files that may not be read, and disks that fail: an error that names the file, and no sound shard is replaced."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store import CorruptShardError, FeatureStore, FormatError, StoreError, StoreWriter
from tests.store.truth import files, readings, table, values, whole, write

CLIPS = 3


@pytest.fixture
def anybody() -> Iterator[Path]:
    """A folder for somebody whom permissions bind; they do not bind root."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def bound() -> Iterator[Callable[[], None]]:
    def become() -> None:
        if os.geteuid() == 0:
            os.seteuid(65534)

    user = os.geteuid()
    yield become
    os.seteuid(user)


def test_a_store_of_somebody_else_is_read(anybody: Path, bound: Callable[[], None]) -> None:
    whole(anybody / "known", CLIPS)
    for folder, _, _ in os.walk(anybody):
        Path(folder).chmod(0o555)
    bound()
    assert len(readings(anybody / "known")) == CLIPS
    with pytest.raises(StoreError, match=r"cannot be written \(Permission denied\)"):
        write(anybody / "known", [0])


READ = [
    "recipe.json",
    "clips.json",
    "features.zarr",
    "features.zarr/half/c.0.*",
    "features.zarr/label/c.0.*",
    "commits",
]


@pytest.mark.parametrize(
    ("closed", "pattern"),
    [
        *((True, pattern) for pattern in [*READ, "manifest.json", "manifest-*.table", "features.zarr/zarr.json"]),
        *((False, pattern) for pattern in [*READ, "features.zarr/half/zarr.json", "commits/000000-*"]),
    ],
)
def test_a_file_that_may_not_be_read_is_named(
    closed: bool, pattern: str, anybody: Path, bound: Callable[[], None]
) -> None:
    path = anybody / "known"
    whole(path, CLIPS)
    if not closed:
        for name in path.glob("manifest*"):
            name.unlink()
    (place,) = path.glob(pattern)
    place.chmod(0)
    bound()
    with pytest.raises(StoreError, match="Permission denied") as caught:
        readings(path)
    assert str(place) in str(caught.value)


@pytest.mark.parametrize("array", ["half", "label"])
def test_a_disk_that_fails_is_told_apart_from_a_wrong_value(
    array: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "known"
    whole(path, CLIPS)
    shard = FeatureStore.open(path).info(array).shard(0)

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    fresh, listed, opened = (FeatureStore.open(path) for _ in range(3))
    listed.rows(arrays=[array])
    opened.read(array, 0)
    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(FormatError, match=r"table cannot be read \(Input/output error\)"):
        fresh.read(array, 0)
    for each in (listed, opened):
        with pytest.raises(CorruptShardError, match=rf"{shard}: cannot be read \(Input/output error\)"):
            each.read(array, 0)


def test_a_shard_that_cannot_be_read_now_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "known"
    whole(path, CLIPS)
    before = files(path)

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    store = StoreWriter(path)
    monkeypatch.setattr(os, "preadv", fail)
    store.put(0, values(table(CLIPS)[0], writer=1))
    with pytest.raises(StoreError, match="is there, but cannot be read"):
        store.close()
    assert files(path) == before
