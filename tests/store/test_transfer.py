"""Copies, whole and in part, between all places: the same store, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store.sharing.destination as places
from store import (
    FeatureStore,
    FormatError,
    MissingClipError,
    RecipeMismatchError,
    StoreError,
    StoreWriter,
    UnknownArrayError,
    finalize,
)
from store.commits import read_commit
from store.digest import digest_file
from store.documents import seal, unseal
from store.errors import NotWritableError, RemoteError, StorageFullError
from store.files import write_once
from store.folder import LocalFolder
from store.manifest import load_manifest
from store.sharing import upload, upload_hub
from store.sharing.destination import LocalDestination, destination
from store.sharing.requantise import requantise
from store.sharing.selection import Selection
from store.sharing.transfer import Transferred, transfer
from tests.store.conftest import SPECS, Example
from tests.store.fake_hub import Hub, hub_server  # noqa: F401
from tests.store.servers import Bucket, Served, s3_endpoint, s3_server, web_server  # noqa: F401

PROJECT = Path(__file__).parents[2]
ARRAYS = ["early", "label", "late@t5", "slot", "wide"]


def copy(source: Path | str, target: Path | str, selection: Selection | None = None, **options: Any) -> Transferred:
    to = destination(target)
    try:
        return transfer(FeatureStore.open(source), to, selection, **options)
    finally:
        to.close()


def shards(path: Path) -> dict[str, bytes]:
    group = path / "features.zarr"
    return {str(file.relative_to(group)): file.read_bytes() for file in sorted(group.rglob("c.*"))}


def assert_equal_stores(left: FeatureStore, right: FeatureStore, arrays: list[str], rows: list[int]) -> None:
    assert left.fingerprint == right.fingerprint
    assert left.clips == right.clips
    for row in rows:
        for array in arrays:
            assert right.committed[row][array] == left.committed[row][array]
            np.testing.assert_array_equal(right.read(array, row, verify=True), left.read(array, row))


def test_a_copy_is_the_same_store(filled: Example, tmp_path: Path) -> None:
    done = copy(filled.path, tmp_path / "copy")
    assert (done.clips, done.shards, done.shards_there, done.kept, done.failed) == (3, 15, 0, 0, [])
    assert done.bytes == sum(len(content) for content in shards(filled.path).values())
    assert shards(tmp_path / "copy") == shards(filled.path)
    for name in ("recipe.json", "clips.json", "provenance.json", "features.zarr/bank_frame/c/0/0"):
        assert (tmp_path / "copy" / name).read_bytes() == (filled.path / name).read_bytes()
    for name in (*ARRAYS, "bank_frame"):
        file = f"features.zarr/{name}/zarr.json"
        assert (tmp_path / "copy" / file).read_bytes() == (filled.path / file).read_bytes()
    assert_equal_stores(FeatureStore.open(filled.path), FeatureStore.open(tmp_path / "copy"), ARRAYS, [0, 1, 2])
    assert load_manifest(LocalFolder(tmp_path / "copy"), done_fingerprint(filled), 3) is not None
    assert not list(tmp_path.rglob("*.partial"))


def done_fingerprint(example: Example) -> str:
    return example.recipe.fingerprint


def test_the_group_of_a_copy_is_the_one_that_the_store_was_made_with(filled: Example, tmp_path: Path) -> None:
    """Before it is finalized, also if the source was: `verify` compares it with recipe.json."""
    made = digest_file(filled.path / "features.zarr" / "zarr.json")
    finalize(FeatureStore.open(filled.path))
    assert digest_file(filled.path / "features.zarr" / "zarr.json") != made
    target = LocalDestination(tmp_path / "copy")
    target.finish = lambda there: ()  # type: ignore[method-assign]
    transfer(FeatureStore.open(filled.path), target)
    assert digest_file(tmp_path / "copy" / "features.zarr" / "zarr.json") == made


def test_a_copy_again_copies_nothing(filled: Example, tmp_path: Path) -> None:
    copy(filled.path, tmp_path / "copy")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "copy").rglob("*") if file.is_file()}
    done = copy(filled.path, tmp_path / "copy")
    assert (done.shards, done.shards_there) == (0, 15)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "copy").rglob("*") if file.is_file()} == before


def test_a_part_is_the_same_store_with_less_in_it(filled: Example, tmp_path: Path) -> None:
    done = copy(filled.path, tmp_path / "part", Selection(arrays=["late@t5"], splits=["train"]))
    assert (done.clips, done.arrays, done.shards) == (2, ["late@t5"], 2)
    part = FeatureStore.open(tmp_path / "part")
    assert list(part.arrays) == ["late@t5"]
    assert {row: list(arrays) for row, arrays in part.committed.items()} == {0: ["late@t5"], 1: ["late@t5"]}
    assert_equal_stores(FeatureStore.open(filled.path), part, ["late@t5"], [0, 1])
    (group,) = [json.loads((tmp_path / "part/features.zarr/zarr.json").read_text())]
    assert set(group["consolidated_metadata"]["metadata"]) == {"late@t5", "bank_frame"}
    import zarr

    array = zarr.open_group(str(tmp_path / "part" / "features.zarr"), mode="r")["late@t5"]
    assert isinstance(array, zarr.Array)
    assert array.shape == (3, 4, 2, 3, 5)


@pytest.mark.parametrize(
    ("selection", "rows"),
    [
        (Selection(clips=["clip2", "0"]), [0, 2]),
        (Selection(limit=2), [0, 1]),
        (Selection(splits=["train"], limit=1), [0]),
        (Selection(splits=["train", "test"]), [0, 1, 2]),
        (Selection(clips=["clip1"], splits=["train"]), [1]),
    ],
)
def test_clips_are_chosen_by_id_row_split_and_number(
    selection: Selection, rows: list[int], filled: Example, tmp_path: Path
) -> None:
    assert copy(filled.path, tmp_path / "part", selection).clips == len(rows)
    assert list(FeatureStore.open(tmp_path / "part").committed) == rows


def test_an_unknown_name_is_answered_with_the_nearest(filled: Example, tmp_path: Path) -> None:
    for selection, error, message in [
        (Selection(arrays=["erly"]), UnknownArrayError, "Did you mean early"),
        (Selection(splits=["trian"]), MissingClipError, "Did you mean train"),
        (Selection(clips=["clip7"]), MissingClipError, "Did you mean clip2 or"),
        (Selection(clips=["3"]), MissingClipError, "rows? 0 … 2|by row, 0 … 2"),
    ]:
        with pytest.raises(error, match=message):
            copy(filled.path, tmp_path / "part", selection)
    assert not (tmp_path / "part").exists()


def test_what_is_not_committed_cannot_be_asked_for(example: Example, tmp_path: Path) -> None:
    example.create()
    with pytest.raises(MissingClipError, match="none of the 3 clips"):
        copy(example.path, tmp_path / "part")
    example.write([1])
    with pytest.raises(MissingClipError, match=r"1 of the clips asked for are not committed .*clip0"):
        copy(example.path, tmp_path / "part", Selection(clips=["clip0", "clip1"]))
    assert copy(example.path, tmp_path / "part").clips == 1


def test_a_part_is_completed_by_another_copy(filled: Example, tmp_path: Path) -> None:
    copy(filled.path, tmp_path / "copy", Selection(arrays=["early"], limit=1))
    copy(filled.path, tmp_path / "copy", Selection(arrays=["wide"], splits=["test"]))
    done = copy(filled.path, tmp_path / "copy")
    assert (done.shards, done.shards_there) == (13, 2)
    assert shards(tmp_path / "copy") == shards(filled.path)
    assert_equal_stores(FeatureStore.open(filled.path), FeatureStore.open(tmp_path / "copy"), ARRAYS, [0, 1, 2])


def test_a_part_is_completed_by_the_extraction_that_would_have_made_it(filled: Example, tmp_path: Path) -> None:
    copy(filled.path, tmp_path / "copy", Selection(arrays=["early", "label"], limit=1))
    extraction = Example(tmp_path / "copy", filled.recipe, filled.clips, filled.values)
    extraction.create()
    held = FeatureStore.open(tmp_path / "copy").committed
    with StoreWriter(tmp_path / "copy") as writer:
        for row in range(3):
            missing = {name: value for name, value in filled.values[row].items() if name not in held.get(row, {})}
            writer.put(row, missing)
    finalize(FeatureStore.open(tmp_path / "copy"))
    assert shards(tmp_path / "copy") == shards(filled.path)
    done = copy(filled.path, tmp_path / "copy")
    assert (done.shards, done.kept) == (0, 0)


def test_a_copy_completes_what_an_extraction_began(filled: Example, tmp_path: Path) -> None:
    extraction = Example(tmp_path / "begun", filled.recipe, filled.clips, filled.values)
    extraction.create(SPECS[:2])
    with StoreWriter(tmp_path / "begun") as writer:
        writer.put(0, {"early": filled.values[0]["early"]})
    done = copy(filled.path, tmp_path / "begun")
    assert (done.shards, done.shards_there) == (14, 1)
    assert_equal_stores(FeatureStore.open(filled.path), FeatureStore.open(tmp_path / "begun"), ARRAYS, [0, 1, 2])


def test_statistics_are_kept_and_the_writer_is_who_copied(filled: Example, tmp_path: Path) -> None:
    copy(filled.path, tmp_path / "copy", Selection(arrays=["wide"], limit=1))
    (name,) = os.listdir(tmp_path / "copy" / "commits")
    commit = read_commit(LocalFolder(tmp_path / "copy"), name)
    assert commit.arrays["wide"] == FeatureStore.open(filled.path).committed[0]["wide"]
    assert commit.metadata == {"wide": FeatureStore.open(filled.path).arrays["wide"].digest}
    assert commit.writer.endswith(f"-{os.getpid()}")
    assert (commit.clip, commit.n_frames) == ("clip0", 4)


def test_another_store_is_not_added_to(filled: Example, tmp_path: Path) -> None:
    other = filled.recipe.model_copy(update={"preprocessing": {"crop": "none"}})
    stranger = Example(tmp_path / "other", other, filled.clips, filled.values)
    stranger.create()
    with pytest.raises(RecipeMismatchError, match=r"preprocessing\.crop: 'none' there, None here"):
        copy(filled.path, tmp_path / "other")
    assert not (tmp_path / "other" / "features.zarr" / "early" / "c.0.0.0.0.0").exists()


def test_another_array_of_the_same_name_is_not_added_to(filled: Example, tmp_path: Path) -> None:
    begun = Example(tmp_path / "other", filled.recipe, filled.clips, filled.values)
    begun.create([SPECS[4].__class__("slot", (9,), "uint8", ("slot",))])
    with pytest.raises(FormatError, match=r"another array .*shape: \[9\] there, \[7\] here"):
        copy(filled.path, tmp_path / "other")


def test_what_is_in_the_way_stays(filled: Example, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "note.txt").write_text("mine")
    with pytest.raises(FormatError, match="a file is in the way"):
        copy(filled.path, tmp_path / "file")
    with pytest.raises(FormatError, match="no feature store"):
        copy(filled.path, tmp_path / "folder")
    assert (tmp_path / "folder" / "note.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert copy(filled.path, tmp_path / "empty").shards == 15


def test_a_store_is_not_copied_into_itself(filled: Example, tmp_path: Path) -> None:
    (tmp_path / "same").symlink_to(filled.path)
    for target in (filled.path, filled.path / "inside", filled.path.parent, tmp_path / "same", tmp_path / "same/x"):
        with pytest.raises(FormatError, match="is the source, or one lies inside the other"):
            copy(filled.path, target)


def test_links_at_the_destination_are_not_followed(filled: Example, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    copy(filled.path, tmp_path / "copy", Selection(arrays=["early"], limit=1))
    (tmp_path / "copy" / "features.zarr" / "wide").symlink_to(outside)
    with pytest.raises(FormatError, match="symbolic link"):
        copy(filled.path, tmp_path / "copy")
    (tmp_path / "copy" / "features.zarr" / "wide").unlink()
    (tmp_path / "copy" / "features.zarr" / "early" / "c.1.0.0.0.0").symlink_to(outside / "shard")
    done = copy(filled.path, tmp_path / "copy")
    assert [(clip, array) for clip, array, _ in done.failed] == [("clip1", "early")]
    assert "symbolic link" in done.failed[0][2]
    assert not list(outside.iterdir())


def test_the_destination_itself_may_be_a_link(filled: Example, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    copy(filled.path, tmp_path / "link")
    assert shards(tmp_path / "disk") == shards(filled.path)
    assert (tmp_path / "link").is_symlink()


def test_a_damaged_shard_is_refused_and_the_rest_is_copied(filled: Example, tmp_path: Path) -> None:
    flip(filled.path / "features.zarr" / "wide" / "c.1.0.0.0.0")
    (filled.path / "features.zarr" / "early" / "c.2.0.0.0.0").unlink()
    with (filled.path / "features.zarr" / "slot" / "c.0.0").open("ab") as file:
        file.write(b"more")
    done = copy(filled.path, tmp_path / "copy")
    assert sorted((clip, array) for clip, array, _ in done.failed) == [
        ("clip0", "slot"),
        ("clip1", "wide"),
        ("clip2", "early"),
    ]
    assert done.shards == 12
    there = FeatureStore.open(tmp_path / "copy")
    for row, array in [(0, "slot"), (1, "wide"), (2, "early")]:
        assert array not in there.committed[row]
        assert not (tmp_path / "copy" / there.arrays[array].shard(row)).exists()
        assert set(there.committed[row]) == set(ARRAYS) - {array}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


def test_a_repaired_source_completes_the_copy(filled: Example, tmp_path: Path) -> None:
    path = filled.path / "features.zarr" / "wide" / "c.1.0.0.0.0"
    content = path.read_bytes()
    flip(path)
    assert copy(filled.path, tmp_path / "copy").failed
    path.write_bytes(content)
    done = copy(filled.path, tmp_path / "copy")
    assert (done.shards, done.shards_there, done.failed) == (1, 14, [])


def test_other_values_of_the_same_recipe_stay(filled: Example, tmp_path: Path) -> None:
    again = Example(tmp_path / "copy", filled.recipe, filled.clips, filled.values)
    again.create()
    other = {name: value + 1 if name == "wide" else value for name, value in filled.values[0].items()}
    with StoreWriter(tmp_path / "copy") as writer:
        writer.put(0, other)
    done = copy(filled.path, tmp_path / "copy")
    assert (done.kept, done.shards, done.shards_there, done.failed) == (1, 10, 4, [])
    np.testing.assert_array_equal(FeatureStore.open(tmp_path / "copy").read("wide", 0), other["wide"])


def test_a_shard_that_nobody_committed_is_settled(filled: Example, tmp_path: Path) -> None:
    """The same bytes are taken, other whole ones are kept, damaged ones are replaced."""
    again = Example(tmp_path / "copy", filled.recipe, filled.clips, filled.values)
    again.create()
    other = {name: value + 1 if name == "wide" else value for name, value in filled.values[0].items()}
    with StoreWriter(tmp_path / "copy") as writer:
        writer.put(0, other)
        writer.put(1, filled.values[1])
    for commit in (tmp_path / "copy" / "commits").iterdir():
        commit.unlink()
    flip(tmp_path / "copy" / "features.zarr" / "early" / "c.1.0.0.0.0")
    done = copy(filled.path, tmp_path / "copy")
    assert (done.kept, done.shards, done.failed) == (1, 14, [])
    there, source = FeatureStore.open(tmp_path / "copy"), FeatureStore.open(filled.path)
    np.testing.assert_array_equal(there.read("wide", 0, verify=True), other["wide"])
    assert_equal_stores(source, there, ARRAYS, [1, 2])
    for row in range(3):
        for array, record in there.committed[row].items():
            assert digest_file(tmp_path / "copy" / there.arrays[array].shard(row)) == record.xxh3_128


def test_a_full_disk_is_known_before_anything_is_copied(filled: Example, tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places.shutil, "disk_usage", lambda path: usage._replace(free=100))
        with pytest.raises(StorageFullError, match="100 B are free"):
            copy(filled.path, tmp_path / "copy")
    assert copy(filled.path, tmp_path / "copy").shards == 15


def test_an_interrupted_copy_goes_on(filled: Example, tmp_path: Path) -> None:
    """Stopped at every write in turn, what is there is always a store whose commits are true."""
    whole = shards(filled.path)
    for stop in range(1, 15):
        target = tmp_path / f"copy{stop}"
        written = 0

        def once(path: Path, buffers: Any, stop: int = stop) -> bool:
            nonlocal written
            written += 1
            if written == stop:
                raise StorageFullError("injected")
            return write_once(path, buffers)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(places, "write_once", once)
            with pytest.raises(StorageFullError):
                copy(filled.path, target, threads=1)
        there = FeatureStore.open(target)
        for row, arrays in there.committed.items():
            for array, record in arrays.items():
                assert digest_file(target / there.arrays[array].shard(row)) == record.xxh3_128
        copy(filled.path, target)
        assert shards(target) == whole
        assert not list(target.rglob("*.partial"))


KILLED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it
from pathlib import Path
import store.sharing.destination as places
from store import FeatureStore
from store.sharing.transfer import transfer
once = places.write_once
def slowly(path, buffers):
    time.sleep(0.05)
    return once(path, buffers)
places.write_once = slowly
transfer(FeatureStore.open(sys.argv[1]), places.destination(sys.argv[2]), threads=2)
"""


