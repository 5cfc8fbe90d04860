"""ViT-MAE (He et al. 2021, arXiv:2111.06377): images, three quarters of them hidden; patches of 16 pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones.base import Checkpoint
from extract.encoders.family import EncoderFamily

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn


class ViTMAE(EncoderFamily):
    """The encoder, with nothing hidden and patches in their order; the decoder is not loaded.

    `global` is the class token after the norm. It has no task of its own in training.
    """

    name: ClassVar[str] = "vit-mae"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "vit-mae-base": Checkpoint("facebook/vit-mae-base", None, 85_798_656, "Apache-2.0")
    }
    network = "ViTMAEModel"
    pickled = True
    blocks = "layers"
    norm = summary = "layernorm"
    interpolation = "bilinear"

    def settings(self) -> Mapping[str, Any]:
        """The published configuration hides 75 % of the patches."""
        return {"mask_ratio": 0.0}

    def encoder(self, network: nn.Module) -> nn.Module:
        """With nothing hidden."""
        embeddings: Any = network.embeddings
        embeddings.config.mask_ratio = 0.0
        return network

    def run(self, encoder: nn.Module, images: Float[Tensor, "frame 3 height width"]) -> None:
        """The library orders patches by `noise`: if it rises, they stay where they are."""
        import torch

        rising = torch.arange(self.rows * self.columns, device=images.device, dtype=torch.float32)
        encoder(images, noise=rising.expand(len(images), -1), interpolate_pos_encoding=True)
