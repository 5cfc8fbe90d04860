"""Traps that a review found: each of these once lost data, read the wrong store, or trusted a stranger too far."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from store import CorruptShardError, FeatureStore, FormatError, StoreNotFoundError, StoreWriter, finalize, resolve
from store.commands.sharing import register as register_sharing
from store.folder import LocalFolder, LocalShard
from store.shard import OpenShard, crc32c
from store.upkeep.gc import DAY, SHARD, delete, garbage
from store.upkeep.verify import verify
from tests.reseal import edit_document, edit_recipe
from tests.store.conftest import Example
from tests.store.servers import Served, web_server  # noqa: F401


def test_a_shard_that_a_writer_has_adopted_is_no_garbage_any_more(filled: Example) -> None:
    """It is old and unclaimed when gc looks, and wanted when gc deletes."""
    for commit in (filled.path / "commits").iterdir():
        commit.unlink()
    shards = list((filled.path / "features.zarr").rglob("c.*"))
    for shard in shards:
        os.utime(shard, (0, 0))
    found = [each for each in garbage(filled.path, -DAY) if each.kind == SHARD]
    assert len(found) == len(shards)
    with StoreWriter(filled.path) as writer:
        writer.put(0, filled.values[0])
        writer.flush()
        for commit in (filled.path / "commits").iterdir():
            commit.rename(commit.with_name(f".{commit.name}"))  # as before its commit: shards adopted, nothing said
        delete(found)
        for commit in (filled.path / "commits").iterdir():
            commit.rename(commit.with_name(commit.name.removeprefix(".")))
    assert FeatureStore.open(filled.path).rows() == [0]
    assert verify(filled.path, deep=True).bad == []


def test_chunks_of_a_shard_may_not_share_bytes(filled: Example) -> None:
    """A small file whose index names one chunk a million times would fill the memory."""
    info = FeatureStore.open(filled.path).arrays["wide"]
    chunk = (filled.path / info.shard(0)).read_bytes()[: info.chunk_bytes + 4]
    index = np.array([[0, len(chunk)]] * 4, "<u8").tobytes()
    path = filled.path / "forged"
    path.write_bytes(chunk + index + crc32c(index))
    with pytest.raises(CorruptShardError, match="chunks that overlap"):
        OpenShard(LocalShard(path), info, "here")


class StaleListing(LocalFolder):
    """A network file system whose listing of folders is older than its files."""

    def names(self, under: str) -> list[str] | None:
        names = super().names(under)
        return names[1:] if under == "commits" and names else names


def test_an_old_listing_takes_no_commit_back(filled: Example) -> None:
    finalize(FeatureStore.open(filled.path))
    store = FeatureStore(StaleListing(filled.path))
    assert store.rows() == [0, 1, 2]
    assert store.commits == FeatureStore.open(filled.path).commits
    sorted((filled.path / "commits").iterdir())[0].unlink()
    assert FeatureStore(StaleListing(filled.path)).rows() == [1, 2]


def test_an_address_of_another_data_set_is_refused(web: Served, filled: Example) -> None:
    finalize(FeatureStore.open(filled.path))
    shutil.copytree(filled.path, web.path / "lab")
    assert FeatureStore.open(f"{web.url}/lab", "toys").rows() == [0, 1, 2]
    with pytest.raises(StoreNotFoundError, match="is the store of 'toys', not of 'scannet'"):
        FeatureStore.open(f"{web.url}/lab", "scannet")


def test_a_store_that_lies_about_does_not_stand_before_the_root(filled: Example, tmp_path: Path) -> None:
    shutil.copytree(filled.path, tmp_path / "store" / "toy" / "toys")
    assert resolve("store/toy") == filled.path


def test_a_pull_stays_below_the_root(web: Served, filled: Example, tmp_path: Path, store_root: Path) -> None:
    import typer
    from typer.testing import CliRunner

    finalize(FeatureStore.open(filled.path))
    served = shutil.copytree(filled.path, web.path / "lab" / "toy")
    with pytest.raises(ValueError, match="name"):  # our own code cannot even make such a recipe
        edit_recipe(served, lambda recipe: recipe["dataset"].update(name="../../outside"))
    edit_document(served / "recipe.json", lambda head: head["recipe"]["dataset"].update(name="../../outside"))
    app = typer.Typer()
    register_sharing(app)
    done = CliRunner().invoke(app, ["pull", f"{web.url}/lab/toy"])
    assert isinstance(done.exception, FormatError)
    assert "dataset.name" in str(done.exception)
    assert not list(tmp_path.rglob("outside"))


def test_numbers_of_numpy_are_rows_too(filled: Example) -> None:
    committed = FeatureStore.open(filled.path).committed
    assert np.int64(1) in committed
    assert np.int64(7) not in committed