def test_a_killed_copy_goes_on(filled: Example, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    for count in (0, 2, 5, 8, 12):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(filled.path), str(target)], cwd=PROJECT)
        while not (target / "recipe.json").exists() or len(shards(target)) < count:
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        process.wait()
        assert len(shards(target)) < 15
        there = FeatureStore.open(target)
        for row, arrays in there.committed.items():
            for array in arrays:
                there.read(array, row, verify=True)
    copy(filled.path, target)
    assert shards(target) == shards(filled.path)
    assert_equal_stores(FeatureStore.open(filled.path), FeatureStore.open(target), ARRAYS, [0, 1, 2])


INTERRUPTED = KILLED.replace(
    "transfer(FeatureStore.open(sys.argv[1]), places.destination(sys.argv[2]), threads=2)",
    "from store.__main__ import main; sys.argv[1:1] = ['copy']; main()",
).replace("0.05", "0.2")  # seconds a shard, so that there is time to interrupt it on a busy machine


def test_an_interrupted_command_says_so_and_goes_on(filled: Example, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(filled.path), str(target)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    while not (target / "recipe.json").exists() or len(shards(target)) < 3:
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130
    assert told == "interrupted: what was finished is kept; run the same command again to go on\n"
    assert 0 < len(shards(target)) < 15
    assert not list(tmp_path.rglob("*.partial"))
    copy(filled.path, target)
    assert shards(target) == shards(filled.path)


def test_a_stopped_copy_says_so_and_keeps_what_it_has(
    filled: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient:
        def start(self, total: int) -> None:
            pass

        def advance(self, size: int) -> None:
            if threading.current_thread() is not threading.main_thread():
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy(filled.path, tmp_path / "copy", progress=Impatient(), threads=1)
    assert copy(filled.path, tmp_path / "copy").failed == []
    assert shards(tmp_path / "copy") == shards(filled.path)


def test_two_copies_at_once_end_in_one_store(filled: Example, tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            copy(filled.path, tmp_path / "copy")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert shards(tmp_path / "copy") == shards(filled.path)
    assert_equal_stores(FeatureStore.open(filled.path), FeatureStore.open(tmp_path / "copy"), ARRAYS, [0, 1, 2])


def test_names_of_a_stranger_stay_inside(filled: Example, tmp_path: Path) -> None:
    """A manifest with its own seal may say anything."""
    finalize(FeatureStore.open(filled.path))
    evil = "../../../../evil"
    group_file, manifest_file = filled.path / "features.zarr" / "zarr.json", filled.path / "manifest.json"
    group = json.loads(group_file.read_text())
    metadata = group["consolidated_metadata"]["metadata"]
    metadata[evil] = metadata.pop("wide")
    group_file.write_text(json.dumps(group))
    manifest = unseal(manifest_file.read_bytes(), "")
    manifest["arrays"][evil] = manifest["arrays"].pop("wide")
    manifest["arrays"] = dict(sorted(manifest["arrays"].items()))
    manifest["group"] = digest_file(group_file)
    manifest_file.write_bytes(seal(manifest))
    shutil.rmtree(filled.path / "features.zarr" / "wide")
    with pytest.raises(FormatError, match=r"not a name that a store may hold|String should match pattern"):
        copy(filled.path, tmp_path / "deep" / "down" / "in" / "copy")
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("name", ["../out.json", "commits/000000-000000000000.json", "manifest.json", "recipe.json"])
def test_files_that_no_store_is_made_with_are_refused(name: str, filled: Example, tmp_path: Path) -> None:
    file = filled.path / "recipe.json"
    head = unseal(file.read_bytes(), "")
    head["files"][name] = "0" * 32
    file.write_bytes(seal(head))
    with pytest.raises(FormatError):
        copy(filled.path, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_shard_cannot_be_larger_than_its_array(filled: Example, tmp_path: Path) -> None:
    """A record that says so would make a copy take all memory."""
    for file in (filled.path / "commits").iterdir():
        commit = unseal(file.read_bytes(), "")
        commit["arrays"]["wide"]["size"] = 1 << 40
        file.write_bytes(seal(commit))
    target = LocalDestination(tmp_path / "copy")
    target.make_room = lambda size: None  # type: ignore[method-assign]
    done = transfer(FeatureStore.open(filled.path), target)
    assert len(done.failed) == 3
    assert all("1099511627776 bytes were committed" in problem for _, _, problem in done.failed)


def test_scales_come_with_their_taps(filled: Example, tmp_path: Path) -> None:
    requantise(FeatureStore.open(filled.path), tmp_path / "int8", "int8-channel")
    done = copy(tmp_path / "int8", tmp_path / "copy", Selection(arrays=["early"]))
    assert done.arrays == ["early~scale", "early"]
    assert (done.shards, done.failed) == (6, [])
    assert_equal_stores(
        FeatureStore.open(tmp_path / "int8"), FeatureStore.open(tmp_path / "copy"), ["early", "early~scale"], [0, 1, 2]
    )
    with pytest.raises(UnknownArrayError, match="Did you mean early"):
        copy(tmp_path / "int8", tmp_path / "copy", Selection(arrays=["early~scale"]))


def test_values_never_meet_the_scales_of_another_writer(filled: Example, tmp_path: Path) -> None:
    """Another writer was stopped between the two: its scales stay, and the values become multiples of them."""
    source = FeatureStore.open(filled.path)
    requantise(source, tmp_path / "int8", "int8-channel")
    int8 = FeatureStore.open(tmp_path / "int8")
    copy(tmp_path / "int8", tmp_path / "copy", Selection(arrays=["early"], limit=1))
    with StoreWriter(tmp_path / "copy") as writer:
        writer.put(1, {"early": 3 * source.read("early", 1).astype(np.float32)})
    for commit in (tmp_path / "copy" / "commits").glob("000001-*"):
        commit.unlink()
    (tmp_path / "copy" / int8.arrays["early"].shard(1)).unlink()
    done = copy(tmp_path / "int8", tmp_path / "copy", Selection(arrays=["early"]))
    assert (done.kept, done.shards, done.shards_there, done.failed) == (2, 2, 2, [])
    there = FeatureStore.open(tmp_path / "copy")
    np.testing.assert_allclose(there.scale("early", 1), 3 * int8.scale("early", 1), rtol=1e-3)
    assert (np.abs(there.read("early", 1) - int8.read("early", 1)) <= there.scale("early", 1) * 0.501).all()


# Places behind a network


def publish(example: Example, web: Served, *, finalized: bool = True) -> str:
    if finalized:
        finalize(FeatureStore.open(example.path))
    shutil.copytree(example.path, web.path / "toys")
    return f"{web.url}/toys"


@pytest.fixture(params=["s3", "hub"])
def bucket(request: pytest.FixtureRequest) -> str:
    served: Bucket | Hub = request.getfixturevalue(request.param)
    return f"{served.url}/svd/toys"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURE_CACHE", str(tmp_path / "cache"))


def test_a_store_is_pushed_and_pulled(filled: Example, bucket: str, tmp_path: Path) -> None:
    done = copy(filled.path, bucket)
    assert (done.shards, done.failed) == (15, [])
    there = FeatureStore.open(bucket)
    assert there.manifest is not None
    assert sorted(there.manifest.commits) == there.commits
    assert_equal_stores(FeatureStore.open(filled.path), there, ARRAYS, [0, 1, 2])
    back = copy(bucket, tmp_path / "back")
    assert (back.shards, back.failed) == (15, [])
    assert shards(tmp_path / "back") == shards(filled.path)
    assert (tmp_path / "back/recipe.json").read_bytes() == (filled.path / "recipe.json").read_bytes()


def test_a_pushed_store_has_the_metadata_that_finalize_writes(filled: Example, bucket: str) -> None:
    copy(filled.path, bucket)
    finalize(FeatureStore.open(filled.path))
    there = FeatureStore.open(bucket)
    ours = FeatureStore.open(filled.path)
    assert there.manifest is not None
    assert ours.manifest is not None
    assert there.manifest.group == ours.manifest.group
    assert there.manifest.arrays == ours.manifest.arrays
    assert there.manifest.table == ours.manifest.table


def test_a_part_is_pushed_and_completed(filled: Example, bucket: str) -> None:
    copy(filled.path, bucket, Selection(arrays=["early"], limit=1))
    assert list(FeatureStore.open(bucket).arrays) == ["early"]
    done = copy(filled.path, bucket)
    assert (done.shards, done.shards_there) == (14, 1)
    assert_equal_stores(FeatureStore.open(filled.path), FeatureStore.open(bucket), ARRAYS, [0, 1, 2])
    again = copy(filled.path, bucket)
    assert (again.shards, again.shards_there) == (0, 15)


def test_another_store_at_an_address_is_not_added_to(filled: Example, bucket: str, tmp_path: Path) -> None:
    copy(filled.path, bucket)
    other = Example(
        tmp_path / "other",
        filled.recipe.model_copy(update={"preprocessing": {"crop": "none"}}),
        filled.clips,
        filled.values,
    )
    other.create()
    other.write([0])
    with pytest.raises(RecipeMismatchError, match=r"preprocessing\.crop"):
        copy(tmp_path / "other", bucket)


def test_a_store_is_copied_from_one_address_to_another(filled: Example, s3: Bucket, hub: Hub) -> None:
    copy(filled.path, f"{s3.url}/toys")
    copy(f"{s3.url}/toys", f"{hub.url}/toys")
    assert_equal_stores(FeatureStore.open(filled.path), FeatureStore.open(f"{hub.url}/toys"), ARRAYS, [0, 1, 2])
    with pytest.raises(FormatError, match="is the source"):
        copy(f"{s3.url}/toys", f"{s3.url}/toys/inside")


def test_files_of_others_at_an_address_stay(filled: Example, s3: Bucket) -> None:
    import s3fs

    s3fs.S3FileSystem().pipe_file(f"{s3.url}/mine/data.csv", b"mine")
    with pytest.raises(FormatError, match=r"data.csv.*Choose another destination"):
        copy(filled.path, f"{s3.url}/mine")


def test_a_hub_repository_may_have_a_card(filled: Example, hub: Hub) -> None:
    hub.files |= {"README.md": b"# Features", ".gitattributes": b"* lfs"}
    copy(filled.path, hub.url)
    assert_equal_stores(FeatureStore.open(filled.path), FeatureStore.open(hub.url), ARRAYS, [0, 1, 2])
    assert hub.files["README.md"] == b"# Features"


def test_metadata_of_a_push_that_was_cut_short_is_not_in_the_way(filled: Example, s3: Bucket) -> None:
    """Stopped before recipe.json there is no store, and the next push goes on."""
    url = f"{s3.url}/toys"
    with interruption("recipe.json"), pytest.raises(RemoteError, match="injected"):
        copy(filled.path, url)
    with pytest.raises(StoreError, match="no feature store"):
        FeatureStore.open(url)
    assert copy(filled.path, url).shards == 15


@pytest.mark.parametrize("at", ["late@t5/c.1", "commits/000001", "features.zarr/zarr.json", ".table", "manifest.json"])
def test_an_interrupted_push_goes_on(at: str, filled: Example, s3: Bucket) -> None:
    url = f"{s3.url}/toys"
    copy(filled.path, url, Selection(arrays=["early"], limit=1))
    with interruption(at), pytest.raises(RemoteError, match="injected"):
        copy(filled.path, url, threads=1)
    between = FeatureStore.open(url)
    for row, arrays in between.committed.items():
        for array in arrays:
            between.read(array, row, verify=True)
    done = copy(filled.path, url)
    assert done.shards + done.shards_there == 15
    assert_equal_stores(FeatureStore.open(filled.path), FeatureStore.open(url), ARRAYS, [0, 1, 2])
    manifest = FeatureStore.open(url).manifest
    assert manifest is not None
    assert len(manifest.arrays) == 5


@contextmanager
def interruption(at: str) -> Iterator[None]:
    """The network fails at every file that has `at` in its name."""
    write, create = upload.RemoteFolder.write, upload.RemoteFolder.create

    def check(name: str) -> None:
        if at in name:
            raise RemoteError(f"{name}: injected")

    def failing(self: upload.RemoteFolder, name: str, buffers: Any) -> None:
        check(name)
        write(self, name, buffers)

    def failing_too(self: upload.RemoteFolder, name: str, buffers: Any) -> bool:
        check(name)
        return create(self, name, buffers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upload.RemoteFolder, "write", failing)
        patch.setattr(upload.RemoteFolder, "create", failing_too)
        yield


def test_the_hub_gets_whole_clips_in_few_commits(filled: Example, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    copy(filled.path, f"{hub.url}/all")
    assert [message for message, _ in hub.commits] == ["Begin a feature store", "Add 3 clips", "Add the manifest"]
    before = len(hub.commits)
    monkeypatch.setattr(upload_hub, "BATCH_FILES", 7)
    copy(filled.path, f"{hub.url}/few")
    added = [paths for message, paths in hub.commits[before:] if message == "Add 1 clips"]
    assert len(added) == 3
    for paths in added:
        (row,) = {int(path.split("/c.")[1].split(".")[0]) for path in paths if "/c." in path}
        assert len(paths) == 6
        assert sum(path.startswith(f"few/commits/{row:06d}-") for path in paths) == 1


def test_an_interrupted_push_to_the_hub_goes_on(filled: Example, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_hub, "BATCH_FILES", 6)
    commit = upload_hub.commit_files
    made = 0

    def failing(*args: Any) -> str:
        nonlocal made
        made += 1
        if made == 3:
            raise RemoteError("injected")
        return commit(*args)

    monkeypatch.setattr(upload_hub, "commit_files", failing)
    with pytest.raises(RemoteError, match="injected"):
        copy(filled.path, f"{hub.url}/toys", threads=1)
    assert len(FeatureStore.open(f"{hub.url}/toys").committed) == 1
    done = copy(filled.path, f"{hub.url}/toys")
    assert (done.shards, done.shards_there) == (10, 5)
    assert_equal_stores(FeatureStore.open(filled.path), FeatureStore.open(f"{hub.url}/toys"), ARRAYS, [0, 1, 2])


def test_a_push_keeps_what_another_push_finished_meanwhile(filled: Example, s3: Bucket) -> None:
    url = f"{s3.url}/toys"
    copy(filled.path, url, Selection(arrays=["early"], limit=1))
    slow = destination(url)
    begun = slow.existing()
    assert begun is not None
    copy(filled.path, url, Selection(clips=["clip1"]))
    slow.existing = lambda: begun  # type: ignore[method-assign]
    transfer(FeatureStore.open(filled.path), slow, Selection(arrays=["early"], clips=["clip2"]))
    there = FeatureStore.open(url)
    assert there.manifest is not None
    assert set(there.manifest.arrays) == set(ARRAYS)
    assert sorted(there.manifest.commits) == there.commits
    assert {row: len(arrays) for row, arrays in there.committed.items()} == {0: 1, 1: 5, 2: 1}


def test_a_store_is_pulled_from_a_web_server(filled: Example, web: Served, tmp_path: Path) -> None:
    url = publish(filled, web)
    copy(url, tmp_path / "part", Selection(arrays=["late@t5"], splits=["test"]))
    assert_equal_stores(FeatureStore.open(filled.path), FeatureStore.open(tmp_path / "part"), ["late@t5"], [2])
    assert web.behaviour.count("features.zarr/wide") == 0
    web.behaviour.ranges = False
    copy(url, tmp_path / "part")
    assert shards(tmp_path / "part") == shards(filled.path)
    copied = {record.xxh3_128 for arrays in FeatureStore.open(url).committed.values() for record in arrays.values()}
    assert not copied.intersection(path.name for path in (tmp_path / "cache").rglob("*")), "the cache is for reading"


def test_a_store_that_was_not_finalized_cannot_be_pulled_from_a_web_server(
    filled: Example, web: Served, tmp_path: Path
) -> None:
    url = publish(filled, web, finalized=False)
    with pytest.raises(StoreError, match="python -m store finalize"):
        copy(url, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "longer"])
def test_what_a_server_sends_wrong_is_not_copied(damage: str, filled: Example, web: Served, tmp_path: Path) -> None:
    url = publish(filled, web)
    shard = web.path / "toys" / "features.zarr" / "wide" / "c.0.0.0.0.0"
    content = shard.read_bytes()
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes({"flip": b"\xff" + content[1:], "cut": content[:-9], "longer": content + b"more"}[damage])
    done = copy(url, tmp_path / "copy")
    assert [(clip, array) for clip, array, _ in done.failed] == [("clip0", "wide")]
    assert "wide" not in FeatureStore.open(tmp_path / "copy").committed[0]
    assert not (tmp_path / "copy" / "features.zarr" / "wide" / "c.0.0.0.0.0").exists()


def test_trouble_that_passes_is_passed_over(filled: Example, web: Served, tmp_path: Path) -> None:
    url = publish(filled, web)
    source = FeatureStore.open(url)
    web.behaviour.fail, web.behaviour.cut = 1, 1
    assert transfer(source, destination(tmp_path / "copy")).failed == []
    assert shards(tmp_path / "copy") == shards(filled.path)


def test_a_web_server_is_not_written_to(filled: Example, web: Served) -> None:
    with pytest.raises(NotWritableError, match="read from only"):
        copy(filled.path, f"{web.url}/toys")


# The command line


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "store", *arguments], capture_output=True, text=True, cwd=PROJECT, check=False
    )


def test_the_commands(filled: Example, web: Served, store_root: Path, tmp_path: Path) -> None:
    url = publish(filled, web)
    done = run("pull", url, "--taps", "early,wide", "--split", "train", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["shards"] == 4
    port = url.removeprefix("http://").split("/")[0]
    path = store_root / port / "toys"
    assert json.loads(done.stdout)["destination"] == str(path)
    assert run("pull", url, "store/mine").returncode == 0
    assert FeatureStore.open("store/mine").fingerprint == filled.recipe.fingerprint
    done = run("copy", "toy", str(tmp_path / "copy"), "--clips", "clip2,0", "--limit", "1")
    assert done.returncode == 0, done.stderr
    assert "1 clips, 5 arrays: 5 shards copied" in done.stdout
    for arguments, message in [
        (("copy", "toy", "store/x", "--taps", "erly"), "Did you mean early"),
        (("copy", "toy", "store/x", "--split", "tset"), "Did you mean test"),
        (("push", "toy", "store/x"), "python -m store copy"),
        (("pull", "toy", "store/x"), "is no address"),
        (("pull", url, "s3://b/x"), "is not on this machine"),
        (("copy", "tyo", "store/x"), "Did you mean store/toy"),
    ]:
        failed = run(*arguments)
        assert failed.returncode == 1
        assert message in failed.stderr, failed.stderr


def test_a_copy_that_lacks_something_fails(filled: Example, tmp_path: Path) -> None:
    flip(filled.path / "features.zarr" / "wide" / "c.1.0.0.0.0")
    done = run("copy", "toy", str(tmp_path / "copy"))
    assert done.returncode == 1
    assert "clip1, wide:" in done.stderr
    assert "1 shards failed" in done.stderr
    assert "14 shards copied" in done.stdout
