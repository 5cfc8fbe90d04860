"""Training losses. Each is a mean over what is valid, and 0 (with a gradient of 0) where nothing is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor


def masked_mean(values: Float[Tensor, "*shape"], valid: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Mean of `values` where `valid`; 0 if nowhere."""
    return torch.where(valid, values, 0).sum() / valid.sum().clamp(min=1)


def tagging_loss(logits: Float[Tensor, "*view thing"], labels: Bool[Tensor, "*view thing"]) -> Float[Tensor, ""]:
    """Binary cross entropy, mean over views and classes: -y log s(z) - (1 - y) log(1 - s(z)), s logistic."""
    return F.binary_cross_entropy_with_logits(logits, labels.float())


def segmentation_loss(logits: Float[Tensor, "*pixel k"], classes: Integer[Tensor, "*pixel"]) -> Float[Tensor, ""]:
    """Cross entropy, mean over pixels: log sum_k exp z_k - z_c.

    Class id c (from 1) is channel c - 1; pixels of id 0 are ignored.
    """
    flat = classes.reshape(-1).long() - 1
    total = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), flat, ignore_index=-1, reduction="sum")
    return total / (flat >= 0).sum().clamp(min=1)


def depth_loss(
    log_depth: Float[Tensor, "*pixel"], target: Float[Tensor, "*pixel"], valid: Bool[Tensor, "*pixel"]
) -> Float[Tensor, ""]:
    """Mean |log d - log g| over valid pixels: a relative error, so that near and far surfaces count alike.

    An L1 norm where Eigen, Puhrsch & Fergus (2014), "Depth map prediction from a single image using a multi-scale
    deep network", eq. 4, has a squared one; and without its scale-invariant term, as metric scale is asked for.
    """
    return masked_mean((log_depth - target).abs(), valid)


def pair_weights(
    ids: Integer[Tensor, "clip sample"],
) -> tuple[Float[Tensor, "clip sample sample"], Float[Tensor, "clip sample sample"]]:
    """Weights (pull, push) of ordered sample pairs for `grouping_loss`: both sum to 1 per clip, or 0 without pairs.

    Samples of id 0 and pairs of a sample with itself count nowhere.
    """
    known = (ids != 0)[:, :, None] & (ids != 0)[:, None, :]
    same = ids[:, :, None] == ids[:, None, :]
    itself = torch.eye(ids.shape[1], dtype=torch.bool, device=ids.device)
    pull, push = (known & same & ~itself).float(), (known & ~same).float()
    return tuple(pairs / pairs.sum((1, 2), keepdim=True).clamp(min=1) for pairs in (pull, push))  # type: ignore[return-value]


def grouping_loss(
    embeddings: Float[Tensor, "clip sample channel"],
    pull: Float[Tensor, "clip sample sample"],
    push: Float[Tensor, "clip sample sample"],
    margin: float = 1.0,
) -> Float[Tensor, ""]:
    """Multi-view pull-push loss: mean d over pairs of one instance + mean max(0, margin - d) over pairs of two.

    The mean over clips of what their own pairs give.
    IGGT (arXiv 2510.22706), multi-view contrastive loss with both weights 1, d the Euclidean distance of L2-normalised
    embeddings: d_ij = sqrt(2 - 2 <e_i, e_j>). Ids hold across the views of a clip, and so do the pairs. A floor of 1e-6
    under d^2 keeps the gradient of equal embeddings finite.

    Args:
        embeddings: not yet normalised.
        pull, push: see `pair_weights`.
        margin: distance beyond which two instances repel no more.
    """
    unit = F.normalize(embeddings, dim=-1)
    distance = torch.baddbmm(unit.new_full((1, 1, 1), 2.0), unit, unit.transpose(1, 2), alpha=-2).clamp(min=1e-6).sqrt()
    return (distance * pull + F.relu(margin - distance) * push).sum() / len(unit)


def points_loss(
    points: Float[Tensor, "*pixel 3"], target: Float[Tensor, "*pixel 3"], valid: Bool[Tensor, "*pixel"]
) -> Float[Tensor, ""]:
    """Mean ||p - g||_2 over valid pixels, g in units of the mean distance of the first view's points from its camera.

    The point-map regression of DUSt3R (arXiv 2312.14132), eq. 2, without confidence. Only the target is normalised: the
    probe has to say points in this unit, and the protocol aligns what it says by a similarity.
    """
    return masked_mean(torch.linalg.vector_norm(points - target, dim=-1), valid)


def camera_loss(
    outputs: Float[Tensor, "*pair 7"], translation: Float[Tensor, "*pair 3"], quaternion: Float[Tensor, "*pair 4"]
) -> Float[Tensor, ""]:
    """Huber loss (delta 1) on translation (metres) + Huber loss on the quaternion, whichever of q and -q is nearer.

    The camera loss of VGGT (arXiv 2503.11651), section 3.4, without its field-of-view term: intrinsics are not asked
    of a probe here. q and -q are the same rotation, and a loss that tells them apart punishes right answers.
    """
    moved = F.huber_loss(outputs[..., :3], translation)
    turned = torch.minimum(
        *(F.huber_loss(outputs[..., 3:], sign * quaternion, reduction="none").mean(-1) for sign in (1.0, -1.0))
    )
    return moved + turned.mean()
