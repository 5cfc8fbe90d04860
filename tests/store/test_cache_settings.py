"""Where the cache is and how large it may be, as people write it into the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.errors import SettingError
from store.sharing.settings import default_cache
from store.sizes import parse_size, show_size
from tests.store.blobs import Source


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
