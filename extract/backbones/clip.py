"""CLIP (Radford et al. 2021, arXiv:2103.00020): images matched with their captions; patches of 14 pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from extract.backbones.base import Checkpoint
from extract.encoders.family import TowerFamily


class CLIP(TowerFamily):
    """The image tower. `global` is the class token after the last norm, which no other token passes: so no `norm`.

    In training nothing followed from the patches of the last block. The deepest default site is the block before it,
    which is also what models with CLIP as their eye read, as LLaVA does.
    """

    name: ClassVar[str] = "clip"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "clip-vit-l14": Checkpoint("openai/clip-vit-large-patch14", None, 303_179_776, "MIT")
    }
    network = "CLIPVisionModel"
    whole = "CLIPModel"
    blocks = "encoder.layers"
    summary = "post_layernorm"
    interpolation = "bicubic"
    mean = (0.48145466, 0.4578275, 0.40821073)
    std = (0.26862954, 0.26130258, 0.27577711)

    @property
    def deepest(self) -> str:
        """The last block but one."""
        return f"blocks.{max(0, self.tower['num_hidden_layers'] - 2)}"
