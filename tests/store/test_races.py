"""Many processes in one store: nothing is lost, nothing is mixed up, and no reader sees anything by halves."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from store import FeatureStore, FormatError, StoreWriter, finalize
from store.commits import commit_names, read_commits
from store.shard import encode_shard
from store.upkeep.verify import verify
from tests.store.processes import CONTEXT, start
from tests.store.truth import (
    NAMES,
    SPECS,
    check_committed,
    files,
    is_from,
    make,
    readings,
    table,
    tap,
    values,
    whole,
    write,
)
from tests.store.workers import close_often, join, overwrite, watch

LONG = (pytest.mark.long, pytest.mark.timeout(900))
WRITERS = range(4)


@pytest.mark.parametrize(("clips", "rounds"), [(12, 1), pytest.param(40, 10, marks=LONG)])
def test_writers_of_the_same_rows_with_different_values(clips: int, rounds: int, tmp_path: Path) -> None:
    """Four writers, two readers and two that finalize: half of the rows are written by all writers, half by one."""
    rng = np.random.default_rng(0)
    for number in range(rounds):
        path = tmp_path / str(number) / "known"
        path.parent.mkdir()
        make(path, clips)
        begin, end = CONTEXT.Barrier(8), CONTEXT.Event()
        receiver, sender = CONTEXT.Pipe(duplex=False)
        others = [start(watch, path, begin, end, sender) for _ in range(2)]
        others += [start(close_often, path, begin, end) for _ in range(2)]
        writers = []
        for writer in WRITERS:
            rows = [row for row in rng.permutation(clips).tolist() if row % 2 == 0 or row // 2 % 4 == writer]
            writers.append(start(overwrite, path, rows, writer, begin))
        for process in writers:
            process.join()
        end.set()
        for process in others:
            process.join()
        assert [process.exitcode for process in (*writers, *others)] == [0] * 8
        for _ in range(2):
            assert max(receiver.recv()) == clips
        assert check_committed(path) == clips
        assert_each_array_is_from_one_writer(path)
        assert_all_commits_say_the_same(path)
        assert {name.partition("/")[0] for name in files(path)} >= {"manifest.json", "features.zarr"}
        assert not list(path.rglob("*.partial"))
        finalize(FeatureStore.open(path))
        assert not verify(path, deep=True).bad


def assert_each_array_is_from_one_writer(path: Path) -> None:
    """Every array of a clip is what one of its writers computed; where there was only one, it is that one's."""
    store = FeatureStore.open(path)
    firsts = set()
    for row in range(len(store.clips)):
        for name in NAMES:
            found = [writer for writer in WRITERS if is_from(store, name, row, writer)]
            assert len(found) == 1, (name, row)
            assert row % 2 == 0 or found == [row // 2 % 4]
            firsts.update(found)
    assert firsts == set(WRITERS)


def assert_all_commits_say_the_same(path: Path) -> None:
    folder = FeatureStore.open(path).folder
    said: dict[int, object] = {}
    commits = read_commits(folder, commit_names(folder) or ())
    for commit in commits:
        assert said.setdefault(commit.row, commit.arrays) == commit.arrays
    assert len(commits) > len(said), "no row was written twice"


def test_int8_values_always_belong_to_the_scales_beside_them(tmp_path: Path) -> None:
    """The second writer finds the first one's scales, but not yet its values: it must divide by those scales."""
    path = tmp_path / "known"
    make(path, 1)
    write(path, [0], writer=0)
    store = FeatureStore.open(path)
    scale = store.scale("byte", 0)
    (path / store.info("byte").shard(0)).unlink()
    for commit in (path / "commits").iterdir():
        commit.unlink()
    write(path, [0], writer=3)
    store = FeatureStore.open(path)
    assert np.array_equal(store.scale("byte", 0), scale)
    assert is_from(store, "byte", 0, 3)
    assert not is_from(store, "byte", 0, 0)
    truth = store.read("byte", 0)
    record = store.committed[0]["byte"]
    np.testing.assert_allclose([record.minimum, record.maximum], [truth.min(), truth.max()], rtol=1e-6)


def test_the_second_writer_commits_what_the_first_one_wrote(tmp_path: Path) -> None:
    path = tmp_path / "known"
    whole(path, 2)
    before = {name: content for name, content in files(path).items() if name.startswith("features.zarr/")}
    record = FeatureStore.open(path).committed[1]
    for commit in (path / "commits").iterdir():
        commit.unlink()
    write(path, [0, 1], writer=1)
    after = files(path)
    assert {name: after[name] for name in before} == before
    assert FeatureStore.open(path).committed[1] == record


def test_a_shard_of_nan_that_nobody_committed_is_replaced(tmp_path: Path) -> None:
    """Our writer writes none. Whatever left it there, its checksums are right, and no commit may hold it."""
    path = tmp_path / "known"
    make(path, 1)
    info = FeatureStore.open(path).info("half")
    shard = path / info.shard(0)
    bank = len(FeatureStore.open(path).clips[0].bank)
    shard.write_bytes(b"".join(encode_shard(np.full((bank, *info.shape[2:]), np.nan, info.physical), info).buffers))
    write(path, [0], writer=1)
    assert is_from(FeatureStore.open(path), "half", 0, 1)
    assert not verify(path, deep=True).bad


@pytest.mark.parametrize("rounds", [2, pytest.param(40, marks=LONG)])
def test_processes_that_add_different_arrays_at_once_lose_none(rounds: int, tmp_path: Path) -> None:
    asked = [[*SPECS[n:], *SPECS[:n], tap(f"own{n}", "int8-channel", 9 + n)] for n in WRITERS]
    for number in range(rounds):
        path = tmp_path / str(number) / "known"
        begin = CONTEXT.Barrier(len(asked))
        processes = [start(join, path, 3, specs, begin) for specs in asked]
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * len(asked)
        store = FeatureStore.open(path)
        for specs in asked:
            for spec in specs:
                assert store.arrays[spec.name].spec() == spec
        assert len(store.arrays) == len(SPECS) + 1 + 2 * len(asked)
        assert not list(path.parent.rglob("*.partial"))


def test_whoever_loses_the_race_for_a_name_hears_that_the_array_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "known"
    make(path, 2, [])
    rename = os.rename

    def overtaken(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        make(path, 2, [tap("contested", "float32", 0)])
        rename(source, target)

    monkeypatch.setattr(os, "rename", overtaken)
    with pytest.raises(FormatError, match=r"dtype: 'float32' there, 'float16' asked for"):
        make(path, 2, [tap("contested", "float16", 0)])
    assert FeatureStore.open(path).info("contested").dtype == "float32"
    assert not list(path.rglob("*.partial"))


def test_two_that_finalize_an_old_store_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "known"
    whole(path, 3)
    (old,) = path.glob("manifest-*.table")
    os.utime(old, (0, 0))
    slow = FeatureStore.open(path)
    make(path, 3, [*SPECS, tap("more", "float16", 9)])
    with StoreWriter(path) as writer:
        writer.put(0, {"more": values(table(3)[0])["half"]})
    finalize(FeatureStore.open(path))
    old.unlink()  # as a day later
    finalize(slow)
    assert slow.read("half", 0, verify=True).shape == (4, 2, 3, 5)
    assert readings(path)[0].keys() == {*NAMES, "byte~scale", "more"}


def test_an_old_table_may_be_deleted_by_another_process_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "known"
    whole(path, 3)
    old = path / f"manifest-{'0' * 32}.table"
    old.touch()

    def late() -> float:
        old.unlink(missing_ok=True)
        return 1e10

    monkeypatch.setattr("store.upkeep.finalize.time.time", late)
    finalize(FeatureStore.open(path))
    assert not old.exists()


def test_a_store_opens_while_another_process_puts_a_new_manifest_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is read, replaced together with its table, and only then the table is opened."""
    from store.folder import LocalFolder

    path = tmp_path / "known"
    make(path, 3)
    write(path, [0])
    finalize(FeatureStore.open(path))
    (old,) = path.glob("manifest-*.table")
    opened = LocalFolder.open

    def late(self: LocalFolder, name: str, record: object) -> object:
        if name == old.name:
            monkeypatch.setattr(LocalFolder, "open", opened)
            write(path, [1])
            finalize(FeatureStore.open(path))
            old.unlink()
        return opened(self, name, record)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalFolder, "open", late)
    assert FeatureStore.open(path).rows() == [0, 1]


def test_what_an_interrupted_consolidation_leaves_does_not_close_the_store(tmp_path: Path) -> None:
    """zarr-python names its drafts without a leading dot."""
    path = tmp_path / "known"
    whole(path, 2)
    (path / "features.zarr" / f"zarr.{'0' * 32}.partial").write_bytes(b"{")
    assert len(readings(path)) == 2


def test_a_shard_that_is_taken_back_while_it_is_met_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "known"
    make(path, 1)
    write(path, [0])
    link = os.link

    def late(source: Path, target: Path) -> None:
        try:
            link(source, target)
        except FileExistsError:
            target.unlink()
            raise

    monkeypatch.setattr(os, "link", late)
    write(path, [0], writer=1, threads=1)
    store = FeatureStore.open(path)
    assert all(is_from(store, name, 0, 1) for name in NAMES)
