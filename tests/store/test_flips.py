"""One wrong bit, or a missing end, in any file: a read with every checksum tells, or gives exactly the right values."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from store import CorruptShardError, FeatureStore, StoreError
from store.manifest import RECORD
from tests.store.truth import NAMES, whole

CLIPS = 3
SEED = 0
LONG = (pytest.mark.long, pytest.mark.timeout(900))
FLIPS = pytest.mark.parametrize("times", [5, pytest.param(400, marks=LONG)])

KINDS = {
    "recipe.json": "refused",
    "clips.json": "refused",
    "provenance.json": "unused",
    "features.zarr/zarr.json": "unused",
    "features.zarr/bank_frame/zarr.json": "refused or unused",
    "features.zarr/bank_frame/c/0/0": "unused",
    "features.zarr/half/zarr.json": "refused",
    "features.zarr/label/zarr.json": "refused",
    "features.zarr/byte~scale/zarr.json": "refused",
    "features.zarr/half/c.0.*": "refused",
    "features.zarr/brain@t5/c.1.*": "refused",
    "features.zarr/byte/c.2.*": "refused",
    "features.zarr/byte~scale/c.0.*": "refused",
    "features.zarr/label/c.1.*": "refused",
    "features.zarr/slot/c.2.*": "refused",
    "commits/000001-*.json": "refused",
    "manifest.json": "refused",
    "manifest-*.table": "refused or unused",
}
"""Kind of file -> what becomes of a store in which one is damaged, if no manifest has merged the commits.

Attributes of the group are taken from `recipe.json`, and coordinates are not read by `FeatureStore.read`.
"""
CLOSED = KINDS | {
    "features.zarr/zarr.json": "refused or unused",
    "features.zarr/half/zarr.json": "unused",
    "features.zarr/label/zarr.json": "unused",
    "features.zarr/byte~scale/zarr.json": "unused",
    "commits/000001-*.json": "unused",
}
"""The same with a manifest, which holds what stands in commits and, with the group's metadata, in those of arrays.

