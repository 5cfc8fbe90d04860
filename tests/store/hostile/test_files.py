"""Something else in the place of a file or a folder: a link, a FIFO, a socket, a device, a folder, a giant."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from store import FeatureStore, StoreError, StoreWriter
from tests.store.hostile.forge import assert_refused, assert_verify_ends, edit, frugally, use
from tests.store.truth import NAMES, is_from, table, values

pytestmark = pytest.mark.timeout(30)
PATTERNS = [
    "recipe.json",
    "clips.json",
    "manifest.json",
    "manifest-*.table",
    "features.zarr/zarr.json",
    "features.zarr/half/zarr.json",
    "features.zarr/half/c.0.*",
    "features.zarr/label/c.0.*",
    "commits/000000-*",
]
NEEDED_IF_CLOSED = [name for name in PATTERNS if name not in ("features.zarr/half/zarr.json", "commits/000000-*")]


def as_fifo(path: Path, tmp_path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_folder(path: Path, tmp_path: Path) -> None:
    path.unlink()
    path.mkdir()


def as_link(path: Path, tmp_path: Path) -> None:
    os.rename(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")


def as_dangling_link(path: Path, tmp_path: Path) -> None:
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")


def as_link_to_itself(path: Path, tmp_path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def as_socket(path: Path, tmp_path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


def as_endless_device(path: Path, tmp_path: Path) -> None:
    path.unlink()
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("to make a device needs root")


IMPOSTORS = [
    as_fifo,
    as_folder,
    as_link,
    as_endless_device,
    *(pytest.param(each, marks=pytest.mark.long) for each in (as_dangling_link, as_link_to_itself, as_socket)),
]


@pytest.mark.parametrize("impostor", IMPOSTORS)
@pytest.mark.parametrize("pattern", NEEDED_IF_CLOSED)
def test_instead_of_a_file_of_a_closed_store(
    store: Path, pattern: str, impostor: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    (path,) = store.glob(pattern)
    impostor(path, tmp_path)
    assert_refused(store)
    assert_verify_ends(store)


@pytest.mark.parametrize("impostor", IMPOSTORS)
@pytest.mark.parametrize("pattern", ["features.zarr/half/zarr.json", "commits/000000-*"])
def test_instead_of_a_file_that_a_manifest_would_replace(
    unclosed: Path, pattern: str, impostor: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    (path,) = unclosed.glob(pattern)
    impostor(path, tmp_path)
    assert_refused(unclosed)
    assert_verify_ends(unclosed)


@pytest.mark.parametrize("folder", ["commits", "features.zarr", "features.zarr/half", "features.zarr/label"])
def test_a_link_instead_of_a_folder(store: Path, folder: str, tmp_path: Path) -> None:
    os.rename(store / folder, tmp_path / "elsewhere")
    (store / folder).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert_refused(store, "is a symbolic link")
    assert_verify_ends(store)


@pytest.mark.parametrize("folder", ["commits", "features.zarr", "features.zarr/half"])
def test_a_file_instead_of_a_folder(store: Path, folder: str) -> None:
    """Without its folder of commits, everything is taken back."""
    shutil.rmtree(store / folder)
    (store / folder).write_bytes(b"")
    assert_refused(store)
    assert_verify_ends(store)


def test_files_that_do_not_belong_to_a_store_are_passed_over(store: Path, unclosed: Path) -> None:
    (store / "features.zarr" / "NOTES").write_text("of somebody")
    (store / "features.zarr" / "empty").mkdir()
    (store / "features.zarr" / "half" / "c.9.0.0.0.0").symlink_to("/etc/passwd")
    (store / "commits" / "README").write_text("of somebody")
    os.mkfifo(store / "commits" / "pipe.txt")
    use(store)
    assert_verify_ends(store)


GIANT = 1 << 40
LIMITS = ["recipe.json", "clips.json", "manifest.json", "features.zarr/zarr.json"]


@pytest.mark.parametrize("pattern", LIMITS)
def test_a_document_of_a_terabyte(store: Path, pattern: str) -> None:
    os.truncate(store / pattern, GIANT)
    assert_refused(store, "sensible")
    assert_verify_ends(store)


@pytest.mark.parametrize("pattern", ["features.zarr/half/zarr.json", "commits/000000-*"])
def test_a_small_document_of_a_terabyte(unclosed: Path, pattern: str) -> None:
    (path,) = unclosed.glob(pattern)
    os.truncate(path, GIANT)
    assert_refused(unclosed, "sensible")
    assert_verify_ends(unclosed)


def grow(store: Path, array: str, size: int) -> None:
    """A shard with a hole, and a commit that says that this is its size."""
    (path,) = store.glob(f"features.zarr/{array}/c.0.*")
    content = path.read_bytes()
    os.truncate(path, size)
    with path.open("r+b") as file:  # the index stays at the end
        file.seek(size - len(content))
        file.write(content)
    (commit,) = store.glob("commits/000000-*")
    edit(commit, lambda document: document["arrays"][array].update(size=size))


@pytest.mark.parametrize("array", ["half", "slot"])
def test_a_shard_with_a_hole_of_a_terabyte(unclosed: Path, array: str) -> None:
    """The index says where the chunks are, and what no chunk uses is not read."""
    truth = FeatureStore.open(unclosed).read(array, 0)
    grow(unclosed, array, GIANT)
    with frugally():
        found = FeatureStore.open(unclosed).read(array, 0, verify=True)
    np.testing.assert_array_equal(found, truth)


def test_a_compressed_shard_with_a_hole_of_a_terabyte(unclosed: Path) -> None:
    """Such shards are read whole."""
    grow(unclosed, "label", GIANT)
    assert_refused(unclosed, "more than its chunks can have")


@pytest.mark.parametrize("impostor", [as_fifo, as_link, as_dangling_link])
@pytest.mark.timeout(30, method="thread")  # a writer that waits for ever waits in a thread
def test_a_writer_replaces_what_is_no_shard(
    unclosed: Path, impostor: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    """A link is not followed, so what it leads to stays as it is; a FIFO does not stop the writer."""
    elsewhere = {}
    for name in NAMES:
        (path,) = unclosed.glob(f"features.zarr/{name}/c.0.*")
        impostor(path, tmp_path)
        if (tmp_path / "elsewhere").exists():
            elsewhere[name] = (tmp_path / "elsewhere").read_bytes()
            (tmp_path / "elsewhere").rename(tmp_path / name)
            path.unlink()
            path.symlink_to(tmp_path / name)
    next(unclosed.glob("commits/000000-*")).unlink()
    with StoreWriter(unclosed) as writer:
        writer.put(0, values(table(2)[0], writer=1))
    store = FeatureStore.open(unclosed)
    assert all(is_from(store, name, 0, 1) for name in NAMES if name != "byte")
    assert not [path for path in unclosed.rglob("c.0.*") if not path.is_file() or path.is_symlink()]
    for name, content in elsewhere.items():
        assert (tmp_path / name).read_bytes() == content


def test_a_folder_in_the_place_of_a_shard_stops_a_writer_with_a_message(unclosed: Path) -> None:
    (path,) = unclosed.glob("features.zarr/half/c.0.*")
    path.unlink()
    (path / "inside").mkdir(parents=True)
    with pytest.raises(StoreError, match=str(path)), StoreWriter(unclosed) as writer:
        writer.put(0, values(table(2)[0]))
    assert (path / "inside").exists()
