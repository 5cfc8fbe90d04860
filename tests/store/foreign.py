"""Reading and writing the same arrays by other means: tensorstore, zarr-python with other codecs, shards by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
import zarr
from numpy.typing import NDArray

from store.commits import write_commit
from store.feature_store import FeatureStore
from store.folder import LocalFolder
from store.records import ShardRecord
from store.shard import ABSENT, crc32c


def by_tensorstore(array: Path) -> NDArray[Any]:
    """The whole array on disk, by tensorstore; in another process, since a process that has used it may not fork."""
    found: NDArray[Any] = _reader().submit(_read, str(array)).result(timeout=60)
    return found


@cache
def _reader() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def _read(path: str) -> NDArray[Any]:
    import tensorstore

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
    return np.asarray(tensorstore.open(spec, read=True).result().read().result())


def by_zarr(array: Path) -> NDArray[Any]:
    return np.asarray(zarr.open_array(str(array), mode="r", zarr_format=3)[...])


def reencode(path: Path, array: str, **options: Any) -> None:
    """Write an array again by zarr-python, as somebody else could have, and commit all that was committed anew."""
    store = FeatureStore.open(path)
    info = store.info(array)
    folder = path / "features.zarr" / array
    values = by_zarr(folder)
    shutil.rmtree(folder)
    asked: dict[str, Any] = {
        "shape": info.shape,
        "shards": (1, *info.shape[1:]),
        "chunks": (1, *info.chunk),
        "dtype": info.physical,
        "fill_value": 0,
        "dimension_names": info.dims,
        "chunk_key_encoding": {"name": "default", "separator": "."},
        "attributes": json.loads(json.dumps(dict(info.attrs))),
        "config": {"write_empty_chunks": True},
    }
    created = zarr.create_array(str(folder), **asked | options)
    for row in store.rows(arrays=[array]):
        created[row] = values[row]
    commit_again(path, array)


def commit_again(path: Path, array: str) -> None:
    """Say of the shards of an array what they now are, in commits that are otherwise as before."""
    for table in path.glob("manifest*"):
        table.unlink()
    commits = [(file, json.loads(file.read_bytes())) for file in (path / "commits").iterdir()]
    digest = xxhash.xxh3_128_hexdigest((path / "features.zarr" / array / "zarr.json").read_bytes())
    for file, commit in commits:
        (shard,) = (path / "features.zarr" / array).glob(f"c.{commit['row']}.*")
        content = shard.read_bytes()
        commit["arrays"][array] |= {"size": len(content), "xxh3_128": xxhash.xxh3_128_hexdigest(content)}
        commit["metadata"][array] = digest
        records = {name: ShardRecord.model_validate(record) for name, record in commit["arrays"].items()}
        file.unlink()
        write_commit(LocalFolder(path), commit["row"], commit["clip"], commit["n_frames"], records, commit["metadata"])


def rearrange(shard: Path, chunks: int, order: Sequence[int], gap: int) -> None:
    """Put the chunks of a shard into another order, with some bytes between them that nobody needs."""
    content = shard.read_bytes()
    start = len(content) - 16 * chunks - 4
    index = np.frombuffer(content, "<u8", 2 * chunks, start).reshape(-1, 2).copy()
    parts, offset = [], 0
    for position in order:
        at, length = index[position].tolist()
        if at == ABSENT:
            continue
        parts += [b"\xa5" * gap, content[at : at + length]]
        index[position] = offset + gap, length
        offset += gap + length
    packed = index.tobytes()
    shard.write_bytes(b"".join([*parts, packed, crc32c(packed)]))
