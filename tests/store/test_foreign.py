"""Stores that others wrote: other codecs inside the shards, chunks in another order, and what was left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from store import CorruptShardError, FeatureStore, FormatError, MissingClipError, StoreWriter, finalize
from store.upkeep.verify import verify
from tests.store.foreign import by_tensorstore, by_zarr, commit_again, rearrange, reencode
from tests.store.truth import NAMES, is_from, make, readings, table, values, write

CLIPS = 5  # the last one is short
LONG = pytest.mark.long
ARRAYS = pytest.mark.parametrize(
    "array", ["label", *(pytest.param(name, marks=LONG) for name in ("half", "brain@t5", "byte", "slot"))]
)
TAPS = pytest.mark.parametrize("array", ["byte", *(pytest.param(name, marks=LONG) for name in ("half", "brain@t5"))])
BACKWARDS = TransposeCodec(order=(4, 3, 2, 1, 0))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    make(tmp_path / "known", CLIPS)
    write(tmp_path / "known", range(CLIPS))
    return tmp_path / "known"


def assert_reads_as_before(store: Path, array: str, before: dict[int, dict[str, NDArray[Any]]]) -> None:
    """By every way to read: whole, frames, into a buffer, checked or not; and by tensorstore and zarr-python."""
    opened = FeatureStore.open(store)
    raw = by_zarr(store / "features.zarr" / array)
    np.testing.assert_array_equal(by_tensorstore(store / "features.zarr" / array), raw)
    for row, arrays in before.items():
        whole_clip = arrays[array]
        np.testing.assert_array_equal(opened.read(array, row, verify=True), whole_clip, strict=True)
        if not opened.info(array).framed:
            continue
        frames = [len(whole_clip) - 1, 0, 0]
        for verified in (None, False, True):
            np.testing.assert_array_equal(opened.read(array, row, frames, verify=verified), whole_clip[frames])
        out = np.empty((3, *whole_clip.shape[1:]), opened.info(array).physical)
        opened.read(array, row, frames, out=out)
        np.testing.assert_array_equal(out, raw[row][frames])


CODECS: dict[str, dict[str, Any]] = {
    "no compressor, no checksum": {"compressors": None},
    "no compressor": {"compressors": [Crc32cCodec()]},
    "zstd": {"compressors": [ZstdCodec(level=1)]},
    "zstd with two checksums": {"compressors": [ZstdCodec(level=19, checksum=True), Crc32cCodec()]},
    "blosc lz4": {"compressors": [BloscCodec(cname="lz4", shuffle="shuffle")]},
    "blosc zstd": {"compressors": [BloscCodec(cname="zstd", shuffle="bitshuffle"), Crc32cCodec()]},
    "blosc of what it cannot compress": {"compressors": [BloscCodec(cname="blosclz", clevel=0, shuffle="noshuffle")]},
}


@pytest.mark.parametrize("codecs", CODECS)
@ARRAYS
def test_other_codecs(store: Path, array: str, codecs: str) -> None:
    before = readings(store)
    reencode(store, array, **CODECS[codecs])
    assert_reads_as_before(store, array, before)
    finalize(FeatureStore.open(store))
    np.testing.assert_array_equal(FeatureStore.open(store).read(array, 1, verify=True), before[1][array])
    assert not verify(store, deep=True).bad


@pytest.mark.parametrize("compressors", [None, [Crc32cCodec()], [ZstdCodec()], [BloscCodec()]])
@TAPS
def test_axes_in_another_order_on_disk(store: Path, array: str, compressors: Any) -> None:
    before = readings(store)
    reencode(store, array, filters=[BACKWARDS], compressors=compressors)
    assert FeatureStore.open(store).info(array).codecs[:2] == ("transpose", "bytes")
    assert_reads_as_before(store, array, before)


@pytest.mark.parametrize(
    "chunks", [(1, 2, 2, 3, 5), (1, 4, 2, 3, 5), (1, 1, 1, 3, 5), (1, 2, 1, 1, 5), (1, 1, 2, 3, 1), (1, 4, 1, 3, 1)]
)
@TAPS
def test_chunks_of_another_shape_than_a_frame(store: Path, array: str, chunks: tuple[int, ...]) -> None:
    before = readings(store)
    reencode(store, array, chunks=chunks, compressors=[Crc32cCodec()])
    assert FeatureStore.open(store).info(array).chunk == chunks[1:]
    assert_reads_as_before(store, array, before)


@pytest.mark.parametrize("order", [(3, 2, 1, 0), (2, 0, 3, 1), (1, 0, 3, 2)])
@pytest.mark.parametrize("gap", [0, 500])
@pytest.mark.parametrize("array", ["byte", "label", pytest.param("half", marks=LONG)])
def test_chunks_that_are_not_in_order_in_the_shard(store: Path, array: str, gap: int, order: tuple[int, ...]) -> None:
    """zarrs and tensorstore promise no order. What stands between the chunks is nobody's."""
    before = readings(store)
    for row in range(CLIPS):
        (shard,) = store.glob(f"features.zarr/{array}/c.{row}.*")
        rearrange(shard, 4, order, gap)
    commit_again(store, array)
    assert_reads_as_before(store, array, before)


