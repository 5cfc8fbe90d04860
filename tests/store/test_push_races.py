"""Two copies of one recipe go to one place behind a network at once, with values that differ in the last bits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import FeatureStore, StoreWriter
from store.digest import digest_bytes
from store.folder import Folder
from store.sharing.destination import Destination, destination
from store.sharing.objects import ObjectPlace
from store.sharing.remote import RemoteFolder
from store.sharing.requantise import requantise
from store.sharing.selection import Selection
from store.sharing.transfer import Transferred, transfer
from tests.store.conftest import Example
from tests.store.elsewhere import no_waiting  # noqa: F401
from tests.store.fake_hub import Hub, hub_server  # noqa: F401
from tests.store.servers import Bucket, s3_endpoint, s3_server  # noqa: F401


@pytest.fixture(params=["s3", "memory", "hub"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from _place(request)


@pytest.fixture(params=["s3", "memory"])
def objects(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from _place(request)


def _place(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param != "memory":
        yield f"{request.getfixturevalue(request.param).url}/toys"
        return
    from fsspec.implementations.memory import MemoryFileSystem

    yield "memory://races/toys"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def two(filled: Example, tmp_path: Path) -> tuple[FeatureStore, FeatureStore]:
    """The same recipe, computed twice."""
    other = Example(tmp_path / "other", filled.recipe, filled.clips, filled.values)
    other.create()
    with StoreWriter(other.path) as writer:
        for row, values in filled.values.items():
            writer.put(row, {**values, "wide": values["wide"] + 1})
    return FeatureStore.open(filled.path), FeatureStore.open(other.path)


@pytest.fixture
def two_int8(two: tuple[FeatureStore, FeatureStore], tmp_path: Path) -> tuple[FeatureStore, FeatureStore]:
    for number, store in enumerate(two):
        requantise(store, tmp_path / f"int8-{number}", "int8-channel", Selection(arrays=["wide"]))
    return FeatureStore.open(tmp_path / "int8-0"), FeatureStore.open(tmp_path / "int8-1")


def push(source: FeatureStore, target: str | Destination, **part: Any) -> Transferred:
    there = destination(target) if isinstance(target, str) else target
    try:
        return transfer(source, there, Selection(**part), threads=1)
    finally:
        there.close()


def before(target: Destination, part: str, call: Callable[[], object]) -> Destination:
    """Do something when the shard that has `part` in its name is about to be put."""
    put, done = target.put, []

    def putting(name: str, content: memoryview, path: Path | None) -> bool:
        if part in name and not done:
            done.append(name)
            held = bytes(content)  # another copy on this thread would fill the same buffer
            call()
            return put(name, memoryview(held), path)
        return put(name, content, path)

    target.put = putting  # type: ignore[method-assign]
    return target


def check(url: str) -> FeatureStore:
    """The manifest, its statistics and every byte agree."""
    folder: Folder = RemoteFolder(url, None)
    there = FeatureStore(folder)
    assert there.manifest is not None
    assert sorted(there.manifest.commits) == there.commits
    for row, arrays in there.committed.items():
        for name, record in arrays.items():
            content = folder.read(there.arrays[name].shard(row), 1 << 20)
            assert (len(content), digest_bytes(content)) == (record.size, record.xxh3_128), (row, name)
            if there.arrays[name].dtype != "bfloat16":
                assert record.maximum == pytest.approx(there.read(name, row, verify=True).max(), rel=1e-6)
    return there


def test_the_first_of_two_copies_wins_and_the_other_commits_what_is_there(
    two: tuple[FeatureStore, FeatureStore], url: str
) -> None:
    """A puts and commits row 0, B row 1; then each meets the other's. B began before A had committed anything."""
    a, b = two
    push(a, url, arrays=["slot"], limit=1)
    first = before(destination(url), "wide/c.1", lambda: push(b, before(destination(url), "wide/c.0", inner)))

    def inner() -> None:
        push(a, url, clips=["clip0"])

    done = push(a, first)
    assert not done.failed
    there = check(url)
    np.testing.assert_array_equal(there.read("wide", 0), a.read("wide", 0))
    np.testing.assert_array_equal(there.read("wide", 1), b.read("wide", 1))
    assert done.kept >= 1
    assert done.shards + done.shards_there + done.kept == 15


def test_the_last_to_finish_writes_what_the_commits_say(two: tuple[FeatureStore, FeatureStore], url: str) -> None:
    """A puts and commits everything, B meets it all; then A finishes last, with what it remembers."""
    a, b = two
    push(a, url, arrays=["slot"], limit=1)
    slow = destination(url)
    finish = slow.finish

    def later(there: FeatureStore) -> Any:
        push(b, url)
        return finish(there)

    slow.finish = later  # type: ignore[method-assign]
    push(a, slow)
    check(url)


def test_a_shard_that_another_copy_has_put_is_committed_with_its_own_digest(
    two: tuple[FeatureStore, FeatureStore], objects: str
) -> None:
    """The other copy was stopped before its commit."""
    a, b = two
    stopped = destination(objects)

    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    stopped.commit = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        push(b, stopped, arrays=["wide"], clips=["clip0"])
    assert not FeatureStore.open(objects).committed
    done = push(a, objects)
    assert (done.kept, done.shards, done.failed) == (1, 14, [])
    np.testing.assert_array_equal(check(objects).read("wide", 0), b.read("wide", 0))


