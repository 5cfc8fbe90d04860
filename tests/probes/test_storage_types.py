"""However features are stored, probes see the numbers that `FeatureStore.read` gives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluate.records import Run
from probes.config import TrainConfig
from probes.data import Stream
from probes.errors import NonFiniteError
from probes.features import read_features
from probes.inputs import Inputs, align, open_inputs
from probes.tasks import get_task
from probes.train import app
from store import FeatureStore, StoreWriter, create

TAP = "blocks.1@t500"
CONFIG = TrainConfig(tasks=("depth", "tagging"), taps=("blocks.0", TAP), views=3, epochs=2)


def store_as(root: Path, dtype: str, source: FeatureStore) -> FeatureStore:
    """A root with the targets, and the features of `source` in another storage type."""
    shutil.copytree(Path(source.path).parents[1] / "targets", root / "targets")
    path = root / "toy" / "world"
    path.parent.mkdir()
    specs = [source.info(tap).spec(dtype) for tap in source.taps]
    create(path, source.recipe, source.clips, specs, attrs=source.attrs, coordinates={}, provenance={})
    with StoreWriter(path) as writer:
        for row in source.rows():
            writer.put(row, {tap: source.read(tap, row).astype(np.float32) for tap in source.taps})
    return FeatureStore.open(path)


def inputs_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    monkeypatch.setenv("FEATURE_STORE", str(root))
    features, targets = open_inputs("store/toy", None, None)
    return align(features, targets, CONFIG.taps, CONFIG.tasks, CONFIG.views, None)


def stream_of(inputs: Inputs) -> Stream:
    return Stream(inputs, [get_task(name, inputs.space) for name in CONFIG.tasks], CONFIG)


@pytest.mark.parametrize("dtype", ["int8-channel", "bfloat16"])
def test_a_run_is_the_one_on_float32_of_the_same_numbers(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    compact = store_as(tmp_path / "compact", dtype, FeatureStore.open(world / "toy" / "world"))
    store_as(tmp_path / "wide", "float32", compact)
    runs = []
    for name in ("compact", "wide"):
        monkeypatch.setenv("FEATURE_STORE", str(tmp_path / name))
        tasks = [argument for task in CONFIG.tasks for argument in ("--task", task)]
        out = str(tmp_path / f"run-{name}")
        app(
            ["--features", "store/toy", *tasks, "--views", "3", "--epochs", "2", "--device", "cpu", "--out", out],
            standalone_mode=False,
        )
        runs.append(Path(out))
    assert (runs[0] / "probes.safetensors").read_bytes() == (runs[1] / "probes.safetensors").read_bytes()
    first, second = Run.open(runs[0]), Run.open(runs[1])
    for probe in first.info.probes:
        for split in ("val", "test"):
            statistics, same = (run.statistics(probe.task, probe.id, split)[1] for run in (first, second))
            for name, values in statistics.items():
                assert np.array_equal(values, same[name], equal_nan=True), (probe.id, split, name)


@pytest.mark.parametrize(
    ("dtype", "kept"), [("int8-channel", torch.int8), ("bfloat16", torch.bfloat16), ("float32", torch.float32)]
)
def test_batches_come_as_stored(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, kept: torch.dtype
) -> None:
    features = store_as(tmp_path / "other", dtype, FeatureStore.open(world / "toy" / "world"))
    inputs = inputs_of(tmp_path / "other", monkeypatch)
    for batch in stream_of(inputs).train(CONFIG.taps):
        assert {values.dtype for values in batch.features.values()} == {kept}
        assert set(batch.scales) == (set(CONFIG.taps) if dtype == "int8-channel" else set())
    assert read_features(inputs, TAP, 3).dtype == torch.float32
    assert torch.equal(read_features(inputs, TAP, 3, [2, 0]), torch.from_numpy(features.read(TAP, 3, [2, 0])))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int8-channel"])
def test_a_number_that_is_not_finite_is_named_where_it_is_read(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, bad: float
) -> None:
    store_as(tmp_path / "other", dtype, FeatureStore.open(world / "toy" / "world"))
    inputs = inputs_of(tmp_path / "other", monkeypatch)
    read, scale = FeatureStore.read, FeatureStore.scale

    def damaged(self: FeatureStore, array: str, row: int, frames: Any = None, **options: Any) -> NDArray[Any]:
        values = read(self, array, row, frames, **options)
        if array == TAP and row == 2 and values.dtype != np.int8:
            number = torch.tensor(bad, dtype=torch.bfloat16).view(torch.uint16).item()
            values[1, 2, 3, 4] = number if values.dtype == np.uint16 else bad
        return values

    def damaged_scale(self: FeatureStore, array: str, row: int, **named: bool | None) -> NDArray[np.float32]:
        values = scale(self, array, row, **named)
        if array == TAP and row == 2:
            values[4] = bad
        return values

    monkeypatch.setattr(FeatureStore, "read", damaged)
    if dtype == "int8-channel":
        monkeypatch.setattr(FeatureStore, "scale", damaged_scale)
    with pytest.raises(NonFiniteError, match=r"tap blocks\.1@t500, clip train-2 \(row 2\).* = \[\d, \d, \d, 4\]"):
        for _ in stream_of(inputs).train(CONFIG.taps):
            pass
    with pytest.raises(NonFiniteError, match=r"clip train-2 .* = \[3, 2, 3, 4\]|= \[0, 0, 0, 4\]"):
        read_features(inputs, TAP, 2, [0, 3])
