"""Losses of tags: which classes are there?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def tagging_loss(logits: Float[Tensor, "*view thing"], labels: Bool[Tensor, "*view thing"]) -> Float[Tensor, ""]:
    """Binary cross entropy, mean over views and classes: -y log s(z) - (1 - y) log(1 - s(z)), s logistic."""
    return F.binary_cross_entropy_with_logits(logits, labels.float())


def asymmetric_loss(
    logits: Float[Tensor, "*clip thing"],
    labels: Bool[Tensor, "*clip thing"],
    gamma_negative: float = 4.0,
    gamma_positive: float = 0.0,
    shift: float = 0.0,
    valid: Bool[Tensor, "*clip thing"] | None = None,
) -> Float[Tensor, ""]:
    """Asymmetric loss: sum over classes of -y (1 - p)^g+ log p - (1 - y) q^g- log(1 - q), mean over clips.

    p = s(z), s logistic, and q = max(p - shift, 0). Ridnik et al. (2021), "Asymmetric loss for multi-label
    classification", arXiv 2009.14119, eq. 4 to 7. The focal factors (1 - p)^g+ and q^g-
    carry no gradient, as in the authors' code; its floor of 1e-8 under probabilities is left out, since logarithms are
    taken of the logits. Defaults: those of arXiv 2605.28132, which
    shifts nothing where Ridnik et al. shift by 0.05. `asymmetric_loss(z, y, 0, 0)` is a binary cross entropy, summed.

    Args:
        logits, labels: for every class of every clip (or view; all leading axes are averaged over).
        gamma_negative: focusing of classes that are not there.
        gamma_positive: focusing of classes that are there.
        shift: probability below which an absent class costs nothing.
        valid: classes that count. Clips without any are left out of the mean.
    """
    there, absent = F.logsigmoid(logits), F.logsigmoid(-logits)
    if shift > 0:
        absent = (absent.exp() + shift).clamp(max=1).log()
    with torch.no_grad():
        probability = torch.sigmoid(logits)
        missed = (1 - probability) ** gamma_positive
        claimed = (probability - shift).clamp(min=0) ** gamma_negative
    terms = -torch.where(labels, missed * there, claimed * absent)
    if valid is None:
        return terms.sum(-1).mean()
    return torch.where(valid, terms, 0).sum() / valid.any(-1).sum().clamp(min=1)
