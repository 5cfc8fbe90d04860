"""Tiny DINOv2 checkpoints, and DINOv2 computed with the model of transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tests.extract.encoders.tiny import IMAGENET, Tiny, blocks, in_rows, make, normalised, save

PATCH = 8
HUB = [
    ("attention.q_proj", "attention.attention.query"),
    ("attention.k_proj", "attention.attention.key"),
    ("attention.v_proj", "attention.attention.value"),
    ("attention.o_proj", "attention.output.dense"),
]
"""Names of the library's modules, and of the tensors in the published files."""


def build(folder: Path) -> Path:
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=5, num_attention_heads=2, mlp_ratio=2, image_size=40, patch_size=PATCH
    )
    return save(folder, make(Dinov2Model, config), HUB)


@torch.no_grad()
def straight_line(root: Path, frames: Tensor) -> dict[str, Tensor]:
    from transformers import Dinov2Model

    columns = frames.shape[2] // PATCH
    model = Dinov2Model.from_pretrained(root).eval()
    output = model(normalised(frames, *IMAGENET), output_hidden_states=True)
    grids = dict(blocks(output.hidden_states, 1, columns))
    grids["norm"] = in_rows(output.last_hidden_state[:, 1:], columns)
    return grids | {"global": output.pooler_output[:, None, None]}


PUBLISHED = (
    "embeddings.cls_token",
    "embeddings.mask_token",
    "embeddings.position_embeddings",
    "embeddings.patch_embeddings.projection.weight",
    "encoder.layer.0.attention.attention.query.weight",
    "encoder.layer.0.attention.output.dense.bias",
    "encoder.layer.0.layer_scale1.lambda1",
    "encoder.layer.0.mlp.fc1.weight",
    "encoder.layer.0.norm1.weight",
    "layernorm.weight",
)
TINY = [
    Tiny("dinov2-base", build, (40, 40), straight_line, PUBLISHED),
    Tiny("dinov2-large", build, (24, 48), straight_line, PUBLISHED, (), {"size": (24, 48)}, "wide"),
]
