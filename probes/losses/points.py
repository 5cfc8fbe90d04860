"""Losses of points: where is the surface?"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probes.losses.masked import masked_mean, weighted_mean

SMALLEST, LARGEST = 1e-3, 1e3
"""Bounds of the scale that points are divided by."""


def points_loss(
    points: Float[Tensor, "*pixel 3"], target: Float[Tensor, "*pixel 3"], valid: Bool[Tensor, "*pixel"]
) -> Float[Tensor, ""]:
    """Mean ||p - g||_2 over valid pixels, g in units of the mean distance of the first view's points from its camera.

    The point-map regression of DUSt3R (arXiv 2312.14132), eq. 2, without confidence. Only the target is normalised: the
    probe has to say points in this unit, and the protocol aligns what it says by a similarity.
    """
    return masked_mean(torch.linalg.vector_norm(points - target, dim=-1), valid)


def scaled_points_loss(
    points: Float[Tensor, "clip view sample 3"],
    target: Float[Tensor, "clip view sample 3"],
    confidence: Float[Tensor, "clip view sample"],
    valid: Bool[Tensor, "clip view sample"],
) -> Float[Tensor, ""]:
    """Mean of c ||p / s(p) - g / s(g)||_2 over valid pixels, s(.) the mean point norm over all views of the clip.

    L_point of arXiv 2605.28132, after DUSt3R (arXiv 2312.14132), eq. 2 and 3: both sides are divided by their own
    scale, which is clamped to 1e-3 .. 1e3, and the gradient flows through that of the prediction. As there, the
    residual and its product with c are each clamped to +-100, and NaN in either becomes 0. Here an infinite residual
    becomes 0 as well, and points that are not finite are left out of s, so that one cannot spoil its clip.

    Args:
        points, target: in one frame, in any unit.
        confidence: c, as the targets have it; 1 everywhere if they do not.
        valid: pixels that count, in s and in the mean.
    """
    known = valid & points.isfinite().all(-1) & target.isfinite().all(-1)
    p, g = (_unit_scale(torch.where(known[..., None], values, 0), known) for values in (points, target))
    return weighted_mean(torch.linalg.vector_norm(p - g, dim=-1), confidence, valid)


def _unit_scale(
    points: Float[Tensor, "clip view sample 3"], known: Bool[Tensor, "clip view sample"]
) -> Float[Tensor, "clip view sample 3"]:
    """Points divided by the mean norm of those that are known; the others are 0 and add nothing to the sum."""
    norms = torch.linalg.vector_norm(points, dim=-1).sum((1, 2))
    scale = (norms / known.sum((1, 2)).clamp(min=1)).clamp(SMALLEST, LARGEST)
    scaled: Tensor = points / scale[:, None, None, None]
    return scaled
