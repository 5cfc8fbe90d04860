"""Grouping against scikit-learn, brute force, and by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from evaluate.errors import InputError
from evaluate.metrics.grouping import (
    GRID,
    _resampling,
    adjusted_rand,
    cluster,
    contingency,
    match,
    principal_components,
    resample,
    score_window,
    upsample_nearest,
)
from evaluate.protocols import get_protocol

_LABELS = hnp.arrays(np.int64, (2, 4, 4), elements=st.integers(-1, 3))
_INSTANCES = hnp.arrays(np.int64, (2, 4, 4), elements=st.integers(0, 3))


def _iou(mask: np.ndarray, other: np.ndarray) -> float:
    return float((mask & other).sum() / (mask | other).sum())


@given(labels=_LABELS, instances=_INSTANCES)
@settings(deadline=None)
def test_matching_is_the_best_of_all_one_to_one_matchings(labels, instances):
    ids = [k for k in np.unique(instances) if k > 0]
    clusters = [k for k in np.unique(labels) if k >= 0]
    padded = clusters + [-99] * len(ids)
    best = max(
        (sum(_iou(instances == i, labels == c) for i, c in zip(ids, order, strict=True) if c >= 0)
         for order in permutations(padded, len(ids))),
        default=0.0,
    )  # fmt: skip
    matched = match(labels, instances)
    assert len(set(matched.values())) == len(matched)
    assert sum(_iou(instances == i, labels == c) for i, c in matched.items()) == pytest.approx(best)


@given(labels=_LABELS, instances=_INSTANCES)
@settings(deadline=None)
def test_rand_index_is_that_of_sklearn(labels, instances):
    table, _, _ = contingency(labels, instances)
    assert adjusted_rand(table.sum(axis=0)) == pytest.approx(adjusted_rand_score(instances.ravel(), labels.ravel()))


@given(labels=_LABELS, instances=_INSTANCES, seed=st.integers(0, 99))
@settings(deadline=None)
def test_names_of_clusters_do_not_matter(labels, instances, seed):
    order = np.concatenate([np.random.default_rng(seed).permutation(5), [-1]])

    def matched_iou(labels: np.ndarray) -> list[float]:
        pairs = match(labels, instances).items()
        return sorted(
            ((instances == i) & (labels == c)).sum() / ((instances == i) | (labels == c)).sum() for i, c in pairs
        )

    # Equally good matchings are possible, and their IoU view by view may differ; their total may not.
    assert sum(matched_iou(order[labels])) == pytest.approx(sum(matched_iou(labels)))
    first, second = score_window(order[labels], instances), score_window(labels, instances)
    assert (first is None) == (second is None)
    if first and second:
        assert (first.instances, first.ari) == (second.instances, pytest.approx(second.ari))


def test_a_window_by_hand():
    instances = np.zeros((2, 4, 4), int)
    instances[0, :, :2], instances[1, :, :1] = 1, 1  # visible in both views
    instances[0, :2, 2:] = 2  # in the first view only
    labels = np.full((2, 4, 4), -1)
    labels[0, :, :2], labels[1, :2, :1] = 5, 5  # all of 1 in view 0, half of it in view 1
    labels[0, :, 2:] = 6  # 2 and as much background
    score = score_window(labels, instances)
    assert score is not None
    assert score.instances == 2
    assert score.iou == pytest.approx((1 + 0.5) / 2 + 0.5)
    assert score.success == 2
    labels[1, 1, 0] = -1
    worse = score_window(labels, instances)
    assert worse is not None
    assert worse.success == 1


def test_views_are_never_laid_over_each_other():
    instances = np.zeros((2, 2, 2), int)
    instances[0, 0, 0] = instances[1, 1, 1] = 1
    labels = np.full((2, 2, 2), -1)
    labels[0, 1, 1] = labels[1, 0, 0] = 0  # the same positions, each in the other view
    assert match(labels, instances) == {}


def test_a_cluster_that_spills_over_the_background_loses_against_a_tidy_one():
    instances = np.zeros((1, 8, 8), int)
    instances[0, :2, :5] = 1
    labels = np.zeros((1, 8, 8), int)  # cluster 0: six pixels of the instance, and all of the background
    labels[0, :2, :2] = 1  # cluster 1: four pixels of the instance, and nothing else
    assert match(labels, instances) == {1: 1}


def test_one_cluster_serves_one_instance():
    instances = np.array([[[1, 2], [0, 0]]])
    labels = np.zeros((1, 2, 2), int)
    score = score_window(labels, instances)
    assert score is not None
    assert score.iou == pytest.approx(1 / 4)


def _literal_pq(labels: np.ndarray, instances: np.ndarray) -> float:
    """Panoptic quality of one window, pixel sets and nothing else; every instance is large enough to be asked for."""
    things = {k: set(np.flatnonzero(instances == k)) for k in np.unique(instances) if k > 0}
    groups = {c: set(np.flatnonzero(labels == c)) for c in np.unique(labels) if c >= 0}
    background = set(np.flatnonzero(instances == 0))
    hits = {
        (k, c): len(thing & group) / len(thing | group)
        for k, thing in things.items()
        for c, group in groups.items()
        if len(thing & group) / len(thing | group) > 0.5
    }
    found = {c for _, c in hits}
    wrong = [c for c, group in groups.items() if c not in found and not len(group & background) > len(group) / 2]
    missed = len(things) - len(hits)
    return sum(hits.values()) / (len(hits) + len(wrong) / 2 + missed / 2)


@given(labels=_LABELS, instances=_INSTANCES, flips=st.integers(0, 12), seed=st.integers(0, 99))
@settings(deadline=None)
def test_panoptic_quality_is_the_literal_definition(labels, instances, flips, seed):
    if not (instances > 0).any():
        return
    # Of random labels hardly any is right, so these start from the truth and err in a few pixels.
    rng = np.random.default_rng(seed)
    near = instances - 1
    near.ravel()[rng.choice(near.size, flips, replace=False)] = rng.integers(-1, 4, flips)
    for guess in (labels, near):
        score = score_window(guess, instances)
        assert score is not None
        part = score.segments
        got = part.true_iou / (part.true_positives + part.false_positives / 2 + part.false_negatives / 2)
        assert got == pytest.approx(_literal_pq(guess, instances))


def test_panoptic_quality_of_no_error_is_one_and_a_cluster_on_the_wall_is_no_error():
    instances = np.zeros((1, 4, 4), int)
    instances[0, :2, :2] = 1
    labels = np.where(instances == 1, 0, 5)
    score = score_window(labels, instances)
    assert score is not None
    assert score.segments == (1, 0, 0, 1.0)
    labels[0, 0, 0] = 7  # a cluster of its own, right on the instance
    score = score_window(labels, instances)
    assert score is not None
    assert score.segments == (1, 1, 0, 0.75)


def test_slivers_are_not_asked_for():
    instances = np.zeros((1, 64, 64), int)
    instances[0, 0, 0] = 1
    assert score_window(np.zeros_like(instances), instances) is None


def test_components_are_those_of_sklearn_up_to_sign():
    rows = np.random.default_rng(0).normal(size=(60, 12)) * np.arange(1, 13)
    got, expected = principal_components(rows, 8), PCA(8).fit_transform(rows)
    np.testing.assert_allclose(np.abs(got), np.abs(expected), atol=1e-8)


def test_upsampling_repeats_cells():
    labels = np.arange(6).reshape(1, 2, 3)
    np.testing.assert_array_equal(upsample_nearest(labels, (4, 6))[0], np.kron(labels[0], np.ones((2, 2), int)))
    assert upsample_nearest(labels, (5, 7)).shape == (1, 5, 7)


@pytest.mark.parametrize("cells", [8, 16])
def test_codes_that_tell_things_apart_are_grouped_on_coarse_and_on_fine_grids(cells):
    rng = np.random.default_rng(0)
    size = 32
    instances = np.zeros((1, 3, size, size), int)
    instances[:, :, 4:16, 4:16], instances[:, :, 16:28, 16:28] = 1, 2
    step = size // cells
    codes = np.eye(8)[instances[:, :, ::step, ::step]] + rng.normal(0, 0.02, (1, 3, cells, cells, 8))
    protocol = get_protocol("grouping")

    def reduce(embeddings: np.ndarray) -> dict[str, float]:
        row = protocol.score_scene({"embeddings": embeddings.astype(np.float32)}, {"instances": instances})
        return protocol.reduce({name: np.asarray(value)[None] for name, value in row.items()})

    good = reduce(codes)
    assert good["t_miou"] > 0.95
    assert good["t_sr"] == 1
    assert good["ari"] > 0.95
    noise = reduce(rng.normal(size=codes.shape))
    assert noise["t_miou"] < 0.4
    assert noise["ari"] < 0.2


def test_clustering_is_the_same_every_time():
    embeddings = np.random.default_rng(3).normal(size=(2, 6, 6, 10))
    np.testing.assert_array_equal(cluster(embeddings), cluster(embeddings))


@pytest.mark.parametrize("side", [4, 8, 16, 24, 32, 33])
def test_resampling_keeps_constants_and_averages_or_interpolates(side: int):
    rng = np.random.default_rng(4)
    constant = np.broadcast_to([0.6, 0.8], (1, side, side, 2))
    np.testing.assert_allclose(resample(constant), np.broadcast_to([0.6, 0.8], (1, GRID, GRID, 2)))
    rows = _resampling(side, GRID)
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    line = rng.normal(size=side)
    if side % GRID == 0:
        np.testing.assert_allclose(rows @ line, line.reshape(GRID, -1).mean(axis=1))
    if side <= GRID:
        np.testing.assert_allclose(rows @ line, upsample_nearest(line[None, :, None], (GRID, 1))[0, :, 0])
    else:  # the mean of a function that is constant on old cells, over each new cell
        fine = np.repeat(line, GRID)
        np.testing.assert_allclose(rows @ line, fine.reshape(GRID, side).mean(axis=1))


def test_values_that_are_not_finite_and_windows_that_do_not_fit_are_refused():
    protocol = get_protocol("grouping")
    with pytest.raises(InputError, match="NaN"):
        protocol.score_scene(
            {"embeddings": np.full((1, 1, 4, 4, 3), np.nan)}, {"instances": np.ones((1, 1, 8, 8), int)}
        )
    with pytest.raises(InputError, match="window, view"):
        protocol.score_scene({"embeddings": np.zeros((1, 2, 4, 4, 3))}, {"instances": np.ones((1, 1, 8, 8), int)})


def test_ids_that_lie_far_apart_are_counted_as_those_that_lie_together():
    rng = np.random.default_rng(0)
    instances = rng.integers(0, 6, (3, 20, 30)).astype(np.uint8)
    labels = rng.integers(-1, 4, instances.shape)
    table, ids, clusters = contingency(labels, instances)
    assert (ids.tolist(), clusters.tolist()) == ([0, 1, 2, 3, 4, 5], [-1, 0, 1, 2, 3])
    for view in range(3):
        for row, column in np.ndindex(6, 5):
            both = (instances[view] == ids[row]) & (labels[view] == clusters[column])
            assert table[view, row, column] == both.sum()
    far, far_ids, _ = contingency(labels, instances.astype(np.int64) * 1_000_000)
    np.testing.assert_array_equal(far, table)
    np.testing.assert_array_equal(far_ids, ids * 1_000_000)
