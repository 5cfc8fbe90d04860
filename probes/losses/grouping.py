"""Loss of grouping: which samples belong together?"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor
from torch.autograd.function import once_differentiable

FLOOR = 1e-6
"""Added to squared distances."""
SHORTEST = 1e-12
"""Shorter embeddings are divided by this."""


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
    embeddings: d_ij^2 = 2 - 2 <e_i, e_j> + 1e-6. What is added keeps the gradient of equal embeddings finite. Ids hold
    across the views of a clip, and so do the pairs.

    That of arXiv 2605.28132 is this loss with the default margin at 2048 pixels a clip, drawn from all pixels of all
    views whose id is not 0, where the embeddings were first normalised, read bilinearly, and normalised again. Here the
    caller draws, the same number from every view; embeddings are normalised once, after they were read.

    Args:
        embeddings: not yet normalised.
        pull, push: see `pair_weights`; symmetric.
        margin: distance beyond which two instances repel no more.
    """
    loss: Tensor = _PullPush.apply(embeddings, pull, push, margin)  # type: ignore[no-untyped-call]
    return loss / len(embeddings)


class _PullPush(torch.autograd.Function):
    """Sum over pairs of pull d + push max(0, margin - d), with its gradient.

    The gradient falls out of what the loss is made of. That of d_ij by the unit vector u_i is -u_j / d_ij, so that of
    the loss is G = -2 A u with A_ij = (pull_ij - push_ij [d_ij < margin]) / d_ij; and by what was normalised it is
    (G_i - <G_i, u_i> u_i) / |e_i|. There are far more pairs than numbers in the embeddings, and this takes less than
    half the passes over them that autograd takes.
    """

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, pull: Tensor, push: Tensor, margin: float) -> Tensor:
        with torch.autocast(embeddings.device.type, enabled=False):
            length = torch.linalg.vector_norm(embeddings, dim=-1, keepdim=True).clamp_(min=SHORTEST)
            unit = embeddings / length
            two = unit.new_full((1, 1, 1), 2.0 + FLOOR)
            square = torch.baddbmm(two, unit, unit.transpose(1, 2), alpha=-2).clamp_(min=FLOOR)
            inverse = square.rsqrt()
            repelling = F.threshold(inverse, 1 / margin, 0.0).mul_(push)
            slope = torch.mul(pull, inverse).sub_(repelling)
            if ctx.needs_input_grad[0]:
                by_unit = torch.bmm(slope, unit).mul_(-2)
                along = (by_unit * unit).sum(-1, keepdim=True)
                ctx.save_for_backward(by_unit.addcmul_(along, unit, value=-1).div_(length))
            distance = inverse.mul_(square)
            # pull d = pull / d d^2, and push (margin - d) = push / d (margin d - d^2)
            loss: Tensor = slope.mul_(square).sum() + margin * repelling.mul_(distance).sum()
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (of_loss,) = ctx.saved_tensors
        return of_loss * gradient, None, None, None