Where the group's metadata are JSON, but not those that the manifest names, each array's own are read.
"""
CASES = pytest.mark.parametrize(
    ("closed", "kind"),
    [(True, kind) for kind in CLOSED] + [(False, kind) for kind in KINDS if not kind.startswith("manifest")],
)

Values = dict[tuple[str, int], NDArray[Any]]


def checked(path: Path) -> Values:
    """Every value of the store, opened anew, every checksum compared."""
    store = FeatureStore.open(path)
    return {(name, row): store.read(name, row, verify=True) for row in store.rows() for name in NAMES}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Values]:
    path = tmp_path_factory.mktemp("pristine") / "known"
    whole(path, CLIPS)
    values = checked(path)
    assert len(values) == len(NAMES) * CLIPS
    return path, values


@pytest.fixture
def copy(pristine: tuple[Path, Values], tmp_path: Path, closed: bool) -> Path:
    path = shutil.copytree(pristine[0], tmp_path / "known")
    for name in () if closed else list(path.glob("manifest*")):
        name.unlink()
    return path


def damage(path: Path, contents: Iterator[bytes], truth: Values) -> set[str]:
    """Put each content in the place of the file, and read. Returns what has become of it: `refused` or `unused`."""
    store, original, outcomes = path, path.read_bytes(), set()
    while not (store / "recipe.json").exists():
        store = store.parent
    for content in contents:
        path.write_bytes(content)
        try:
            found = checked(store)
        except StoreError:
            outcomes.add("refused")
        else:
            outcomes.add("unused")
            assert found.keys() == truth.keys()
            for key, values in found.items():
                np.testing.assert_array_equal(values, truth[key], strict=True)
    path.write_bytes(original)
    assert checked(store).keys() == truth.keys()
    return outcomes


@FLIPS
@CASES
def test_a_flipped_bit(kind: str, closed: bool, times: int, copy: Path, pristine: tuple[Path, Values]) -> None:
    (path,) = copy.glob(kind)
    original = path.read_bytes()
    rng = np.random.default_rng([SEED, *kind.encode()])

    def flipped() -> Iterator[bytes]:
        bits = len(original) * 8
        for bit in rng.choice(bits, min(times, bits), replace=False):
            content = bytearray(original)
            content[bit // 8] ^= 1 << bit % 8
            yield bytes(content)

    outcomes = damage(path, flipped(), pristine[1])
    assert outcomes <= set((CLOSED if closed else KINDS)[kind].split(" or "))


@FLIPS
@CASES
def test_a_missing_end(kind: str, closed: bool, times: int, copy: Path, pristine: tuple[Path, Values]) -> None:
    (path,) = copy.glob(kind)
    original = path.read_bytes()
    rng = np.random.default_rng([SEED, *kind.encode()])
    lengths = {0, len(original) - 1, *rng.integers(0, len(original), times).tolist()}
    outcomes = damage(path, (original[:length] for length in sorted(lengths)), pristine[1])
    # Of a table, the size is compared before anything is read.
    expected = "refused" if kind == "manifest-*.table" else (CLOSED if closed else KINDS)[kind]
    assert outcomes <= set(expected.split(" or "))


@CASES
def test_a_missing_file(kind: str, closed: bool, copy: Path, pristine: tuple[Path, Values]) -> None:
    (path,) = copy.glob(kind)
    path.unlink()
    if kind.startswith("commits/"):  # to delete its commit is how a clip is taken back
        assert {row for _, row in checked(copy)} == {0, 2}
    elif kind == "manifest.json" or "unused" in (CLOSED if closed else KINDS)[kind]:
        if closed and kind in ("features.zarr/zarr.json", "manifest-*.table"):
            with pytest.raises(StoreError, match="No such file"):
                checked(copy)
        else:
            assert checked(copy).keys() == pristine[1].keys()
    else:
        with pytest.raises(StoreError):
            checked(copy)


@pytest.mark.parametrize("bits", [range(0, 64, 3), pytest.param(range(RECORD.itemsize * 8), marks=LONG)])
def test_every_bit_of_an_entry_of_the_table(bits: range, pristine: tuple[Path, Values], tmp_path: Path) -> None:
    """The size comes first. One that is wrong is found when the shard is opened."""
    copy = shutil.copytree(pristine[0], tmp_path / "known")
    (path,) = copy.glob("manifest-*.table")
    original = path.read_bytes()
    start = sorted(FeatureStore.open(copy).arrays).index("half") * CLIPS * RECORD.itemsize

    def flipped() -> Iterator[bytes]:
        for bit in bits:
            content = bytearray(original)
            content[start + bit // 8] ^= 1 << bit % 8
            yield bytes(content)

    outcomes = damage(path, flipped(), pristine[1])
    assert outcomes == ({"refused"} if len(bits) < 64 else {"refused", "unused"})


@pytest.mark.parametrize("array", ["half", "byte", "byte~scale"])
def test_a_bit_that_flips_while_the_store_is_open(array: str, pristine: tuple[Path, Values], tmp_path: Path) -> None:
    """The first read compares checksums, later ones if they are told to; int8 values are checked with their scales."""
    copy = shutil.copytree(pristine[0], tmp_path / "known")
    store = FeatureStore.open(copy)
    read = "byte" if array == "byte~scale" else array
    before = store.read(read, 0)
    with next(copy.glob(f"features.zarr/{array}/c.0.*")).open("r+b") as shard:
        shard.write(b"\x01\x02")
    assert not np.array_equal(store.read(read, 0), before)
    with pytest.raises(CorruptShardError, match="does not match its crc32c"):
        store.read(read, 0, verify=True)
    with pytest.raises(CorruptShardError, match="does not match its crc32c"):
        FeatureStore.open(copy).read(read, 0)
