"""Sampling depends on what it is for, and on nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probes.config import TrainConfig
from probes.data import Batch, Batches, Sample, Stream, prefetch, schedule
from probes.errors import NonFiniteError, SplitError
from probes.features import read_features
from probes.inputs import TRAIN, Inputs, align, open_inputs
from probes.pools import shuffled_sources
from probes.tasks import TASKS, get_task
from probes.tasks.base import Wanted
from probes.views import random_views, windows

CONFIG = TrainConfig(tasks=("depth",), taps=("blocks.1@t500",), views=3)
DEPTH, SHUFFLED = Wanted("depth", "cells"), Wanted("depth", "cells", shuffled=True)


@pytest.fixture
def inputs(world: Path) -> Inputs:
    features, targets = open_inputs("store/toy", None, None)
    return align(features, targets, ["blocks.0", "blocks.1@t500"], list(TASKS), 3, None)


def stream(inputs: Inputs, config: TrainConfig) -> Stream:
    return Stream(inputs, [get_task(name, inputs.space) for name in config.tasks], config)


def batch(inputs: Inputs, config: TrainConfig, samples: list[Sample]) -> Batch:
    return next(iter(Batches(stream(inputs, config), config.taps, [samples], slots=1)))


def test_windows_of_the_bank() -> None:
    assert windows(20, 4).tolist() == [[i, i + 5, i + 10, i + 15] for i in range(5)]
    with pytest.raises(SplitError, match="lower --views"):
        windows(3, 4)


@given(st.integers(2, 30), st.integers(2, 8))
def test_windows_use_no_frame_twice_and_are_ordered(frames: int, views: int) -> None:
    if frames >= views:
        chosen = windows(frames, views)
        assert len(np.unique(chosen)) == chosen.size == frames // views * views
        assert (np.diff(chosen, axis=1) > 0).all()
        assert chosen.max() < frames


def test_every_epoch_shows_every_clip_once_and_batches_are_full() -> None:
    batches = schedule([3, 5, 8, 9, 11], CONFIG.model_copy(update={"epochs": 4}))
    assert {len(batch) for batch in batches} == {CONFIG.batch_clips}
    flat = [sample for batch in batches for sample in batch]
    for epoch in range(4):
        assert sorted(sample.row for sample in flat if sample.epoch == epoch) == [3, 5, 8, 9, 11]
    orders = [[sample.row for sample in flat if sample.epoch == epoch] for epoch in range(4)]
    assert len({tuple(order) for order in orders}) > 1


@given(st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=20), st.integers(0, 5))
def test_with_shuffled_labels_every_clip_has_those_of_another_scene(names: list[str], seed: int) -> None:
    scenes = dict(enumerate(names))
    if len(set(names)) < 2:
        with pytest.raises(SplitError, match="--control: all training clips are of one scene"):
            shuffled_sources(scenes, seed)
        return
    sources = shuffled_sources(scenes, seed)
    assert sources.keys() == scenes.keys()
    assert all(scenes[source] != scenes[row] for row, source in sources.items())
    assert {scenes[source] for source in sources.values()} == set(names)
    assert sources == shuffled_sources(scenes, seed)


def test_controls_have_other_targets_of_the_same_views(inputs: Inputs) -> None:
    config = CONFIG.model_copy(update={"control": True})
    samples = [Sample(row, 0) for row in inputs.rows[TRAIN][:2]]
    alone, both = (batch(inputs, each, samples) for each in (CONFIG, config))
    assert alone.targets.keys() == {DEPTH}
    assert both.targets.keys() == {DEPTH, SHUFFLED}
    assert all(torch.equal(values, both.targets[DEPTH][name]) for name, values in alone.targets[DEPTH].items())
    sources = shuffled_sources({row: inputs.clip(row).scene for row in inputs.rows[TRAIN]}, CONFIG.seed)
    beside = stream(inputs, config)
    for place, (sample, frames) in enumerate(zip(samples, beside._frames(samples), strict=True)):
        theirs = beside.pools[sources[sample.row]]["depth"][frames]
        drawn = both.targets[SHUFFLED]["log_depth"][place].exp().numpy()
        known = both.targets[SHUFFLED]["valid"][place].numpy()
        for view in range(len(frames)):
            assert np.isclose(drawn[view][known[view]][:, None], theirs[view], rtol=1e-5).any(1).all()
    assert not torch.equal(both.targets[SHUFFLED]["xy"], both.targets[DEPTH]["xy"])


def test_controls_are_judged_by_the_true_labels_and_start_where_their_twins_do(inputs: Inputs) -> None:
    seen = stream(inputs, CONFIG.model_copy(update={"control": True}))
    for held in seen.val(CONFIG.taps):
        assert held.targets.keys() == {DEPTH, SHUFFLED}
        assert all(torch.equal(values, held.targets[SHUFFLED][name]) for name, values in held.targets[DEPTH].items())
    priors = seen.priors()
    assert torch.equal(priors[DEPTH], priors[SHUFFLED])
    assert torch.equal(priors[DEPTH], stream(inputs, CONFIG).priors()[DEPTH])
    assert seen.targets_bytes() == 2 * stream(inputs, CONFIG).targets_bytes() > 0


def test_heads_that_ask_in_other_forms_have_targets_of_their_own(inputs: Inputs) -> None:
    forms = [get_task("tagging", inputs.space, layouts=[layout]) for layout in ("views", "clip")]
    seen = next(iter(Stream(inputs, forms, CONFIG).train(CONFIG.taps)))
    shapes = {wanted: tuple(targets["labels"].shape) for wanted, targets in seen.targets.items()}
    assert shapes == {Wanted("tagging", "views"): (4, 3, 3), Wanted("tagging", "clip"): (4, 1, 3)}


def test_one_clip_is_enough_for_a_batch() -> None:
    assert [len(batch) for batch in schedule([7], CONFIG.model_copy(update={"epochs": 1}))] == [1]


def test_views_depend_on_their_key_alone() -> None:
    keys = [(0, "views", epoch, row) for epoch in range(5) for row in range(5)]
    chosen = {key: tuple(random_views(20, 3, *key)) for key in keys}
    assert chosen == {key: tuple(random_views(20, 3, *key)) for key in reversed(keys)}
    assert len(set(chosen.values())) > 20
    assert all(len(set(views)) == 3 and list(views) == sorted(views) for views in chosen.values())


def test_val_is_seen_in_the_same_views_every_time(inputs: Inputs) -> None:
    val = stream(inputs, CONFIG).val(CONFIG.taps)
    first = [{name: values.clone() for name, values in seen.targets[DEPTH].items()} for seen in val]
    again = [dict(seen.targets[DEPTH]) for seen in val]
    assert sum(len(each["xy"]) for each in first) == len(inputs.rows["val"]) * (6 // 3)
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(values, other[name]) for name, values in one.items())


def test_processes_share_every_batch(inputs: Inputs) -> None:
    tasks = [get_task("depth", inputs.space)]
    whole = [seen.targets[DEPTH]["xy"].clone() for seen in Stream(inputs, tasks, CONFIG).train(CONFIG.taps, 3)]
    shares = [Stream(inputs, tasks, CONFIG, share=(rank, 2)).train(CONFIG.taps, 3) for rank in (0, 1)]
    halves = [[seen.targets[DEPTH]["xy"].clone() for seen in share] for share in shares]
    assert len(whole) == len(halves[0]) == len(halves[1])
    for both, even, odd in zip(whole, *halves, strict=True):
        assert torch.equal(both[::2], even)
        assert torch.equal(both[1::2], odd)


def test_a_sample_is_the_same_beside_other_tasks_taps_and_clips(inputs: Inputs) -> None:
    alone = batch(inputs, CONFIG, [Sample(4, 2)])
    everything = CONFIG.model_copy(update={"tasks": tuple(TASKS), "taps": ("blocks.0", "blocks.1@t500")})
    together = batch(inputs, everything, [Sample(0, 1), Sample(4, 2)])
    torch.testing.assert_close(
        alone.features["blocks.1@t500"][0], together.features["blocks.1@t500"][1], rtol=0, atol=0
    )
    for name, values in alone.targets[DEPTH].items():
        torch.testing.assert_close(values[0], together.targets[DEPTH][name][1], rtol=0, atol=0)


def test_prefetching_keeps_order_and_passes_errors_on() -> None:
    assert list(prefetch(iter(range(50)))) == list(range(50))

    def broken() -> Iterator[int]:
        yield 1
        raise OSError("disk on fire")

    with pytest.raises(OSError, match="disk on fire"):
        list(prefetch(broken()))


def test_a_consumer_that_stops_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    iterator = prefetch(iter(range(10_000)))
    assert next(iterator) == 0
    iterator.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) <= before


def test_a_nan_in_the_store_is_named(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = inputs.features.read

    def damaged(array: str, row: int, frames: list[int] | None = None) -> np.ndarray:
        values = whole(array, row, frames).copy()
        values[1, 2, 3, 4] = np.nan
        return values

    monkeypatch.setattr(inputs.features, "read", damaged)
    with pytest.raises(NonFiniteError, match=r"tap blocks\.0, clip train-2 .*= \[1, 2, 3, 4\]"):
        read_features(inputs, "blocks.0", 2)


def test_a_pose_that_is_not_known_is_never_used(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    read = type(inputs.targets).read

    def lost(store: Any, array: str, row: int, *more: Any, **named: Any) -> Any:
        values = read(store, array, row, *more, **named)
        return np.where(np.arange(len(values))[:, None, None] == 1, 0, values) if array == "cam_to_world" else values

    monkeypatch.setattr(type(inputs.targets), "read", lost)
    config = CONFIG.model_copy(update={"tasks": ("camera", "points"), "epochs": 3})
    seen = {True: 0, False: 0}
    for said in stream(inputs, config).train(config.taps):
        camera, points = (said.targets[wanted] for wanted in (Wanted("camera", "pairs"), Wanted("points", "cells")))
        for valid in camera["valid"].flatten().tolist():
            seen[valid] += 1
        for values in (*camera.values(), *points.values()):
            assert torch.isfinite(values.float()).all()
    assert min(seen.values()) > 0
