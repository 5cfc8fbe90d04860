"""Tagging against scikit-learn and by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, f1_score

from evaluate.errors import InputError
from evaluate.metrics.tagging import average_precision, frequency_buckets
from evaluate.protocols import get_protocol


def _pool(seed: int = 0, scenes: int = 6, windows: int = 5, classes: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    # Few distinct scores, so that ties abound.
    scores = rng.integers(0, 6, (scenes, windows, classes)) / 6
    bucket = np.tile(np.arange(classes) % 3, (scenes, 1))
    return {"scores": scores, "labels": rng.random(scores.shape) < 0.4, "bucket": bucket}


@given(
    scores=hnp.arrays(np.float64, 20, elements=st.sampled_from([0.1, 0.2, 0.5, 0.7])),
    labels=hnp.arrays(np.bool_, 20),
    weights=hnp.arrays(np.float64, (3, 20), elements=st.integers(0, 3).map(float)),
)
@settings(deadline=None)
def test_average_precision_is_that_of_sklearn_with_ties_and_weights(scores, labels, weights):
    got = average_precision(scores, labels, weights)
    for value, row in zip(got, weights, strict=True):
        if (row * labels).sum() == 0:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(average_precision_score(labels, scores, sample_weight=row))


def test_six_equal_scores_with_two_positives_give_a_third_in_any_order():
    scores, labels = np.full(6, 0.5), np.array([1, 1, 0, 0, 0, 0], bool)
    for order in (np.arange(6), np.arange(6)[::-1]):
        assert average_precision(scores, labels[order], np.ones((1, 6)))[0] == pytest.approx(1 / 3)


def test_f1_agrees_with_sklearn_and_by_hand():
    pool = _pool()
    got = get_protocol("tagging", list("abcd")).reduce(pool)
    truth, said = pool["labels"].reshape(-1, 4), pool["scores"].reshape(-1, 4) >= 0.5
    assert got["of1"] == pytest.approx(f1_score(truth, said, average="micro"))
    precision = np.mean([(truth[:, k] & said[:, k]).sum() / max(said[:, k].sum(), 1) for k in range(4)])
    recall = np.mean([(truth[:, k] & said[:, k]).sum() / truth[:, k].sum() for k in range(4)])
    assert got["cf1"] == pytest.approx(2 * precision * recall / (precision + recall))


def test_classes_without_positives_are_left_out_of_map():
    pool = _pool()
    pool["labels"][..., 2] = False
    protocol = get_protocol("tagging", list("abcd"))
    per_class = protocol.per_class(pool)["ap"]
    assert np.isnan(per_class[2])
    expected = [
        average_precision_score(pool["labels"].reshape(-1, 4)[:, k], pool["scores"].reshape(-1, 4)[:, k])
        for k in (0, 1, 3)
    ]
    assert protocol.reduce(pool)["map"] == pytest.approx(np.mean(expected))


def test_buckets_are_thirds_of_the_classes_by_frequency():
    assert np.bincount(frequency_buckets(np.random.default_rng(0).random(20))).tolist() == [6, 6, 8]
    assert frequency_buckets(np.array([0.1, 0.9, 0.5, 0.5, 0.2, 0.0])).tolist() == [2, 0, 0, 1, 1, 2]
    assert frequency_buckets(np.array([0.1, 0.9])).tolist() == [1, 0]
    assert frequency_buckets(np.array([0.4])).tolist() == [0]


@given(st.permutations(range(7)), st.floats(0.1, 5))
@settings(deadline=None, max_examples=30)
def test_a_more_frequent_class_is_in_no_later_bucket(order, power):
    rate = ((np.array(order) + 1) / 8) ** power
    buckets = frequency_buckets(rate)
    assert (np.diff(buckets[np.argsort(-rate)]) >= 0).all()


def test_aps_of_buckets_are_means_over_their_classes():
    pool = _pool(classes=7)
    pool["labels"][..., 4] = False  # a class of the middle without a positive
    got = get_protocol("tagging", list("abcdefg")).reduce(pool)
    scores, labels = (pool[name].reshape(-1, 7) for name in ("scores", "labels"))
    ap = [average_precision_score(labels[:, k], scores[:, k]) for k in (0, 3, 6, 1, 2, 5)]
    assert got["ap_head"] == pytest.approx(np.mean(ap[:3]))
    assert got["ap_mid"] == pytest.approx(ap[3])
    assert got["ap_tail"] == pytest.approx(np.mean(ap[4:]))
    assert got["mid_ratio"] == pytest.approx(ap[3] / np.mean(ap))


def test_without_buckets_everything_else_is_known():
    protocol = get_protocol("tagging", list("abcd"))
    pool = _pool(scenes=1)
    target = {"labels": pool["labels"][0]}
    row = protocol.score_scene({"scores": pool["scores"][0]}, target)
    got = protocol.reduce({name: value[None] for name, value in row.items()})
    assert got["map"] == protocol.reduce(pool)["map"]
    assert np.isnan([got[name] for name in ("ap_head", "ap_mid", "ap_tail", "mid_ratio")]).all()


@pytest.mark.parametrize("bucket", [[0, 1, 2], [0, 1, 2, 3], [0, 1, 2, -1]])
def test_buckets_that_do_not_fit_the_classes_are_refused(bucket):
    pool = _pool(scenes=1)
    with pytest.raises(InputError, match="bucket"):
        get_protocol("tagging", list("abcd")).score_scene(
            {"scores": pool["scores"][0]}, {"labels": pool["labels"][0], "bucket": np.array(bucket)}
        )


def test_scenes_that_disagree_on_buckets_are_refused():
    pool = _pool()
    pool["bucket"][2] = 0
    with pytest.raises(InputError, match="different buckets"):
        get_protocol("tagging", list("abcd")).reduce(pool)


def test_a_pool_without_any_positive_has_no_map_and_no_warning():
    pool = _pool()
    pool["labels"][:] = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = get_protocol("tagging", list("abcd")).reduce(pool)
    assert np.isnan(got["map"])
    assert np.isnan(got["cf1"])


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_map_depends_on_the_ranking_alone(seed):
    pool = _pool(seed)
    protocol = get_protocol("tagging", list("abcd"))
    squeezed = pool | {"scores": pool["scores"] ** 3}
    assert protocol.reduce(pool)["map"] == pytest.approx(protocol.reduce(squeezed)["map"], nan_ok=True)


@pytest.mark.parametrize("scores", [np.full((2, 4), 1.2), np.full((2, 4), np.nan), np.zeros((2, 3)), np.zeros(4)])
def test_scores_that_cannot_be_scored_are_refused(scores):
    with pytest.raises(InputError, match="scores"):
        get_protocol("tagging", list("abcd")).score_scene({"scores": scores}, {"labels": np.zeros((2, 4), bool)})
