"""A place for a store behind a network, of every kind, and a shard to put there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.digest import digest_bytes
from store.folder import ShardFile
from store.records import FileRecord
from store.sharing import trouble
from store.sharing.cache import ShardCache
from tests.store.fake_hub import Hub, hub_server  # noqa: F401
from tests.store.servers import Bucket, Served, s3_endpoint, s3_server, web_server  # noqa: F401

SHARD = "features.zarr/blocks.20@t502+a=b~c/c.3.0.0.0.0"


CONTENT = np.random.default_rng(0).bytes(10_000)


RECORD = FileRecord(size=len(CONTENT), xxh3_128=digest_bytes(CONTENT))


@dataclass
class Place:
    """A store somewhere, of whatever kind.

    Attributes:
        url: of the store.
        put: publish a file without the code that is tested.
        requests: how many requests for content of files there were.
        lists: whether the place can list.
    """

    url: str
    put: Callable[[str, bytes], Any]
    requests: Callable[[], int]
    lists: bool = True


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "FIRST_DELAY", 0.001)


@pytest.fixture(name="place", params=["web", "s3", "hub", "memory"])
def place_elsewhere(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "memory":
        yield from _memory()
        return
    server = request.getfixturevalue(request.param)
    if isinstance(server, Served):

        def put(name: str, content: bytes) -> None:
            path = server.path / "lab" / "svd" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

        yield Place(f"{server.url}/lab/svd", put, server.behaviour.count, lists=False)
    elif isinstance(server, Bucket):
        import s3fs

        direct = s3fs.S3FileSystem()
        url = f"{server.url}/lab/svd"
        yield Place(
            url,
            lambda name, content: direct.pipe_file(f"{url}/{name}", content),
            lambda: server.calls.count("get_object"),
        )
    else:
        yield Place(
            f"{server.url}/lab/svd",
            lambda name, content: server.files.update({f"lab/svd/{name}": content}),
            lambda: server.behaviour.count("/resolve/"),
        )


def _memory() -> Iterator[Place]:
    """Any other place that fsspec can reach."""
    from fsspec.implementations.memory import MemoryFileSystem

    system = MemoryFileSystem()
    reads = 0
    real = MemoryFileSystem.cat_file

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal reads
        reads += 1
        return real(self, *args, **kwargs)

    def put(name: str, content: bytes) -> None:
        system.pipe_file(f"/lab/svd/{name}", content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryFileSystem, "cat_file", counted)
        yield Place("memory://lab/svd", put, lambda: reads)
    system.store.clear()


@pytest.fixture(name="cache")
def cache_elsewhere(tmp_path: Path) -> ShardCache:
    return ShardCache(tmp_path / "cache", 50_000)


def read(shard: ShardFile, offset: int, *sizes: int) -> bytes:
    buffers: list[memoryview | bytearray] = [bytearray(size) for size in sizes]
    count = shard.read_into(offset, buffers)
    return b"".join(buffers)[:count]