def test_a_damaged_shard_that_nobody_committed_is_replaced(
    two: tuple[FeatureStore, FeatureStore], objects: str
) -> None:
    a, _ = two
    push(a, objects, arrays=["slot"])
    folder, name = RemoteFolder(objects, None), a.arrays["wide"].shard(0)
    content = (a.path / name).read_bytes()
    for damaged in (content[:40] + bytes([content[40] ^ 1]) + content[41:], content[:-9], b"", content * 9):
        folder.write(name, [damaged])
        done = push(a, objects, arrays=["wide"], clips=["clip0"])
        assert (done.kept, done.shards, done.failed) == (0, 1, [])
        check(objects)
        for commit in folder.names("commits") or ():
            _remove(f"{objects}/commits/{commit}")
        _remove(f"{objects}/manifest.json")


def _remove(url: str) -> None:
    import fsspec  # type: ignore[import-untyped]

    fsspec.filesystem(url.partition("://")[0], skip_instance_cache=True).rm(url)


def test_values_do_not_meet_the_scales_of_another_copy(
    two_int8: tuple[FeatureStore, FeatureStore], objects: str
) -> None:
    """While only the other's scales are there the clip fails; once its values are, they are taken."""
    a, b = two_int8
    failed: list[Transferred] = []
    done = push(a, before(destination(objects), "wide/c.1", lambda: failed.append(push(b, objects, clips=["clip1"]))))
    assert not done.failed
    assert [(clip, array) for clip, array, _ in failed[0].failed] == [("clip1", "wide")]
    assert "not there yet. Run the same command again once that copy is complete" in failed[0].failed[0][2]
    there = check(objects)
    assert len(there.committed) == 3
    for row in range(3):
        np.testing.assert_array_equal(there.read("wide", row), a.read("wide", row))
    again = push(b, objects)
    assert (again.kept, again.shards, again.failed) == (6, 0, [])


def test_scales_and_values_of_another_copy_are_taken_together(
    two_int8: tuple[FeatureStore, FeatureStore], url: str
) -> None:
    a, b = two_int8
    push(a, url, clips=["clip2"])
    done = push(b, before(destination(url), "wide~scale/c.0", lambda: push(a, url, clips=["clip0"])))
    assert (done.kept, done.failed) == (4, [])
    assert done.shards == 2
    there = check(url)
    np.testing.assert_array_equal(there.read("wide", 0), a.read("wide", 0))
    np.testing.assert_array_equal(there.read("wide", 1), b.read("wide", 1))


def test_scales_that_lie_on_the_hub_without_their_values_fail_the_clip(
    two_int8: tuple[FeatureStore, FeatureStore], hub: Hub
) -> None:
    a, b = two_int8
    push(a, hub.url, clips=["clip2"])
    scale = a.arrays["wide~scale"].shard(0)
    hub.files[scale] = (a.path / scale).read_bytes()
    done = push(b, hub.url)
    assert (done.shards, done.kept, len(done.failed)) == (2, 2, 1)
    assert sorted(check(hub.url).committed) == [1, 2]


def test_a_commit_that_arrives_between_the_look_and_ours_is_not_overwritten(
    two: tuple[FeatureStore, FeatureStore], hub: Hub
) -> None:
    a, b = two
    push(a, hub.url, arrays=["slot"], limit=1)
    push(a, hub.url, arrays=["early", "late@t5", "wide", "label"], limit=1)

    def other() -> None:
        push(b, hub.url, arrays=["wide"], clips=["clip1"])

    hub.before = other
    done = push(a, hub.url)
    assert (done.kept, done.shards, done.shards_there, done.failed) == (1, 9, 5, [])
    there = check(hub.url)
    np.testing.assert_array_equal(there.read("wide", 1), b.read("wide", 1))
    np.testing.assert_array_equal(there.read("wide", 2), a.read("wide", 2))


def test_a_store_that_appears_on_the_hub_meanwhile_is_joined(two: tuple[FeatureStore, FeatureStore], hub: Hub) -> None:
    a, b = two
    hub.before = lambda: push(b, hub.url)
    recipe = (b.path / "recipe.json").read_bytes()
    done = push(a, hub.url)
    assert (done.shards_there, done.kept) == (12, 3)
    assert hub.files["recipe.json"] == recipe
    check(hub.url)


def test_two_puts_of_one_name_at_once_on_s3_leave_the_first(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither sees the other when it looks."""
    place = ObjectPlace(f"{s3.url}/lab")

    def nothing(*args: Any) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(place, "_range", nothing)
    assert place.create("shard", b"first")
    assert not place.create("shard", b"second")
    assert ObjectPlace(f"{s3.url}/lab").read("shard", 9) == b"first"


def test_a_server_that_knows_no_conditions_is_written_to_with_a_warning(
    s3: Bucket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = ObjectPlace(f"{s3.url}/lab")
    pipe = place._fs.pipe_file

    class UnknownError(OSError):
        status = 501

    def refusing(*args: Any, mode: str = "overwrite") -> None:
        if mode == "create":
            raise UnknownError
        pipe(*args)

    monkeypatch.setattr(place._fs, "pipe_file", refusing)
    with caplog.at_level(logging.WARNING):
        assert place.create("shard", b"first")
    assert "only one writer may work at a time" in caplog.text
    assert not place.create("shard", b"second")
    assert place.read("shard", 9) == b"first"


def test_commits_of_this_push_are_not_read_again(two: tuple[FeatureStore, FeatureStore], hub: Hub) -> None:
    push(two[0], hub.url)
    assert hub.behaviour.count("/resolve/main/commits/") == 0