@pytest.mark.parametrize("compressors", [[Crc32cCodec()], [ZstdCodec(), Crc32cCodec()]])
def test_frames_that_were_left_out_because_they_are_zero_are_not_made_up(store: Path, compressors: Any) -> None:
    """zarr-python leaves out chunks of zeros unless it is told; nobody can tell them from frames that were lost."""
    features = FeatureStore.open(store)
    zeros = np.zeros((4, 6, 6), np.uint16)
    zeros[1:] = features.read("label", 0)[1:] + 1
    path = next(store.glob("features.zarr/label/c.0.*"))
    path.unlink()
    for commit in store.glob("commits/000000-*"):
        commit.unlink()
    with StoreWriter(store) as writer:
        writer.put(0, values(table(CLIPS)[0]) | {"label": zeros})
    assert np.array_equal(FeatureStore.open(store).read("label", 0), zeros)
    reencode(store, "label", compressors=compressors, config={"write_empty_chunks": False})
    opened = FeatureStore.open(store)
    with pytest.raises(MissingClipError, match="0 was never written"):
        opened.read("label", 0)
    assert opened.read("label", 4).shape == (2, 6, 6)


@pytest.mark.parametrize("codecs", ["no compressor", "zstd with two checksums", "blosc zstd"])
def test_a_flipped_bit_is_found_by_the_checksum_of_others_too(store: Path, codecs: str) -> None:
    reencode(store, "label", **CODECS[codecs])
    path = next(store.glob("features.zarr/label/c.0.*"))
    original = path.read_bytes()
    rng = np.random.default_rng(0)
    for bit in rng.choice(len(original) * 8, 25, replace=False):
        content = bytearray(original)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(CorruptShardError):
            FeatureStore.open(store).read("label", 0, verify=True)
    path.write_bytes(original)
    FeatureStore.open(store).read("label", 0, verify=True)


@pytest.mark.parametrize(
    "options",
    [
        {"serializer": BytesCodec(endian="big")},
        {"compressors": [GzipCodec()]},
        {"dimension_names": None},
        {"dimension_names": ("frame", "clip", "y", "x", "channel")},
    ],
)
def test_what_no_reader_of_ours_takes_is_refused(store: Path, options: dict[str, Any]) -> None:
    reencode(store, "half", **options)
    with pytest.raises(FormatError, match=r"not the metadata of an array|codecs bytes, gzip; accepted are"):
        FeatureStore.open(store).read("half", 0)


def test_a_store_that_nobody_touched(store: Path) -> None:
    opened = FeatureStore.open(store)
    assert all(is_from(opened, name, row, 0) for name in NAMES for row in range(CLIPS))
    for array in NAMES:
        assert_reads_as_before(store, array, readings(store))
