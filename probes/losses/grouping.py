"""Loss of grouping: which samples belong together?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor


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

    That of arXiv 2605.28132 is this loss with the default margin at 2048 pixels a clip, drawn from all pixels of all
    views whose id is not 0, where the embeddings were first normalised, read bilinearly, and normalised again. Here the
    caller draws, the same number from every view; embeddings are normalised once, after they were read.

    Args:
        embeddings: not yet normalised.
        pull, push: see `pair_weights`.
        margin: distance beyond which two instances repel no more.
    """
    unit = F.normalize(embeddings, dim=-1)
    distance = torch.baddbmm(unit.new_full((1, 1, 1), 2.0), unit, unit.transpose(1, 2), alpha=-2).clamp(min=1e-6).sqrt()
    return (distance * pull + F.relu(margin - distance) * push).sum() / len(unit)
