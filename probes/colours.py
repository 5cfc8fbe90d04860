"""What features look like: their first three principal components as red, green and blue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from probes.bank import ProbeBank
from probes.features import read_features
from probes.inputs import TEST, Inputs
from probes.seeding import generator

FRAMES, CELLS = 32, 2048
"""Test frames, and cells of all of them together, that the components are fitted to: they bound memory and time."""
FLAT = 1e-10
"""A component with less than this share of the first one's variance is rounding, and has no colour."""
_LOW, _HIGH = 1, 99


@dataclass(frozen=True)
class Colours:
    """A fixed projection of the features of one tap: what has the same colour in two pictures is the same in both.

    Attributes:
        mean: of each channel.
        axes: unit vectors (channel, 3) in the order of falling variance; zero where there is no component.
        low, high: projections (3) that become 0 and 255.
    """

    mean: Float[Tensor, " channel"]
    axes: Float[Tensor, "channel component"]
    low: Float[Tensor, " component"]
    high: Float[Tensor, " component"]

    def __call__(self, cells: Float[Tensor, "*batch channel"]) -> UInt8[np.ndarray, "*batch 3"]:
        """Red, green and blue of every cell; what lies beyond the percentiles is clipped, what has none is 128."""
        found = (cells.double().cpu() - self.mean) @ self.axes
        extent = self.high - self.low
        share = torch.where(extent > 0, (found - self.low) / torch.where(extent > 0, extent, 1), 0.5)
        painted: UInt8[np.ndarray, "*batch 3"] = (255 * share.clamp(0, 1)).round().to(torch.uint8).numpy()
        return painted


def fit_colours(cells: Float[Tensor, "cell channel"]) -> Colours:
    """Principal components (Pearson 1901) of `cells`, red having most variance; percentiles 1 and 99 are the ends.

    The sign of a component is such that its largest loading in absolute value is positive, the first of equals. So the
    same cells give the same colours.
    """
    values = cells.double().cpu()
    mean = values.mean(0)
    centred = values - mean
    # The smaller of both squares has the same eigenvalues.
    tall = centred.shape[0] >= centred.shape[1]
    square = centred.T @ centred if tall else centred @ centred.T
    variances, vectors = torch.linalg.eigh(square)
    axes = torch.zeros(centred.shape[1], 3, dtype=torch.float64)
    for place, index in enumerate(range(len(variances) - 1, max(len(variances) - 4, -1), -1)):
        if variances[index] > FLAT * variances[-1]:
            axis = vectors[:, index] if tall else centred.T @ vectors[:, index]
            axes[:, place] = axis / axis.norm() * axis[axis.abs().argmax()].sign()
    ends = torch.quantile(centred @ axes, torch.tensor([_LOW, _HIGH], dtype=torch.float64) / 100, dim=0)
    return Colours(mean, axes, ends[0], ends[1])


def colours_of(bank: ProbeBank, inputs: Inputs, tap: str) -> Colours:
    """Colours of a tap, fitted to standardised cells of test frames from all over the split."""
    frames = list(_frames(inputs))
    each = -(-CELLS // len(frames))
    return fit_colours(torch.cat([_some_cells(bank, inputs, tap, row, frame, each) for row, frame in frames]))


def _frames(inputs: Inputs) -> Iterator[tuple[int, int]]:
    """Row and bank position of up to `FRAMES` frames: of clips evenly spaced, and in each of them evenly spaced."""
    rows = inputs.rows[TEST]
    clips = min(FRAMES, len(rows))
    for place in np.linspace(0, len(rows) - 1, clips).round().astype(int).tolist():
        bank = len(inputs.clip(rows[place]).bank)
        for frame in np.linspace(0, bank - 1, min(FRAMES // clips, bank)).round().astype(int).tolist():
            yield rows[place], frame


def _some_cells(
    bank: ProbeBank, inputs: Inputs, tap: str, row: int, frame: int, count: int
) -> Float[Tensor, "cell channel"]:
    features = read_features(inputs, tap, row, [frame]).to(bank.device)
    cells = bank.grid(tap, features[None]).cells.flatten(0, -2)
    chosen = generator("colours", row, frame).permutation(len(cells))[:count]
    return cells[torch.from_numpy(chosen).to(cells.device)].cpu()
