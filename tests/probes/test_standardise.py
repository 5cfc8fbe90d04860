"""Channel moments: as NumPy computes them in float64, also where float32 sums would cancel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probes.standardise import fit_standardiser


def test_standardised_training_data_has_mean_zero_and_deviation_one() -> None:
    rng = np.random.default_rng(0)
    scale, shift = np.array([1e-3, 1.0, 300.0]), np.array([5.0, -1.0, 2000.0])
    batches = [torch.from_numpy((rng.normal(size=(n, 4, 3)) * scale + shift).astype(np.float32)) for n in (2, 5, 1, 30)]
    fitted = fit_standardiser(batches)
    rows = torch.cat([batch.reshape(-1, 3) for batch in batches]).double().numpy()
    np.testing.assert_allclose(fitted.mean.numpy(), rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(fitted.std.numpy(), rows.std(0), rtol=1e-4)
    out = fitted(torch.cat([batch.reshape(-1, 3) for batch in batches]))
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out.mean(0), 0, atol=2e-3)
    np.testing.assert_allclose(out.std(0), 1, atol=2e-2)


def test_constant_channels_become_zero() -> None:
    values = torch.cat([torch.full((50, 1), 7.3), torch.randn(50, 1)], 1)
    out = fit_standardiser([values[:20], values[20:]])(values)
    assert not out[:, 0].any()
    assert out[:, 1].any()


def test_half_precision_features_are_summed_in_full() -> None:
    values = torch.full((70000, 1), 1.0, dtype=torch.float16)
    values[::2] = 3.0
    fitted = fit_standardiser([values])
    assert fitted.mean.item() == pytest.approx(2.0)
    assert fitted.std.item() == pytest.approx(1.0)


def test_nothing_to_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="no batch"):
        fit_standardiser([])
