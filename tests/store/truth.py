"""A store of every storage type, every value of which is known; no heavy import, so that processes start at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from store import ArraySpec, ClipRow, Coordinate, FeatureStore, Recipe, StoreWriter, create, finalize
from store.commits import COMMITS
from store.digest import digest_file
from store.documents import unseal
from store.files import PARTIAL
from store.layout import PROVENANCE
from tests.store.conftest import dataset_recipe

FRAMES, GRID = 4, (2, 3, 5)
_DIMS = ("frame", "y", "x", "channel")


def tap(name: str, dtype: str, depth: int, grid: tuple[int, int, int] = GRID) -> ArraySpec:
    return ArraySpec(name, (FRAMES, *grid), dtype, _DIMS, {"site": name, "depth": depth, "noise": None})


SPECS = [
    tap("half", "float16", 0),
    tap("brain@t5", "bfloat16", 1),
    tap("byte", "int8-channel", 2),
    ArraySpec("label", (FRAMES, 6, 6), "uint16", ("frame", "y", "x"), compressed=True),
    ArraySpec("slot", (7,), "uint8", ("slot",)),
]
NAMES = [spec.name for spec in SPECS]


def table(clips: int) -> list[ClipRow]:
    """Clips with full banks, but for every fifth, which ends early."""
    return [
        ClipRow(
            row=row,
            id=f"clip{row}",
            scene=f"scene{row}",
            split="test" if row % 4 == 3 else "train",
            bank=tuple(range(2 if row % 5 == 4 else FRAMES)),
            n_frames=9,
            digest="00",
        )
        for row in range(clips)
    ]


def make(path: Path, clips: int, specs: Sequence[ArraySpec] = SPECS) -> None:
    """Create the store, or join the one that is there."""
    rows = table(clips)
    frames = np.full((clips, FRAMES), -1, np.int32)
    for clip in rows:
        frames[clip.row, : len(clip.bank)] = clip.bank
    create(
        path,
        Recipe(kind="features", dataset=dataset_recipe("known", rows)),
        rows,
        specs,
        attrs={"model": "known"},
        coordinates={"bank_frame": Coordinate(frames, ("clip", "frame"), "frame numbers")},
        provenance={"host": "here"},
    )


def values(clip: ClipRow, writer: int = 0) -> dict[str, NDArray[Any]]:
    """What a writer computes for a clip: each writer something else, but with nearly the same largest magnitudes.

    Channels differ by powers of ten, as in real features. The largest magnitudes of two writers differ by a thousandth,
    so that the scales of int8 differ, yet no value of one is cut off by the scale of the other.
    """
    rng = np.random.default_rng([clip.row, writer])
    shape = len(clip.bank), *GRID
    features = {}
    for name in ("half", "brain@t5", "byte"):
        signs = rng.uniform(-1, 1, shape)
        signs[0, 0, 0] = rng.choice([-1, 1], GRID[-1])
        features[name] = (signs * (1 + writer / 1000) * 10.0 ** np.arange(-3, GRID[-1] - 3)).astype(np.float32)
    labels = rng.integers(0, 9, (len(clip.bank), 6, 6)).astype(np.uint16)
    return features | {"label": labels, "slot": rng.integers(0, 9, 7).astype(np.uint8)}


def write(path: Path, rows: Iterable[int], writer: int = 0, threads: int = 2) -> None:
    with StoreWriter(path, threads=threads) as store:
        clips = FeatureStore.open(path).clips
        for row in rows:
            store.put(row, values(clips[row], writer))


def whole(path: Path, clips: int) -> None:
    """The store that an extraction makes that nothing disturbs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path, clips)
    write(path, range(clips))
    finalize(FeatureStore.open(path))


def is_from(store: FeatureStore, array: str, row: int, writer: int) -> bool:
    """Whether what the store holds is what that writer computed, up to the rounding of the storage type."""
    truth, found = values(store.clips[row], writer)[array], store.read(array, row, verify=True)
    if array == "half":
        return np.array_equal(found, truth.astype(np.float16))
    if array == "brain@t5":
        return np.array_equal(found, truth.astype(ml_dtypes.bfloat16).astype(np.float32))
    if array != "byte":
        return np.array_equal(found, truth)
    stored = np.empty(truth.shape, np.int8)
    scale = store.scale(array, row)
    store.read(array, row, out=stored, verify=True)
    assert np.array_equal(found, stored * scale)
    return bool((np.abs(found - truth) <= 0.5001 * scale).all())


def readings(path: Path) -> dict[int, dict[str, NDArray[Any]]]:
    """Every committed value, read anew with every checksum compared."""
    store = FeatureStore.open(path)
    return {
        row: {name: store.read(name, row, verify=True) for name in arrays} for row, arrays in store.committed.items()
    }


def check_committed(path: Path) -> int:
    """Read all that is committed, and compare shards with their digests. Returns how many clips there are."""
    store = FeatureStore.open(path)
    for row, arrays in store.committed.items():
        assert arrays.keys() == {*NAMES, "byte~scale"}
        for name, record in arrays.items():
            store.read(name, row, verify=True)
            assert digest_file(path / store.info(name).shard(row)) == record.xxh3_128, (name, row)
    return len(store.committed)


def is_partial(path: Path) -> bool:
    """Whether it is left over by a writer that was killed."""
    return any(part.startswith(".") and part.endswith(PARTIAL) for part in path.parts)


def files(path: Path) -> dict[str, bytes]:
    """Name -> content of every file that is not left over by a killed writer."""
    found = (file for file in path.rglob("*") if file.is_file())
    names = {file: file.relative_to(path) for file in found}
    return {name.as_posix(): file.read_bytes() for file, name in names.items() if not is_partial(name)}


def assert_same_store(left: Path, right: Path) -> None:
    """Two finalized stores agree in every bit but for who committed when.

    All of `features.zarr`, `clips.json`, and the manifest's table are the same bytes. So is `recipe.json`, but for the
    digest of `provenance.json` and the seal, which follows. The manifests differ only in the names of the commits. Of
    every clip there is at least one commit, and all that there are say the same. Tables that no manifest names any more
    may still be there.
    """
    a, b = _current(files(left)), _current(files(right))
    assert {name for name in a if not _is_commit(name)} == {name for name in b if not _is_commit(name)}
    for name, content in a.items():
        if name == "manifest.json":
            assert unseal(content, name) | {"commits": []} == unseal(b[name], name) | {"commits": []}
        elif name == "recipe.json":
            one, other = unseal(content, name), unseal(b[name], name)
            del one["files"][PROVENANCE], other["files"][PROVENANCE]
            assert one == other
        elif name != PROVENANCE and not _is_commit(name):
            assert content == b[name], name
    assert _commits(a) == _commits(b)


def _current(found: dict[str, bytes]) -> dict[str, bytes]:
    table = json.loads(found["manifest.json"])["table"]["file"]
    return {name: content for name, content in found.items() if name == table or not name.endswith(".table")}


def _is_commit(name: str) -> bool:
    return name.startswith(f"{COMMITS}/")


def _commits(found: dict[str, bytes]) -> dict[int, Any]:
    """Row -> what all its commits say, and that the manifest has merged exactly the commits there are."""
    names = sorted(name.removeprefix(f"{COMMITS}/") for name in found if _is_commit(name))
    assert json.loads(found["manifest.json"])["commits"] == names
    rows: dict[int, Any] = {}
    for name in names:
        commit = unseal(found[f"{COMMITS}/{name}"], name)
        del commit["writer"], commit["time"]
        assert rows.setdefault(commit["row"], commit) == commit, name
    return rows
