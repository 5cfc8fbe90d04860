"""Features as colours: planted directions are found, in order, with the sign that is promised."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probes.colours import fit_colours

CHANNELS = 12


def planted(cells: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cells = mean + 9 a u + 3 b v + 1 c w with orthonormal u, v, w; returns them, (a, b, c), and (u, v, w)."""
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(CHANNELS, 3)))
    axes *= np.sign(axes[np.abs(axes).argmax(0), range(3)])
    amounts = np.linalg.qr(rng.normal(size=(cells, 3)) @ np.eye(3))[0]
    amounts = np.linalg.qr(amounts - amounts.mean(0))[0]
    values = 5 + amounts * [9, 3, 1] @ axes.T
    return torch.from_numpy(values), torch.from_numpy(amounts), torch.from_numpy(axes)


@pytest.mark.parametrize("cells", [200, 9], ids=["more cells than channels", "fewer"])
def test_planted_directions_are_found(cells: int) -> None:
    values, amounts, axes = planted(cells)
    colours = fit_colours(values.float())
    torch.testing.assert_close(colours.axes, axes, atol=1e-5, rtol=0)
    painted = colours(values.float())
    assert painted.dtype == np.uint8
    for channel in range(3):
        low, high = np.percentile(amounts[:, channel], [1, 99])
        share = np.clip((amounts[:, channel].numpy() - low) / (high - low), 0, 1)
        np.testing.assert_allclose(painted[:, channel], 255 * share, atol=0.6)


def test_a_direction_and_its_opposite_are_one_colour() -> None:
    values, _, _ = planted(300)
    np.testing.assert_allclose(fit_colours(values).axes, fit_colours(10 - values).axes, atol=1e-9)


def test_what_was_fitted_elsewhere_is_painted_by_the_same_rule() -> None:
    values, _, _ = planted(300)
    colours = fit_colours(values)
    grid = values[:24].reshape(2, 3, 4, CHANNELS)
    np.testing.assert_array_equal(colours(grid), colours(values)[:24].reshape(2, 3, 4, 3))


def test_where_there_is_no_component_there_is_no_colour() -> None:
    line = torch.linspace(-1, 1, 50)[:, None] * torch.tensor([[3.0, 4.0]])
    painted = fit_colours(line)(line)
    assert painted[0, 0] == 0
    assert painted[-1, 0] == 255
    assert (painted[:, 1:] == 128).all()
    assert (fit_colours(torch.ones(5, 4))(torch.ones(5, 4)) == 128).all()
