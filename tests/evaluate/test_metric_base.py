"""What all metrics share, against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evaluate.metrics.base import median


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@given(given_values=hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e6, 1e6, width=32)))
def test_median_is_that_of_numpy_in_float64(given_values: np.ndarray, kind: type) -> None:
    values: np.ndarray = given_values.astype(kind)
    before = values.copy()
    assert median(values) == np.median(values.astype(np.float64))
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("count", [50_000, 50_001])
def test_median_of_many_values(count: int) -> None:
    values = np.random.default_rng(count).normal(size=count)
    assert median(values) == np.median(values)


def test_nothing_has_no_median() -> None:
    assert math.isnan(median(np.zeros(0)))
