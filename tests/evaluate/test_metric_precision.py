"""Average precision of all classes at once: the same as class by class with a sum over samples, written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.metrics.precision import class_average_precision
from evaluate.protocols import get_protocol
from evaluate.statistics import resample


def _written_out(scores, labels, weights, ordered):
    """One class: weights (resample, sample) are summed from the highest score down."""
    order = np.argsort(-scores, kind="stable")
    ends = np.arange(len(scores)) if ordered else np.flatnonzero(np.diff(scores[order], append=-np.inf))
    drawn = weights[:, order]
    hits = np.cumsum(drawn * labels[order], axis=1)[:, ends]
    claims = np.cumsum(drawn, axis=1)[:, ends]
    precision = np.divide(hits, claims, out=np.zeros_like(hits), where=claims > 0)
    gained = np.diff(hits, axis=1, prepend=0.0)
    whole = hits[:, -1]
    return np.divide((gained * precision).sum(axis=1), whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _pool(seed, scenes, windows, classes, levels):
    rng = np.random.default_rng(seed)
    scores = rng.random((scenes, windows, classes))
    if levels:
        scores = np.floor(scores * levels) / levels
    return scores, rng.random(scores.shape) < np.linspace(0, 0.9, classes)


@given(
    seed=st.integers(0, 10_000),
    scenes=st.integers(1, 12),
    windows=st.integers(1, 4),
    levels=st.sampled_from([0, 1, 3, 9]),
    ordered=st.booleans(),
    silent=st.booleans(),
)
@settings(deadline=None)
def test_products_of_counts_give_what_a_sum_over_samples_gives(seed, scenes, windows, levels, ordered, silent):
    scores, labels = _pool(seed, scenes, windows, 4, levels)
    weights = resample(scenes, seed=seed, resamples=7)
    if silent:  # scenes without weight, also the one that ranks first
        weights = np.concatenate([weights * (np.random.default_rng(seed).random(weights.shape) < 0.5), np.eye(scenes)])
    got = class_average_precision(scores, labels, weights, ordered=ordered)
    drawn = np.repeat(weights, windows, axis=1)
    flat, truth = scores.reshape(-1, 4), labels.reshape(-1, 4)
    for k in range(4):
        np.testing.assert_allclose(got[:, k], _written_out(flat[:, k], truth[:, k], drawn, ordered), rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", ["standard", "paper-2605.28132"])
def test_all_metrics_of_tagging_under_a_thousand_resamples_are_those_of_samples_with_weights(family):
    scores, labels = _pool(1, 40, 5, 6, 50)
    statistics = {"scores": scores, "labels": labels, "bucket": np.tile(np.arange(6) % 3, (40, 1))}
    weights = resample(40)
    got = get_protocol("tagging", list("abcdef"), family).reduce_weighted(statistics, weights)
    drawn, flat, truth = np.repeat(weights, 5, axis=1), scores.reshape(-1, 6), labels.reshape(-1, 6)
    ap = np.stack([_written_out(flat[:, k], truth[:, k], drawn, family != "standard") for k in range(6)], axis=1)
    np.testing.assert_allclose(got["map"], np.nanmean(ap, axis=1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(got["ap_tail"], np.nanmean(ap[:, 2::3], axis=1), rtol=0, atol=1e-12)
    said = flat >= 0.5
    hits, claims, truths = (drawn @ mask.astype(float) for mask in (said & truth, said, truth))
    np.testing.assert_allclose(got["of1"], 2 * hits.sum(1) / (claims + truths).sum(1), rtol=0, atol=1e-12)
