"""Tiny CLIP checkpoints, and its image tower computed with the whole model of transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tests.extract.encoders.tiny import Tiny, blocks, make, normalised, save

PATCH = 8
CONSTANTS = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def build(folder: Path) -> Path:
    """With the text tower, and the position ids that old versions of the library saved."""
    from transformers import CLIPConfig, CLIPModel

    layer = {"intermediate_size": 48, "num_attention_heads": 2}
    config = CLIPConfig(
        vision_config={"hidden_size": 32, "num_hidden_layers": 5, "image_size": 40, "patch_size": PATCH, **layer},
        text_config={"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 30, "eos_token_id": 2, **layer},
        projection_dim=8,
    )
    positions = {
        "vision_model.embeddings.position_ids": torch.arange(26)[None],
        "text_model.embeddings.position_ids": torch.arange(77)[None],
    }
    return save(folder, make(CLIPModel, config), **positions)


@torch.no_grad()
def straight_line(root: Path, frames: Tensor) -> dict[str, Tensor]:
    from transformers import CLIPModel

    native = frames.shape[1:3] == (40, 40)
    model = CLIPModel.from_pretrained(root).eval().vision_model
    images = normalised(frames, *CONSTANTS)
    output = model(images, output_hidden_states=True, interpolate_pos_encoding=not native)
    grids = dict(blocks(output.hidden_states, 1, frames.shape[2] // PATCH))
    return grids | {"global": output.pooler_output[:, None, None]}


PUBLISHED = (
    "logit_scale",
    "text_model.encoder.layers.0.mlp.fc1.weight",
    "vision_model.embeddings.class_embedding",
    "vision_model.embeddings.patch_embedding.weight",
    "vision_model.embeddings.position_embedding.weight",
    "vision_model.embeddings.position_ids",
    "vision_model.encoder.layers.0.self_attn.q_proj.weight",
    "vision_model.pre_layrnorm.weight",
    "vision_model.post_layernorm.weight",
    "visual_projection.weight",
)
OTHERS = "text_model.", "logit_scale", "visual_projection.", "text_projection.", "vision_model.embeddings.position_ids"
TINY = [
    Tiny("clip-vit-l14", build, (40, 40), straight_line, PUBLISHED, OTHERS),
    Tiny("clip-vit-l14", build, (24, 48), straight_line, PUBLISHED, OTHERS, {"size": (24, 48)}, "wide"),
]
