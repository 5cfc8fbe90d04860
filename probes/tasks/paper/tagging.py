"""Tagging as in arXiv 2605.28132: all views are asked together, with an asymmetric loss."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from probes.losses import asymmetric_loss
from probes.tasks.base import Tensors
from probes.tasks.tagging import JointTaggingTask

VISIBLE = 200 / (540 * 720)
"""A class is there if its pixels, summed over the views, are this share of one image: 200 of 540 x 720."""


class PaperTaggingTask(JointTaggingTask):
    """One logit per class and clip; the loss of Ridnik et al. with gamma- = 4, gamma+ = 0, and no shift.

    All classes are asked about, walls and floors too where they are annotated as objects: 20 for ScanNet.
    """

    least = VISIBLE

    @property
    def ids(self) -> list[int]:
        """Ids of all classes."""
        return list(range(1, len(self.space.names) + 1))

    def loss(self, outputs: Tensor, targets: Tensors) -> Float[Tensor, ""]:
        """Asymmetric loss."""
        return asymmetric_loss(outputs, targets["labels"])
