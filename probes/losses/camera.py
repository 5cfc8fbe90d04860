"""Losses of the camera: how did it move and turn?"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from probes.losses.masked import masked_mean

DECAY = 0.6
"""Weight of an iteration of refinement against the one after it."""
FIELD_OF_VIEW = 0.5
"""Weight of the field of view against translation and rotation, which count 1."""

Sign = Literal["nearer", "paper"]
"""What a quaternion is compared with: the nearer of q and -q, or q whatever its sign."""


def camera_loss(
    outputs: Float[Tensor, "*pair 7"],
    translation: Float[Tensor, "*pair 3"],
    quaternion: Float[Tensor, "*pair 4"],
    valid: Bool[Tensor, "*pair"],
) -> Float[Tensor, ""]:
    """Huber loss (delta 1) on translation + Huber loss on the quaternion, whichever of q and -q is nearer.

    Means over valid pairs.

    The camera loss of VGGT (arXiv 2503.11651), section 3.4, without its field-of-view term: intrinsics are not asked
    of a probe here. q and -q are the same rotation, and a loss that tells them apart punishes right answers.
    """
    moved = F.huber_loss(outputs[..., :3], translation, reduction="none").mean(-1)
    turned = torch.minimum(
        *(F.huber_loss(outputs[..., 3:], sign * quaternion, reduction="none").mean(-1) for sign in (1.0, -1.0))
    )
    return masked_mean(moved + turned, valid)


def camera_iterations_loss(
    outputs: Float[Tensor, "iteration *pair 9"],
    translation: Float[Tensor, "*pair 3"],
    quaternion: Float[Tensor, "*pair 4"],
    field_of_view: Float[Tensor, "*pair 2"],
    valid: Bool[Tensor, "*pair"] | None = None,
    sign: Sign = "nearer",
) -> Float[Tensor, ""]:
    """Loss of a camera that was refined K times: 1/K sum_i 0.6^(K - 1 - i) (H(t_i) + H(q_i) + 0.5 H(f_i)).

    H is the mean Huber loss (delta 1) of a part over its numbers and over valid pairs. L_cam of arXiv 2605.28132, which
    has the weights, and divides by K, as the released code of VGGT (arXiv 2503.11651, section 3.4) does.

    Args:
        outputs: translation (3), quaternion (x, y, z, w), field of view (2), after every iteration.
        translation: metres.
        quaternion: of unit length.
        field_of_view: radians, in the order in which the outputs have it.
        valid: pairs (or views) that count; all if not given.
        sign: `paper` has no sign handling, so that q and -q differ though they are one rotation; `nearer` is ours.
    """
    if valid is None:
        valid = torch.ones(translation.shape[:-1], dtype=torch.bool, device=outputs.device)
    losses = []
    for output in outputs:
        turned = _huber(output[..., 3:7], quaternion)
        if sign == "nearer":
            turned = torch.minimum(turned, _huber(output[..., 3:7], -quaternion))
        parts = _huber(output[..., :3], translation) + turned
        losses.append(masked_mean(parts + FIELD_OF_VIEW * _huber(output[..., 7:], field_of_view), valid))
    return (iteration_weights(len(losses)).to(outputs) * torch.stack(losses)).mean()


def iteration_weights(iterations: int) -> Float[Tensor, " iteration"]:
    """0.6^(K - 1 - i): the last of K iterations counts most."""
    return DECAY ** torch.arange(iterations - 1, -1, -1, dtype=torch.float32)


def _huber(values: Float[Tensor, "*pair k"], target: Float[Tensor, "*pair k"]) -> Float[Tensor, "*pair"]:
    return F.huber_loss(values, target, reduction="none").mean(-1)
