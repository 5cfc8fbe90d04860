"""DINOv3 (Siméoni et al. 2025, arXiv:2508.10104): images without labels; patches of 16 pixels, four registers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from extract.backbones.base import Checkpoint
from extract.encoders.family import EncoderFamily

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn


class DINOv3(EncoderFamily):
    """512 x 512 pixels by default, 32 x 32 patches, which is near the grid of DINOv2.

    Positions are rotary, of the centre of a patch relative to the frame, so that there is no table to interpolate at
    any multiple of 16. The image processor of the checkpoint makes 224 x 224 pixels, for classification: 14 x 14
    patches.
    """

    name: ClassVar[str] = "dinov3"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "dinov3-vitl16": Checkpoint(
            "facebook/dinov3-vitl16-pretrain-lvd1689m", None, 303_129_600, "DINOv3 License (gated)"
        )
    }
    network = "DINOv3ViTModel"
    needs = (*EncoderFamily.needs, "num_register_tokens")
    blocks = "model.layer"
    norm = summary = "norm"
    interpolation = "bilinear"

    @property
    def default_size(self) -> tuple[int, int]:
        """32 x 32 patches."""
        return 32 * self.patch, 32 * self.patch

    @property
    def registers(self) -> int:
        """As the configuration says."""
        return int(self.config["num_register_tokens"])

    def run(self, encoder: nn.Module, images: Float[Tensor, "frame 3 height width"]) -> None:
        """Positions follow from the size."""
        encoder(images)
