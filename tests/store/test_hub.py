"""The Hugging Face hub: many files in one commit, none left out, and few questions."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.errors import NotWritableError, RemoteError, StoreNotFoundError
from store.sharing.cache import ShardCache
from store.sharing.hub import commit_files
from store.sharing.remote import RemoteFolder
from tests.store.elsewhere import CONTENT, RECORD, SHARD, cache_elsewhere, no_waiting, read  # noqa: F401
from tests.store.fake_hub import Hub, hub_server  # noqa: F401


def test_many_files_are_one_commit_on_the_hub(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(CONTENT)
    files = {"recipe.json": b"{}", SHARD: tmp_path / "shard", "features.zarr/zarr.json": [b"a", memoryview(b"b")]}
    made = commit_files(f"{hub.url}/svd", files, "Add a store")
    assert hub.commits == [("Add a store", sorted(f"svd/{name}" for name in files))]
    assert hub.files == {"svd/recipe.json": b"{}", f"svd/{SHARD}": CONTENT, "svd/features.zarr/zarr.json": b"ab"}
    assert made == hub.sha
    assert commit_files(hub.url, {"README.txt": b"hello"}, "Read me") == hub.sha
    assert hub.files["README.txt"] == b"hello"
    assert RemoteFolder(f"{hub.url}@main/svd", None).read("recipe.json", 9) == b"{}"
    assert RemoteFolder(f"{hub.url}@{made}/svd".replace(made, hub.sha), None).read("recipe.json", 9) == b"{}"


def test_a_commit_that_comes_second_is_tried_again(hub: Hub) -> None:
    hub.conflicts = 1
    commit_files(hub.url, {"recipe.json": b"{}"}, "Add")
    assert [message for message, _ in hub.commits] == ["Add"]


def test_files_that_the_hub_leaves_out_are_an_error(hub: Hub) -> None:
    hub.ignored = {"svd/b.json"}
    with pytest.raises(RemoteError, match=r"left out 1 of 2 files of the commit, svd/b\.json among.*\.gitignore"):
        commit_files(f"{hub.url}/svd", {"a.json": b"1", "b.json": b"2"}, "Add")


@pytest.mark.parametrize("url", ["hf://datasets/lab/nothing", "hf://datasets/lab/features@nobranch/svd"])
def test_a_repository_that_is_not_there_is_not_made(hub: Hub, url: str) -> None:
    with pytest.raises(NotWritableError, match=r"no such repository or branch.*huggingface\.co/new-dataset"):
        commit_files(url, {"recipe.json": b"{}"}, "Add")
    with pytest.raises(StoreNotFoundError, match="no such repository or revision"):
        RemoteFolder(url, None).read("recipe.json", 9)


def test_a_private_repository_without_a_login_is_not_found_and_says_why(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    with pytest.raises(StoreNotFoundError, match=r"no such repository.*HF_TOKEN"):
        RemoteFolder(hub.url, None).exists("recipe.json")


def test_the_hub_offline_is_said_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RemoteError, match="offline mode is enabled"):
        RemoteFolder(hub.url, None).read("recipe.json", 9)
    assert not hub.behaviour.requests


def test_downloads_from_the_hub_draw_no_bars(hub: Hub, cache: ShardCache, capfd: pytest.CaptureFixture[str]) -> None:
    hub.files["shard"] = CONTENT
    RemoteFolder(hub.url, cache).open("shard", RECORD)
    assert capfd.readouterr() == ("", "")


def test_asking_the_hub_twice_uses_what_was_listed(hub: Hub) -> None:
    for row in range(5):
        hub.files[f"features.zarr/a/c.{row}"] = CONTENT
    folder = RemoteFolder(hub.url, None)
    for row in range(5):
        read(folder.open(f"features.zarr/a/c.{row}", RECORD), 0, 10)
    assert hub.behaviour.count("/tree/") == 1
    assert hub.behaviour.count("/resolve/") == 5
