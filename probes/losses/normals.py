"""Loss of surface normals: which way does the surface face?"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from probes.losses.masked import masked_mean

SHORTEST = 1e-3
"""Shorter vectors are divided by this, not by their length, which bounds the gradient where there is no direction."""


def normals_loss(
    normals: Float[Tensor, "*pixel 3"], target: Float[Tensor, "*pixel 3"], valid: Bool[Tensor, "*pixel"]
) -> Float[Tensor, ""]:
    """Mean of 1 - <n, m> over valid pixels, n and m scaled to unit length: 1 - cosine of the angle between them.

    The angular term of Bae, Budvytis & Cipolla (2021), "Estimating and exploiting the aleatoric uncertainty in surface
    normal estimation", arXiv 2109.09881, as a cosine and without its uncertainty: its gradient is finite at angle 0.
    """
    unit, true = (F.normalize(vectors, dim=-1, eps=SHORTEST) for vectors in (normals, target))
    return masked_mean(1 - (unit * true).sum(-1), valid)
