"""Object storage, and addresses that lead nowhere."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from store.errors import CorruptShardError, MissingPackageError, NotWritableError, RemoteError, StoreNotFoundError
from store.records import FileRecord
from store.sharing import objects
from store.sharing.cache import ShardCache
from store.sharing.remote import RemoteFolder
from tests.store.elsewhere import CONTENT, RECORD, cache_elsewhere, no_waiting, read  # noqa: F401
from tests.store.servers import Bucket, s3_endpoint, s3_server  # noqa: F401


def test_places_where_half_a_file_could_be_seen_are_not_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_ATOMIC", set())
    with pytest.raises(NotWritableError, match="half-written"):
        RemoteFolder("memory://written", None).write("recipe.json", [b"{}"])


def test_large_shards_on_s3_come_in_parts(s3: Bucket, cache: ShardCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_PART", 900)
    monkeypatch.setattr(objects, "_PARTS", 4)
    folder = RemoteFolder(f"{s3.url}/lab", cache)
    folder.write("shard", [CONTENT])
    assert read(folder.open("shard", RECORD), 0, 10_000) == CONTENT
    assert s3.calls.count("get_object") == 12
    nearly = FileRecord(size=10**15, xxh3_128=RECORD.xxh3_128)
    roomy = ShardCache(cache.path / "roomy", 10**18)
    with pytest.raises(CorruptShardError, match="has 10000 bytes, committed were 1000000000000000"):
        RemoteFolder(f"{s3.url}/lab", roomy).open("shard", nearly)
    assert s3.calls.count("get_object") < 50
    assert read(RemoteFolder(f"{s3.url}/lab", None).open("shard", RECORD), 1, 5000) == CONTENT[1:5001]
    folder.write("shard", [CONTENT[:3000]])
    with pytest.raises(CorruptShardError, match="has 3000 bytes, committed were 10000"):
        RemoteFolder(f"{s3.url}/lab", ShardCache(cache.path / "other", 50_000)).open("shard", RECORD)


def test_s3_without_credentials_says_where_they_come_from(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(key)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(RemoteError, match=r"access refused.*AWS_ACCESS_KEY_ID.*FSSPEC_S3_ANON"):
        RemoteFolder(s3.url, None).read("recipe.json", 9)


def test_a_bucket_that_is_not_there_is_not_found(s3: Bucket) -> None:
    folder = RemoteFolder("s3://nobody/svd", None)
    with pytest.raises(FileNotFoundError):
        folder.read("recipe.json", 9)
    assert folder.names("") == []
    with pytest.raises(NotWritableError, match="no such bucket"):
        folder.write("recipe.json", [b"{}"])


@pytest.mark.parametrize(
    "url",
    [
        "s3:/bucket/key",
        "S3://bucket/key",
        "store/svd",
        "s3://",
        "s3://bucket/../other",
        "s3://bucket/a b",
        "s3://bucket/a\\b",
        "s3://bucket/a\nb",
        "s3://bucket/key?versionId=1",
        "https://host/store?token=1",
        "https://host/store#part",
        "https://",
        "https:///store",
        "hf://datasets/only",
        "hf://name",
        "file:///etc",
        "nonsense://place/store",
        "simplecache::s3://bucket/key",
    ],
)
def test_addresses_that_name_no_remote_folder_are_refused(url: str) -> None:
    with pytest.raises(StoreNotFoundError):
        RemoteFolder(url, None)


@pytest.mark.parametrize(("url", "package"), [("s3://bucket/store", "s3fs"), ("https://host/store", "aiohttp")])
def test_a_missing_package_is_named_with_the_remedy(url: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_SYSTEMS", {})
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    # By this name: the package's attribute `registry` is something else.
    known = import_module("fsspec.registry")._registry
    for scheme in ("s3", "http"):
        monkeypatch.delitem(known, scheme, raising=False)
    with pytest.raises(MissingPackageError, match=r"pip install -e \"\.\[hub\]\""):
        RemoteFolder(url, None)
