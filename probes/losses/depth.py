"""Losses of depth: how far away is the surface?"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probes.losses.masked import masked_mean, weighted_mean


def depth_loss(
    log_depth: Float[Tensor, "*pixel"], target: Float[Tensor, "*pixel"], valid: Bool[Tensor, "*pixel"]
) -> Float[Tensor, ""]:
    """Mean |log d - log g| over valid pixels: a relative error, so that near and far surfaces count alike.

    An L1 norm where Eigen, Puhrsch & Fergus (2014), "Depth map prediction from a single image using a multi-scale
    deep network", eq. 4, has a squared one; and without its scale-invariant term, as metric scale is asked for.
    """
    return masked_mean((log_depth - target).abs(), valid)


def weighted_depth_loss(
    depth: Float[Tensor, "*pixel"],
    target: Float[Tensor, "*pixel"],
    confidence: Float[Tensor, "*pixel"],
    valid: Bool[Tensor, "*pixel"],
) -> Float[Tensor, ""]:
    """Mean of c |d - g| over valid pixels; neither side is normalised.

    L_depth of arXiv 2605.28132. As there, the residual and its product with c are each clamped to +-100, and NaN in
    either becomes 0. Here an infinite residual becomes 0 as well.
    """
    known = depth.isfinite() & target.isfinite()
    return weighted_mean((torch.where(known, depth, 0) - torch.where(known, target, 0)).abs(), confidence, valid)


def gradient_loss(
    depth: Float[Tensor, "*image y x"],
    target: Float[Tensor, "*image y x"],
    valid: Bool[Tensor, "*image y x"],
    confidence: Float[Tensor, "*image y x"] | None = None,
    scales: int = 4,
) -> Float[Tensor, ""]:
    """Multi-scale gradient matching: sum_k 1/M_k sum_i c_i (|R_k(i + x) - R_k(i)| + |R_k(i + y) - R_k(i)|), R = d - g.

    Ranftl et al. (2020), "Towards robust monocular depth estimation", arXiv 1907.01341, eq. 11: R_k is R at every
    2^k-th pixel along both axes, k = 0 .. scales - 1, and M_k the number of its valid pixels, over all images. A
    difference counts where both of its pixels are valid. The weight c_i of the pixel that it starts at is that of
    ||c * (grad d - grad g)|| in VGGT's depth loss (arXiv 2503.11651, section 3.4), which has one scale.

    Args:
        depth, target: dense maps; also log depth, or disparity as in the first paper.
        valid: pixels that count. Nothing is required of the others.
        confidence: c; 1 everywhere if not given.
        scales: how many; at those beyond the size of an image there is nothing left to compare.
    """
    residual = torch.where(valid, depth, 0) - torch.where(valid, target, 0)
    weight = torch.ones_like(residual) if confidence is None else torch.where(valid, confidence, 0)
    total = residual.new_zeros(())
    for step in (2**k for k in range(scales)):
        r, w, known = (values[..., ::step, ::step] for values in (residual, weight, valid))
        across = torch.where(known[..., :, 1:] & known[..., :, :-1], w[..., :, :-1] * r.diff(dim=-1).abs(), 0)
        down = torch.where(known[..., 1:, :] & known[..., :-1, :], w[..., :-1, :] * r.diff(dim=-2).abs(), 0)
        total = total + (across.sum() + down.sum()) / known.sum().clamp(min=1)
    return total


def scale_invariant_loss(
    log_depth: Float[Tensor, "*view pixel"],
    target: Float[Tensor, "*view pixel"],
    valid: Bool[Tensor, "*view pixel"],
    invariance: float = 0.5,
) -> Float[Tensor, ""]:
    """Mean over views of 1/n sum d^2 - lambda (1/n sum d)^2, d = log d_i - log g_i, over a view's n valid pixels.

    Eigen, Puhrsch & Fergus (2014), "Depth map prediction from a single image using a multi-scale deep network", eq. 4
    (SILog), computed as variance + (1 - lambda) mean^2, which cannot be negative. Views without a valid pixel are left
    out.

    Args:
        log_depth, target: natural logarithms of metres.
        valid: pixels that count.
        invariance: lambda. 0 asks for metric scale, 1 forgives any, 0.5 is what the authors train with.
    """
    difference = torch.where(valid, log_depth, 0) - torch.where(valid, target, 0)
    pixels = valid.sum(-1, keepdim=True).clamp(min=1)
    mean = difference.sum(-1, keepdim=True) / pixels
    spread = torch.where(valid, difference - mean, 0).square().sum(-1, keepdim=True) / pixels
    return masked_mean((spread + (1 - invariance) * mean.square())[..., 0], valid.any(-1))
