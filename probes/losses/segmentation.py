"""Loss of segmentation: which class is at each pixel?"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor


def segmentation_loss(logits: Float[Tensor, "*pixel k"], classes: Integer[Tensor, "*pixel"]) -> Float[Tensor, ""]:
    """Cross entropy, mean over pixels: log sum_k exp z_k - z_c.

    Class id c (from 1) is channel c - 1; pixels of id 0 are ignored.
    """
    flat = classes.reshape(-1).long() - 1
    total = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), flat, ignore_index=-1, reduction="sum")
    return total / (flat >= 0).sum().clamp(min=1)
