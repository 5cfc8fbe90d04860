"""Means over what is valid, and products that a single wild pixel cannot rule."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

BOUND = 100.0
"""Residuals, and their products with a confidence, are cut off here (arXiv 2605.28132, as published in code)."""


def masked_mean(values: Float[Tensor, "*shape"], valid: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Mean of `values` where `valid`; 0 if nowhere."""
    return torch.where(valid, values, 0).sum() / valid.sum().clamp(min=1)


def weighted_mean(
    residual: Float[Tensor, "*shape"], confidence: Float[Tensor, "*shape"], valid: Bool[Tensor, "*shape"]
) -> Float[Tensor, ""]:
    """Mean of clamp(c * clamp(r)) over valid pixels, both clamped to +-100; a confidence that is NaN counts as 0."""
    product = torch.nan_to_num(confidence) * residual.clamp(-BOUND, BOUND)
    return masked_mean(product.clamp(-BOUND, BOUND), valid)
