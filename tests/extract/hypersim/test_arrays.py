"""HDF5 files that say or hold what no file of the release does: refused before they cost memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from extract.datasets.hypersim_files import arrays
from extract.datasets.hypersim_files.arrays import read_array
from extract.errors import DataError
from tests.extract.hypersim.tiny_interiors import hdf5

VALUES = np.arange(40 * 56, dtype=np.int16).reshape(40, 56)
PACKINGS: list[dict[str, Any]] = [
    {},
    {"compression": "gzip"},
    {"compression": "gzip", "compression_opts": 9, "chunks": (40, 56)},
    {"compression": "gzip", "chunks": (12, 20)},
    {"compression": "gzip", "shuffle": True, "chunks": (12, 20)},
    {"shuffle": True, "chunks": (7, 56)},
    {"chunks": (1, 1)},
]


def refused(message: str) -> Any:
    return pytest.raises(DataError, match=rf"(?s)a\.hdf5: .*{message}.*Remedy: unpack")


def read(path: Path, shape: tuple[int | None, ...] = (40, 56), dtypes: tuple[str, ...] = ("<i2",)) -> NDArray[Any]:
    return read_array(path, shape, dtypes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.hdf5"


@pytest.mark.parametrize("packing", PACKINGS)
def test_what_the_library_reads(path: Path, packing: dict[str, Any]) -> None:
    for values in (VALUES, VALUES.astype(np.float16), np.random.default_rng(0).normal(size=(40, 56))):
        path.write_bytes(hdf5(values, **packing))
        found = read(path, (None, 56), (values.dtype.str,))
        np.testing.assert_array_equal(found, values)
        assert found.dtype == values.dtype


@pytest.mark.parametrize("packing", PACKINGS[:4])
def test_every_truncation_is_an_error(path: Path, packing: dict[str, Any]) -> None:
    whole = hdf5(VALUES, **packing)
    for length in {*range(0, len(whole), 97), *range(len(whole) - 9, len(whole))}:
        path.write_bytes(whole[:length])
        with refused(""):
            read(path)


def test_missing_and_large_files(path: Path) -> None:
    with refused("missing"):
        read(path)
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with refused("is larger than 16777216 bytes"):
        read(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (VALUES.T, r"\(56, 40\) values of int16; expected 40 x 56 of <i2"),
        (VALUES[None], r"\(1, 40, 56\)"),
        (np.int16(3), r"holds \(\) values"),
        (VALUES.astype(np.float32), "of float32"),
        (VALUES.astype(">i2"), "of >i2"),
        (np.full((40, 56), b"ab"), r"of \|S2"),
        (np.zeros((40, 56), [("x", "<i2")]), "expected 40 x 56"),
    ],
)
def test_other_shapes_and_types(path: Path, values: NDArray[Any], message: str) -> None:
    path.write_bytes(hdf5(values))
    with refused(message):
        read(path)


def edited(edit: Callable[[h5py.File], object]) -> bytes:
    stream = BytesIO()
    with h5py.File(stream, "w") as file:
        edit(file)
    return stream.getvalue()


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((40, 56), "<i2")
    layout[:] = h5py.VirtualSource("b.hdf5", "dataset", (40, 56))
    file.create_virtual_dataset("dataset", layout)


ELSEWHERE: list[tuple[Callable[[h5py.File], object], str]] = [
    (lambda file: None, "has no array 'dataset' of its own"),
    (lambda file: file.create_dataset("other", data=VALUES), "has no array 'dataset'"),
    (lambda file: file.create_group("dataset"), "'dataset' is no array"),
    (lambda file: file.__setitem__("dataset", h5py.SoftLink("/dataset")), "has no array 'dataset' of its own"),
    (
        lambda file: file.__setitem__("dataset", h5py.ExternalLink("b.hdf5", "/dataset")),
        "no array 'dataset' of its own",
    ),
    (lambda file: file.create_dataset("dataset", (40, 56), "<i2", external=[("b.bin", 0, 4480)]), "in another file"),
    (_virtual, "in another file"),
    (lambda file: file.create_dataset("dataset", dtype="<i2", shape=None, data=h5py.Empty("<i2")), "expected 40 x 56"),
]


@pytest.mark.parametrize(("edit", "message"), ELSEWHERE)
def test_values_that_lie_elsewhere(path: Path, edit: Callable[[h5py.File], object], message: str) -> None:
    (path.parent / "b.bin").write_bytes(bytes(4480))
    (path.parent / "b.hdf5").write_bytes(hdf5(VALUES))
    path.write_bytes(edited(edit))
    with refused(message):
        read(path)


@pytest.mark.parametrize("packing", [{"compression": "lzf"}, {"scaleoffset": 0}, {"fletcher32": True}])
def test_other_filters(path: Path, packing: dict[str, Any]) -> None:
    path.write_bytes(hdf5(VALUES, **packing))
    with refused(r"is packed by HDF5's filters \[\d+\]; the release has deflate"):
        read(path)


def test_more_values_than_any_file_has(path: Path) -> None:
    """2 TB, of which the file holds nothing."""
    path.write_bytes(
        edited(lambda file: file.create_dataset("dataset", (1 << 20, 1 << 20), "<i2", chunks=(1024, 1024)))
    )
    with refused(r"says that it holds \(1048576, 1048576\) values"):
        read(path, (None, None))


@pytest.mark.parametrize("packing", [{}, {"chunks": (20, 56)}, {"chunks": (20, 56), "compression": "gzip"}])
def test_values_that_were_never_written(path: Path, packing: dict[str, Any]) -> None:
    path.write_bytes(edited(lambda file: file.create_dataset("dataset", (40, 56), "<i2", **packing)))
    with refused("0 are there|has 0 chunks"):
        read(path)


def chunks(*packed: tuple[tuple[int, int], bytes]) -> bytes:
    def edit(file: h5py.File) -> None:
        made = file.create_dataset("dataset", (40, 56), "<i2", chunks=(20, 56), compression="gzip")
        for place, content in packed:
            made.id.write_direct_chunk(place, content)

    return edited(edit)


def test_a_bomb_is_not_unpacked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk of 2240 bytes that unpacks to 200 MB: no more than a byte too many of it is."""
    good, bomb = zlib.compress(VALUES[:20].tobytes()), zlib.compress(bytes(200_000_000))
    path.write_bytes(chunks(((0, 0), good), ((20, 0), bomb)))
    asked: list[int] = []
    make = zlib.decompressobj

    class Watched:
        def __init__(self) -> None:
            self.stream = make()

        def decompress(self, packed: bytes, most: int) -> bytes:
            asked.append(most)
            return self.stream.decompress(packed, most)

    monkeypatch.setattr(arrays.zlib, "decompressobj", Watched)
    with refused("a chunk of 2240 bytes unpacks to another number"):
        read(path)
    assert asked == [2241, 2241]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (zlib.compress(VALUES[20:].tobytes()[:-2]), "unpacks to another number"),
        (zlib.compress(VALUES[20:].tobytes())[:-100], "unpacks to another number"),
        (b"no deflate stream", "cannot be read"),
    ],
)
def test_chunks_that_are_damaged(path: Path, second: bytes, message: str) -> None:
    path.write_bytes(chunks(((0, 0), zlib.compress(VALUES[:20].tobytes())), ((20, 0), second)))
    with refused(message):
        read(path)


