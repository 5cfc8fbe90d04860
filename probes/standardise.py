"""Every channel to mean 0 and deviation 1 over the training split, so that no probe is decided by a feature's scale."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

CONSTANT = 1e-6
"""A channel whose deviation is below this share of its mean carries nothing; it becomes 0, not amplified noise."""


class Standardiser(nn.Module):
    """(x - mean) / std per channel, in float32.

    Args:
        mean, std: of each channel. A std of 0 marks a constant channel, which becomes 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Float[Tensor, " channel"], std: Float[Tensor, " channel"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())

    def forward(self, features: Float[Tensor, "*batch channel"]) -> Float[Tensor, "*batch channel"]:
        """Float32 features of unit scale, whatever the stored dtype."""
        inverse = torch.where(self.std > 0, 1 / self.std, 0)
        return torch.addcmul(-self.mean * inverse, features.float(), inverse)


def fit_standardiser(batches: Iterable[Float[Tensor, "... channel"]]) -> Standardiser:
    """Mean and standard deviation over all leading axes of all batches, accumulated in float64.

    Each batch's moments are merged by the update of Chan, Golub & LeVeque (1983), "Algorithms for computing the sample
    variance", eq. 2.1, which does not cancel where the mean is large against the spread.
    """
    count, mean, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for batch in batches:
        rows = batch.reshape(-1, batch.shape[-1]).float()
        centre = rows.mean(0)
        spread = (rows - centre).square().sum(0).double()
        delta = centre.double() - mean
        total = count + len(rows)
        mean = mean + delta * (len(rows) / total)
        squares = squares + spread + delta.square() * (count * len(rows) / total)
        count = total
    if count == 0:
        raise ValueError("no batch to compute a mean of")
    std = (squares / count).sqrt()
    return Standardiser(mean.float(), torch.where(std > CONSTANT * mean.abs(), std, 0).float())
