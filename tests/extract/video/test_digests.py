"""Remembered digests: a large file is read once, and again whenever it may have changed."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from extract.checkpoints import digests
from extract.checkpoints.digests import digest_weights
from store.digest import digest_files

LATER = 10.0


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a few bytes count as large, and as written a while ago."""
    monkeypatch.setattr(digests, "_SMALL", 10)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + LATER)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files that were read, in order."""
    names: list[str] = []
    original = digests.digest_file

    def digest_file(path: Path) -> str:
        names.append(path.name)
        return original(path)

    monkeypatch.setattr(digests, "digest_file", digest_file)
    return names


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint" / "unet" / "weights"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a" * 100)
    os.utime(path, (1, 1))
    return path


def digest(file: Path) -> str:
    return digest_weights(file.parents[1], [file])


def memos(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "cache" / "spatial-probing" / "digests"
    return sorted(folder.iterdir()) if folder.is_dir() else []


# --- the value ----------------------------------------------------------------------------------


@pytest.mark.parametrize("small", [10, 1 << 24])
def test_it_is_the_digest_of_the_files(file: Path, monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    monkeypatch.setattr(digests, "_SMALL", small)
    root = file.parents[1]
    other = root / "config"
    other.write_bytes(b"")
    files = [file, other]
    for _ in range(2):  # read, and remembered
        assert digest_weights(root, files) == digest_weights(root, reversed(files)) == digest_files(root, files)
    assert digest_weights(root, [file]) != digest_weights(root, files)
    assert digest_weights(root.parent, files) != digest_weights(root, files)  # names count


# --- remembered ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("large")
def test_a_large_file_is_read_once(file: Path, read: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        first = digest(file)
    assert [f"reading {file}" in record.message for record in caplog.records] == [True]
    assert digest(file) == first
    assert read == ["weights"]


def test_a_small_file_is_read_each_time(file: Path, read: list[str], tmp_path: Path) -> None:
    assert digest(file) == digest(file)
    assert read == ["weights"] * 2
    assert memos(tmp_path) == []


@pytest.mark.usefixtures("large")
def test_a_link_into_the_hubs_cache_is_known_by_what_it_points_to(file: Path, read: list[str], tmp_path: Path) -> None:
    first = digest(file)
    links = tmp_path / "snapshot" / "unet"
    links.mkdir(parents=True)
    (links / "weights").symlink_to(file)
    assert digest(links / "weights") == first
    assert read == ["weights"]


def rewrite(file: Path) -> None:
    file.write_bytes(b"b" * 100)


def lengthen(file: Path) -> None:
    file.write_bytes(b"a" * 101)


def rewrite_and_hide(file: Path) -> None:
    """The same size, and the old time of change of the content."""
    before = file.stat()
    time.sleep(0.05)  # more than a tick of the clock that files are stamped by
    file.write_bytes(b"b" * 100)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(file: Path) -> None:
    """Another file, moved to the same place, of the same size and time."""
    other = file.with_name("other")
    other.write_bytes(b"b" * 100)
    shutil.copystat(file, other)
    other.rename(file)


def touch(file: Path) -> None:
    os.utime(file, (2, 2))


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("change", [rewrite, lengthen, rewrite_and_hide, replace, touch])
def test_a_file_that_may_have_changed_is_read_again(
    file: Path, read: list[str], change: Callable[[Path], None]
) -> None:
    first = digest(file)
    change(file)
    second = digest(file)
    assert read == ["weights"] * 2
    assert second == digest_files(file.parents[1], [file])
    assert (second == first) == (change is touch)
    assert digest(file) == second
    assert read == ["weights"] * 2  # and remembered anew


@pytest.mark.parametrize("field", ["size", "ino", "mtime_ns", "ctime_ns"])
@pytest.mark.usefixtures("large")
def test_every_part_of_the_stamp_counts(file: Path, read: list[str], tmp_path: Path, field: str) -> None:
    digest(file)
    (memo,) = memos(tmp_path)
    entry = json.loads(memo.read_bytes())
    stamp = entry["file"].split(":")
    stamp[["size", "ino", "mtime_ns", "ctime_ns"].index(field)] += "1"
    memo.write_text(json.dumps(entry | {"file": ":".join(stamp)}))
    digest(file)
    assert read == ["weights"] * 2


def test_a_file_that_was_just_written_is_not_remembered(
    file: Path, read: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Within the resolution of a time stamp it could be written again, and look the same."""
    monkeypatch.setattr(digests, "_SMALL", 10)
    digest(file)  # its content has an old time, as a copy may have; the file itself is new
    assert memos(tmp_path) == []
    rewrite(file)
    digest(file)
    assert memos(tmp_path) == []
    assert read == ["weights"] * 2


@pytest.mark.usefixtures("large")
def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = digests.digest_file

    def meanwhile(path: Path) -> str:
        found = original(path)
        lengthen(path)
        return found

    monkeypatch.setattr(digests, "digest_file", meanwhile)
    digest(file)
    assert memos(tmp_path) == []


# --- never in the way ---------------------------------------------------------------------------


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-3],
        lambda text: "[]",
        lambda text: "null",
        lambda text: "{}",
        lambda text: '{"file": 1}',
        lambda text: json.dumps(json.loads(text) | {"digest": None}),
        lambda text: json.dumps(json.loads(text) | {"digest": "0"}),
        lambda text: json.dumps(json.loads(text) | {"digest": "../" + "0" * 29}),
        lambda text: "\udcff",
    ],
)
def test_a_damaged_memo_is_ignored_and_mended(
    file: Path, read: list[str], tmp_path: Path, damage: Callable[[str], str]
) -> None:
    first = digest(file)
    (memo,) = memos(tmp_path)
    sound = memo.read_bytes()
    memo.write_bytes(damage(sound.decode()).encode(errors="surrogateescape"))
    assert digest(file) == first
    assert read == ["weights"] * 2
    assert memo.read_bytes() == sound


@pytest.mark.usefixtures("large")
def test_a_memo_that_cannot_be_written_costs_only_time(file: Path, read: list[str], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the cache should be")
    assert digest(file) == digest(file) == digest_files(file.parents[1], [file])
    assert read == ["weights"] * 2


def test_a_missing_file_is_an_error(file: Path) -> None:
    file.unlink()
    with pytest.raises(FileNotFoundError):
        digest(file)
