"""Tiny SigLIP 2 checkpoints, and its image tower computed with the whole model of transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tests.extract.encoders.tiny import Tiny, blocks, in_rows, make, normalised, save

PATCH = 8
HALF = [0.5, 0.5, 0.5]


def build(folder: Path) -> Path:
    """With the text tower; a side of 43 pixels is 5 patches and 3 pixels that no patch has."""
    from transformers import SiglipConfig, SiglipModel

    layer = {"intermediate_size": 48, "num_attention_heads": 2}
    config = SiglipConfig(
        vision_config={"hidden_size": 32, "num_hidden_layers": 5, "image_size": 43, "patch_size": PATCH, **layer},
        text_config={"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 30, "projection_size": 32, **layer},
    )
    return save(folder, make(SiglipModel, config))


@torch.no_grad()
def straight_line(root: Path, frames: Tensor) -> dict[str, Tensor]:
    from transformers import SiglipModel

    columns = frames.shape[2] // PATCH
    native = frames.shape[1:3] == (40, 40)
    model = SiglipModel.from_pretrained(root).eval().vision_model
    model.requires_grad_(False)  # torch's own attention multiplies in another order if weights could be trained
    images = normalised(frames, HALF, HALF)
    output = model(images, output_hidden_states=True, interpolate_pos_encoding=not native)
    grids = dict(blocks(output.hidden_states, 0, columns))
    grids["norm"] = in_rows(output.last_hidden_state, columns)
    return grids | {"global": output.pooler_output[:, None, None]}


PUBLISHED = (
    "logit_bias",
    "text_model.head.weight",
    "vision_model.embeddings.patch_embedding.bias",
    "vision_model.embeddings.position_embedding.weight",
    "vision_model.encoder.layers.0.self_attn.out_proj.weight",
    "vision_model.head.attention.in_proj_weight",
    "vision_model.head.probe",
    "vision_model.post_layernorm.weight",
)
OTHERS = "text_model.", "logit_"
TINY = [
    Tiny("siglip2-so400m", build, (40, 40), straight_line, PUBLISHED, OTHERS),
    Tiny("siglip2-base", build, (24, 48), straight_line, PUBLISHED, OTHERS, {"size": (24, 48)}, "wide"),
]
