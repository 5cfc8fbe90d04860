"""Tagging as in arXiv 2605.28132: all views are asked together, with an asymmetric loss."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from probes.losses import asymmetric_loss
from probes.tasks.base import Tensors
from probes.tasks.tagging import JointTaggingTask


class PaperTaggingTask(JointTaggingTask):
    """One logit per class and clip; the loss of Ridnik et al. with gamma- = 4, gamma+ = 0, and no shift."""

    def loss(self, outputs: Tensor, targets: Tensors) -> Float[Tensor, ""]:
        """Asymmetric loss."""
        return asymmetric_loss(outputs, targets["labels"])
