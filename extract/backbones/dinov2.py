"""DINOv2 (Oquab et al. 2023, arXiv:2304.07193): images without labels; patches of 14 pixels, no registers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from extract.backbones.base import Checkpoint
from extract.encoders.family import EncoderFamily

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

APACHE = "Apache-2.0"


class DINOv2(EncoderFamily):
    """518 x 518 pixels by default: the size that training ended with, whose 37 x 37 positions are in the checkpoint.

    The image processor of the checkpoint crops a square of 224 pixels, for classification.
    """

    name: ClassVar[str] = "dinov2"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "dinov2-base": Checkpoint("facebook/dinov2-base", None, 86_580_480, APACHE),
        "dinov2-large": Checkpoint("facebook/dinov2-large", None, 304_368_640, APACHE),
    }
    network = "Dinov2Model"
    blocks = "encoder.layer"
    norm = summary = "layernorm"
    interpolation = "bicubic"

    def run(self, encoder: nn.Module, images: Float[Tensor, "frame 3 height width"]) -> None:
        """The library interpolates positions wherever it has to."""
        encoder(images)
