"""Tagging by the paper's rules, against literal loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from evaluate.errors import InputError
from evaluate.metrics.paper.tagging import ordered_average_precision
from evaluate.protocols import Protocol, get_protocol

CLASSES = list("abcdefg")


def _protocol() -> Protocol:
    return get_protocol("tagging", CLASSES, "paper-2605.28132")


def _pool(seed: int, levels: int) -> dict[str, np.ndarray]:
    """Return 8 scenes of 2 windows; of few levels of scores come many ties."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (8, 2, 7)) / levels
    labels = rng.random(scores.shape) < np.array([0.8, 0.6, 0.5, 0.4, 0.3, 0.3, 0.0])
    return {"scores": scores, "labels": labels, "bucket": np.tile([0, 0, 1, 1, 2, 2, 2], (8, 1))}


def _literal(scores: list[float], labels: list[bool]) -> float:
    """Return the mean over positives of the precision down to each, ranked by score, then by place."""
    ranked = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    hits, precisions = 0, []
    for rank, sample in enumerate(ranked, start=1):
        if labels[sample]:
            hits += 1
            precisions.append(hits / rank)
    return sum(precisions) / len(precisions) if precisions else float("nan")


def test_of_equal_scores_the_first_sample_ranks_first():
    scores, labels = np.full(6, 0.5), np.array([1, 1, 0, 0, 0, 0], bool)
    one = np.ones((1, 6))
    assert ordered_average_precision(scores, labels, one)[0] == 1
    assert ordered_average_precision(scores, labels[::-1], one)[0] == pytest.approx((1 / 5 + 2 / 6) / 2)
    assert average_precision_score(labels, scores) == pytest.approx(1 / 3)


@given(st.integers(0, 1000), st.integers(1, 6))
@settings(deadline=None, max_examples=30)
def test_every_metric_is_the_literal_definition(seed, levels):
    pool = _pool(seed, levels)
    got = _protocol().reduce(pool)
    scores, labels = (pool[name].reshape(-1, 7) for name in ("scores", "labels"))
    ap = [_literal(scores[:, k].tolist(), labels[:, k].tolist()) for k in range(7)]
    assert np.isnan(ap[6])
    assert got["map"] == pytest.approx(np.nanmean(ap))
    assert got["ap_head"] == pytest.approx(np.nanmean(ap[:2]))
    assert got["ap_mid"] == pytest.approx(np.nanmean(ap[2:4]))
    assert got["ap_tail"] == pytest.approx(np.nanmean(ap[4:]))
    assert got["mid_ratio"] == pytest.approx(got["ap_mid"] / got["map"])
    said = scores >= 0.5
    present = labels.any(axis=0)
    assert got["of1"] == pytest.approx(f1_score(labels, said, average="micro", zero_division=0))
    f1 = [f1_score(labels[:, k], said[:, k], zero_division=0) for k in np.flatnonzero(present)]
    assert got["cf1"] == pytest.approx(np.mean(f1))


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_without_ties_it_is_the_ap_of_standard(seed):
    pool = _pool(seed, levels=4)
    pool["scores"] = np.random.default_rng(seed).permutation(pool["scores"].size).reshape(pool["scores"].shape) / 200
    got, standard = (protocol.reduce(pool) for protocol in (_protocol(), get_protocol("tagging", CLASSES)))
    for name in ("map", "ap_head", "ap_mid", "ap_tail", "mid_ratio", "of1"):
        assert got[name] == pytest.approx(standard[name])


def test_weight_two_is_a_sample_that_counts_twice():
    scores, labels = np.array([0.9, 0.8, 0.7]), np.array([False, True, True])
    weights = np.array([[1, 2, 1], [0, 2, 1], [1.0, 0, 0]])
    got = ordered_average_precision(scores, labels, weights)
    assert got[:2] == pytest.approx([(2 * 2 / 3 + 3 / 4) / 3, 1])
    assert np.isnan(got[2])


def test_buckets_are_asked_for():
    with pytest.raises(InputError, match="bucket"):
        _protocol().score_scene({"scores": np.zeros((1, 7))}, {"labels": np.zeros((1, 7), bool)})
