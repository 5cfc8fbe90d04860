"""Grouping by the paper's rules, against literal loops, torch, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evaluate.errors import InputError
from evaluate.metrics.paper.grouping import cluster, match, score_window, upsample_nearest
from evaluate.protocols import get_protocol

_LABELS = hnp.arrays(np.int64, (3, 4, 4), elements=st.integers(-1, 3))
_INSTANCES = hnp.arrays(np.int64, (3, 4, 4), elements=st.integers(0, 3))


def _literal(labels: np.ndarray, instances: np.ndarray) -> tuple[float, float] | None:
    """Return (T-mIoU, T-SR) of one window with sets of pixels."""
    views, height, width = labels.shape
    everywhere = [(v, y, x) for v in range(views) for y in range(height) for x in range(width)]
    valid = [at for at in everywhere if instances[at] != 0]
    things = sorted({int(instances[at]) for at in valid})
    groups = sorted({int(labels[at]) for at in valid} - {-1})
    if not things:
        return None
    ious, successes = [], []
    for thing in things:
        ours = {(y, x) for v, y, x in valid if instances[v, y, x] == thing}
        best, cluster_of_best = -1.0, None
        for group in groups:
            theirs = {(y, x) for v, y, x in valid if labels[v, y, x] == group}
            if len(ours & theirs) / len(ours | theirs) > best:
                best, cluster_of_best = len(ours & theirs) / len(ours | theirs), group
        per_view = []
        for v in range(views):
            mine = {at for at in valid if at[0] == v and instances[at] == thing}
            other = {at for at in valid if at[0] == v and labels[at] == cluster_of_best}
            if mine:
                per_view.append(len(mine & other) / len(mine | other))
        ious.append(sum(per_view) / len(per_view))
        successes.append(all(iou >= 0.5 for iou in per_view))
    return sum(ious) / len(ious), sum(successes) / len(successes)


@given(labels=_LABELS, instances=_INSTANCES)
@settings(deadline=None, max_examples=60)
def test_a_window_is_the_literal_definition(labels, instances):
    for guess in (labels, np.where(labels > 1, instances, -1)):
        got, expected = score_window(guess, instances), _literal(guess, instances)
        assert got == expected if expected is None else got == pytest.approx(expected)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 90), st.integers(1, 90))
@settings(deadline=None, max_examples=60)
def test_upsampling_is_that_of_torch(gy, gx, y, x):
    labels = np.arange(gy * gx).reshape(1, gy, gx)
    expected = F.interpolate(torch.from_numpy(labels)[None].float(), size=(y, x), mode="nearest")[0].long()
    np.testing.assert_array_equal(upsample_nearest(labels, (y, x)), expected)


def test_masks_of_different_views_are_laid_over_each_other():
    instances = np.zeros((2, 2, 2), int)
    instances[0, 0, 0] = instances[1, 1, 1] = 1
    instances[0, 1, 1] = instances[1, 0, 0] = 2
    labels = np.full((2, 2, 2), -1)
    labels[0, 1, 1] = labels[1, 0, 0] = 0  # all of instance 2, and at the positions of instance 1
    assert match(labels, instances) == {1: 0, 2: 0}
    assert score_window(labels, instances) == (0.5, 0.5)


@given(labels=_LABELS, instances=_INSTANCES, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_what_lies_on_the_background_costs_nothing(labels, instances, seed):
    other = np.where(instances == 0, np.random.default_rng(seed).integers(-1, 4, labels.shape), labels)
    assert score_window(labels, instances) == score_window(other, instances)


def test_a_cluster_that_spills_over_the_background_is_matched_as_if_it_did_not():
    instances = np.array([[[1, 1, 1, 0, 0, 0]]])
    labels = np.array([[[0, 0, 1, 0, 0, 0]]])
    assert match(labels, instances) == {1: 0}
    assert score_window(labels, instances) == pytest.approx((2 / 3, 1))


def test_one_cluster_serves_many_instances():
    instances = np.array([[[1, 1, 2, 0]]])
    assert match(np.zeros((1, 1, 4), int), instances) == {1: 0, 2: 0}
    assert score_window(np.zeros((1, 1, 4), int), instances) == pytest.approx(((2 / 3 + 1 / 3) / 2, 0.5))


def test_noise_is_never_matched():
    instances = np.ones((1, 2, 2), int)
    assert match(np.full((1, 2, 2), -1), instances) == {}
    assert score_window(np.full((1, 2, 2), -1), instances) == (0, 0)


@pytest.mark.parametrize("channels", [6, 32])
def test_codes_that_tell_things_apart_are_clustered_on_the_tokens_own_grid(channels):
    rng = np.random.default_rng(0)
    instances = np.ones((1, 2, 32, 32), int)
    instances[:, :, :, 16:] = 2
    codes = np.eye(channels)[instances[:, :, ::4, ::4]] + rng.normal(0, 0.02, (1, 2, 8, 8, channels))
    protocol = get_protocol("grouping", family="paper-2605.28132")
    row = protocol.score_scene({"embeddings": codes.astype(np.float32)}, {"instances": instances})
    got = protocol.reduce({name: value[None] for name, value in row.items()})
    assert got["t_miou"] > 0.9
    assert got["t_sr"] == 1
    labels = cluster(codes[0])
    assert labels.shape == (2, 8, 8)
    np.testing.assert_array_equal(labels, cluster(codes[0]))


def test_fewer_tokens_than_a_cluster_needs_are_noise():
    assert (cluster(np.random.default_rng(0).normal(size=(1, 4, 7, 12))) == -1).all()
    tight = np.random.default_rng(0).normal(size=(2, 3, 6, 12)) * 1e-3
    tight[1] += 1
    assert (cluster(tight) == -1).all()  # two groups of 18 tokens, and 30 make a cluster


def test_windows_without_an_instance_are_left_out_and_scenes_weigh_the_same():
    protocol = get_protocol("grouping", family="paper-2605.28132")
    embeddings = np.random.default_rng(0).normal(size=(2, 1, 8, 8, 4))
    instances = np.zeros((2, 1, 8, 8), int)
    instances[1] = 3
    row = protocol.score_scene({"embeddings": embeddings}, {"instances": instances})
    assert row["windows"] == 1
    pool = {"windows": np.array([1, 2, 0]), "iou": np.array([0.2, 1.2, 0]), "success": np.array([0, 1.0, 0])}
    assert protocol.reduce(pool) == pytest.approx({"t_miou": 0.4, "t_sr": 0.25})


def test_values_that_are_not_finite_and_windows_that_do_not_fit_are_refused():
    score = get_protocol("grouping", family="paper-2605.28132").score_scene
    with pytest.raises(InputError, match="NaN"):
        score({"embeddings": np.full((1, 1, 4, 4, 3), np.nan)}, {"instances": np.ones((1, 1, 8, 8), int)})
    with pytest.raises(InputError, match="window, view"):
        score({"embeddings": np.zeros((1, 2, 4, 4, 3))}, {"instances": np.ones((1, 1, 8, 8), int)})