def test_a_chunk_that_is_missing(path: Path) -> None:
    path.write_bytes(chunks(((0, 0), zlib.compress(VALUES[:20].tobytes()))))
    with refused(r"has 1 chunks of \(20, 56\) for \(40, 56\) values"):
        read(path)


def test_a_chunk_whose_filter_was_left_out(path: Path) -> None:
    def edit(file: h5py.File) -> None:
        made = file.create_dataset("dataset", (40, 56), "<i2", chunks=(40, 56), compression="gzip")
        made.id.write_direct_chunk((0, 0), VALUES.tobytes(), filter_mask=1)

    path.write_bytes(edited(edit))
    with refused("chunk 0 says 4480 bytes, filters left out 1"):
        read(path)


def test_noise_is_no_crash(path: Path) -> None:
    """Whatever a byte is changed to, there is an array or a message."""
    rng, whole = np.random.default_rng(0), hdf5(VALUES, compression="gzip", chunks=(12, 20))
    refusals = 0
    for _ in range(400):
        content = np.frombuffer(whole, np.uint8).copy()
        content[rng.integers(0, min(len(content), int(rng.choice([300, 4000, 1 << 20]))), 4)] = rng.integers(0, 256, 4)
        path.write_bytes(content.tobytes())
        try:
            assert read(path).shape == (40, 56)
        except DataError:
            refusals += 1
    assert refusals > 100
