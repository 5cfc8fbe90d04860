"""SigLIP 2 (Tschannen et al. 2025, arXiv:2502.14786), of fixed resolution: images, captions and their places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from extract.backbones.base import Checkpoint
from extract.encoders.family import TowerFamily

APACHE = "Apache-2.0"


class SigLIP2(TowerFamily):
    """The image tower. There is no class token; `global` is what the attention pooling after the norm returns.

    384 pixels are 27 patches of 14 and 6 pixels that the network leaves out. So the default of the larger model is 378:
    the same patches and positions, and the whole frame.
    """

    name: ClassVar[str] = "siglip2"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "siglip2-base": Checkpoint("google/siglip2-base-patch16-224", None, 92_884_224, APACHE),
        "siglip2-so400m": Checkpoint("google/siglip2-so400m-patch14-384", None, 428_225_600, APACHE),
    }
    network = "SiglipVisionModel"
    whole = "SiglipModel"
    blocks = "encoder.layers"
    norm = "post_layernorm"
    summary = "head"
    classes = 0
    interpolation = "bilinear"
    mean = std = (0.5, 0.5, 0.5)
