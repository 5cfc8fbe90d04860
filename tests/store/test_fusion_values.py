"""Fused values: bit for bit those of a computation by hand, however they are read, and each branch is read once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

import store as package
from store import FeatureDataset, FeatureLoader, FeatureStore, FusedStore, MissingClipError, fuse
from store.reading.ring import Ring
from tests.store.branches import by_hand, tap, write_branch

MODES = ("lnconcat", "concat")
A = tap("blocks.1", (4, 6), 5)
# Name of the case -> taps of the branches.
LAYOUTS = {
    "same grid": [A, tap("llm.1", (4, 6), 3)],
    "the first is finer": [tap("blocks.1", (7, 11), 5), tap("llm.1", (4, 6), 8)],
    "the second is finer": [A, tap("llm.1", (9, 13), 8)],
    "one is finer in y, the other in x": [tap("blocks.1", (9, 4), 5), tap("llm.1", (5, 7), 8)],
    "to one cell": [tap("blocks.1", (6, 1), 5), tap("llm.1", (1, 6), 8)],
    "three": [tap("blocks.1", (5, 6), 2), tap("llm.1", (3, 9), 7), tap("enc.1", (4, 4), 4)],
    "bfloat16": [tap("blocks.1", (5, 6), 5, "bfloat16"), tap("llm.1", (4, 7), 8)],
    "float32": [tap("blocks.1", (5, 6), 5, "float32"), tap("llm.1", (4, 6), 8, "float32")],
    "int8-channel": [A, tap("llm.1", (5, 9), 8, "int8-channel")],
}
NAMES = ("wan", "qwen", "dino")


def branches_of(taps: Sequence[Any], norm: float = 1.0) -> list[FeatureStore]:
    return [write_branch(name, [spec], norm=norm) for name, spec in zip(NAMES, taps, strict=False)]


@pytest.fixture
def pair() -> list[FeatureStore]:
    """Two branches of two taps each."""
    return [
        write_branch("wan", [tap("blocks.1", (5, 6), 5), tap("blocks.2", (5, 6), 5)]),
        write_branch("qwen", [tap("llm.3", (4, 7), 8, "int8-channel"), tap("llm.4", (3, 4), 8, "int8-channel")]),
    ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", LAYOUTS)
def test_every_bit_is_the_one_computed_by_hand(case: str, mode: str) -> None:
    branches = branches_of(LAYOUTS[case], norm=0.02)  # where eps counts
    fused = fuse(branches, mode)
    (name,) = fused.taps
    for row, frames in ((0, [0, 1, 2, 3]), (2, [3, 1]), (1, [0])):
        values = fused.read(name, row, frames)
        expected = by_hand(branches, name.split("+"), row, frames, mode)
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, expected)
    assert fused.info(name).shape == (5, 4, *expected.shape[1:])


def test_the_formulas_are_those_of_the_definitions() -> None:
    """In float64, by NumPy alone: means over windows, and cells of mean 0 and variance var / (var + eps)."""
    branches = branches_of(LAYOUTS["one is finer in y, the other in x"])
    values = fuse(branches).read("blocks.1+llm.1", 0)
    start = 0
    for branch, part in zip(branches, ("blocks.1", "llm.1"), strict=True):
        stored = branch.read(part, 0).astype(np.float64)
        _, height, width, channels = stored.shape
        pooled = np.empty((4, 5, 4, channels))
        for j, i in np.ndindex(5, 4):
            rows = slice(j * height // 5, -(-(j + 1) * height // 5))
            columns = slice(i * width // 4, -(-(i + 1) * width // 4))
            pooled[:, j, i] = stored[:, rows, columns].mean((1, 2))
        centred = pooled - pooled.mean(-1, keepdims=True)
        expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        np.testing.assert_allclose(values[..., start : start + channels], expected, rtol=0, atol=2e-6)
        start += channels
    assert start == values.shape[-1]


@pytest.mark.parametrize("mode", MODES)
def test_channels_come_in_the_order_of_the_branches(mode: str) -> None:
    branches = branches_of(LAYOUTS["three"])
    forth, back = fuse(branches, mode), fuse(branches[::-1], mode)
    a = forth.read("blocks.1+llm.1+enc.1", 0)
    b = back.read("enc.1+llm.1+blocks.1", 0)
    np.testing.assert_array_equal(b, np.concatenate([a[..., 9:], a[..., 2:9], a[..., :2]], -1))
    assert forth.fingerprint != back.fingerprint


def test_a_constant_cell_becomes_zero_and_a_large_norm_one() -> None:
    branches = branches_of(LAYOUTS["same grid"], norm=1e4)
    values = fuse(branches).read("blocks.1+llm.1", 0)
    assert np.abs(values[..., :5].mean(-1)).max() < 1e-5
    np.testing.assert_allclose(values[..., :5].std(-1), 1, rtol=1e-4)
    plain = fuse(branches, "concat").read("blocks.1+llm.1", 0)
    np.testing.assert_array_equal(plain[..., :5], branches[0].read("blocks.1", 0).astype(np.float32))


def test_long_clips_are_read_in_parts(pair: list[FeatureStore], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fuse(pair).read("blocks.1+llm.3", 0)
    monkeypatch.setattr("store.fusion.fused_store._AT_ONCE", 700)
    monkeypatch.setattr("store.fusion.arithmetic._SLAB", 1)
    np.testing.assert_array_equal(fuse(pair).read("blocks.1+llm.3", 0), whole)
    np.testing.assert_array_equal(fuse(pair).read("blocks.1+llm.3", 0, [3, 0, 2]), whole[[3, 0, 2]])


def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str, int, int]]:
    """How often each frame of each tap of a store on disk was read."""
    read, seen = FeatureStore.read, Counter[tuple[str, str, int, int]]()

    def counting(self: FeatureStore, array: str, row: int, frames: Any = None, **options: Any) -> NDArray[Any]:
        seen.update((self.name, array, row, int(frame)) for frame in frames or ())
        return read(self, array, row, frames, **options)

    monkeypatch.setattr(FeatureStore, "read", counting)
    return seen


def test_a_batch_reads_every_frame_of_a_branch_once(pair: list[FeatureStore], monkeypatch: pytest.MonkeyPatch) -> None:
    fused = fuse(pair)
    assert len(fused.taps) == 4
    expected = {name: fused.read(name, 2, [1, 3]) for name in fused.taps}
    seen = counted(monkeypatch)
    ring = Ring(fused, fused.taps, clips=2, frames=2, pin=False)
    for batch in ring.read([[(2, [1, 3]), (0, [0, 1])]]):
        for name, values in expected.items():
            assert torch.equal(batch.features[name][0], torch.from_numpy(values))
    frames = [(2, 1), (2, 3), (0, 0), (0, 1)]
    taps = [("wan/toys", "blocks.1"), ("wan/toys", "blocks.2"), ("qwen/toys", "llm.3"), ("qwen/toys", "llm.4")]
    assert {key: count for key, count in seen.items() if "~" not in key[1]} == {
        (*tap, *frame): 1 for tap in taps for frame in frames
    }


def test_a_clip_may_be_in_a_batch_twice(pair: list[FeatureStore]) -> None:
    fused = fuse(pair)
    ring = Ring(fused, ["blocks.2+llm.3"], clips=3, frames=2, pin=False)
    for batch in ring.read([[(2, [1, 3]), (2, [1, 3]), (2, [0, 1])]]):
        for values, frames in zip(batch.features["blocks.2+llm.3"], ([1, 3], [1, 3], [0, 1]), strict=True):
            assert torch.equal(values, torch.from_numpy(fused.read("blocks.2+llm.3", 2, frames)))


def test_the_loader_reads_what_read_gives(pair: list[FeatureStore]) -> None:
    fused = fuse(pair)
    loader = FeatureLoader(fused, fused.taps[:3], split="train", views=2, batch=3, threads=3, pin=False)
    shown = []
    for _ in range(2):
        for batch in loader:
            assert not batch.scales
            for name, stored in batch.features.items():
                for row, frames, values in zip(batch.rows.tolist(), batch.frames.tolist(), stored, strict=True):
                    assert torch.equal(values, torch.from_numpy(fused.read(name, row, frames)))
                    shown.append(row)
    assert Counter(shown) == dict.fromkeys(range(4), 6)
    assert loader.state_dict()["settings"]["fingerprint"] == fused.fingerprint


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_reads_it_in_other_processes(pair: list[FeatureStore], workers: int) -> None:
    fused = fuse(pair)
    dataset = FeatureDataset(fused, ["blocks.1+llm.4"], rows=[0, 2, 3], frames=[0, 2])
    context = "spawn" if workers else None
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_size=2, num_workers=workers, multiprocessing_context=context, collate_fn=FeatureDataset.collate
    )
    read = torch.cat([batch.features["blocks.1+llm.4"] for batch in loader])
    expected = np.stack([fused.read("blocks.1+llm.4", row, [0, 2]) for row in (0, 2, 3)])
    assert torch.equal(read, torch.from_numpy(expected))


def test_xarray_reads_it_lazily(pair: list[FeatureStore]) -> None:
    fused = fuse(pair)
    tree = package.open("store/wan+store/qwen", fusion="lnconcat")
    assert sorted(tree.children) == sorted(fused.taps)
    node = tree["blocks.1+llm.3"].to_dataset()
    assert dict(node["features"].sizes) == {"clip": 5, "frame": 4, "y": 4, "x": 6, "channel": 13}
    assert node.attrs["site"] == "blocks.1+llm.3"
    assert tree.attrs["model"] == "wan+qwen-lnconcat"
    values = node["features"].sel(clip="clip2").isel(frame=[1, 3]).values
    np.testing.assert_array_equal(values, fused.read("blocks.1+llm.3", 2, [1, 3]))
    short = node["features"].sel(clip="clip1").values
    np.testing.assert_array_equal(short[:2], fused.read("blocks.1+llm.3", 1))
    assert np.isnan(short[2:]).all()
    alone = package.open_tap("store/wan+store/qwen", "blocks.1+llm.3", fusion="lnconcat", chunks={})
    np.testing.assert_array_equal(alone["features"].values, node["features"].values)


def test_damage_in_a_branch_is_found(pair: list[FeatureStore]) -> None:
    path = pair[1].path / pair[1].info("llm.3").shard(2)
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    with pytest.raises(package.CorruptShardError, match=re.escape(str(path))):
        fuse(["store/wan", "store/qwen"]).read("blocks.1+llm.3", 2)
    with pytest.raises(package.CorruptShardError, match=re.escape(str(path))):
        list(FeatureLoader(fuse(["store/wan", "store/qwen"]), ["blocks.1+llm.3"], batch=1, frames=[0], pin=False))


def test_memory_that_does_not_fit_and_frames_that_are_not_there(pair: list[FeatureStore]) -> None:
    fused = fuse(pair)
    with pytest.raises(ValueError, match=r"out: expected C-contiguous \(2, 4, 6, 13\) float32, got \(2, 4, 6, 12\)"):
        fused.read("blocks.1+llm.3", 0, [0, 1], out=np.empty((2, 4, 6, 12), np.float32))
    with pytest.raises(MissingClipError, match=r"wan/toys: clip clip1 has bank frames 0 … 1, asked for \[3\]"):
        fused.read("blocks.1+llm.3", 1, [3])
    with pytest.raises(MissingClipError, match=r"no clip has row 5\. There are 5, from row 0 on"):
        fused.read("blocks.1+llm.3", 5)
    with pytest.raises(package.UnknownArrayError, match="is float32 and has no scales"):
        fused.scale("blocks.1+llm.3", 0)
    assert isinstance(fused, FusedStore)
