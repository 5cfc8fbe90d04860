"""Segmentation against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score, recall_score

from evaluate.errors import InputError
from evaluate.metrics.segmentation import class_iou, confusion
from evaluate.protocols import get_protocol

_IDS = hnp.arrays(np.uint8, (2, 6, 5), elements=st.integers(1, 4))


@given(guess=_IDS, truth=hnp.arrays(np.uint8, (2, 6, 5), elements=st.integers(0, 4)))
@settings(deadline=None)
def test_scores_are_those_of_sklearn_on_labelled_pixels(guess, truth):
    table = confusion(guess, truth, 4)
    seen = truth > 0
    assert table.sum() == seen.sum()
    if not seen.any():
        return
    np.testing.assert_array_equal(table, confusion_matrix(truth[seen], guess[seen], labels=[1, 2, 3, 4]))
    present = np.unique(truth[seen])
    expected = jaccard_score(truth[seen], guess[seen], labels=present, average=None, zero_division=0)
    got = get_protocol("segmentation", list("abcd")).reduce({"confusion": table[None]})
    np.testing.assert_allclose(class_iou(table.astype(float))[present - 1], expected)
    assert got["miou"] == pytest.approx(expected.mean())
    assert got["accuracy"] == pytest.approx(accuracy_score(truth[seen], guess[seen]))
    recalls = recall_score(truth[seen], guess[seen], labels=present, average="macro", zero_division=0)
    assert got["class_accuracy"] == pytest.approx(recalls)


@given(truth=hnp.arrays(np.uint8, (2, 6, 5), elements=st.integers(0, 4)), repeats=st.integers(2, 4))
@settings(deadline=None, max_examples=30)
def test_class_accuracy_does_not_care_how_large_a_class_is(truth, repeats):
    guess = np.roll(truth, 1) % 4 + 1
    protocol = get_protocol("segmentation", list("abcd"))
    table = confusion(guess, truth, 4)
    larger = table.copy()
    larger[1] *= repeats
    values = [protocol.reduce({"confusion": each[None]})["class_accuracy"] for each in (table, larger)]
    assert values[0] == pytest.approx(values[1], nan_ok=True)


def test_classes_that_the_truth_lacks_are_not_averaged_over_but_still_cost_those_they_replace():
    truth = np.array([[[1, 1, 1, 1]]], np.uint8)
    guess = np.array([[[1, 1, 2, 2]]], np.uint8)
    protocol = get_protocol("segmentation", ["a", "b"])
    statistics = {"confusion": protocol.score_scene({"classes": guess}, {"classes": truth})["confusion"][None]}
    assert protocol.reduce(statistics)["miou"] == 0.5
    np.testing.assert_array_equal(protocol.per_class(statistics)["iou"], [0.5, np.nan])


@pytest.mark.parametrize("wrong", [0, 3])
def test_class_ids_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=r"1 \.\. 2"):
        confusion(np.full((1, 2, 2), wrong), np.ones((1, 2, 2), np.uint8), 2)


def test_shapes_must_agree():
    with pytest.raises(InputError, match="must agree"):
        get_protocol("segmentation", ["a"]).score_scene(
            {"classes": np.ones((1, 2, 2))}, {"classes": np.ones((1, 2, 3))}
        )
