"""Tiny DINOv3 checkpoints, and DINOv3 computed with the model of transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tests.extract.encoders.tiny import IMAGENET, Tiny, blocks, in_rows, make, normalised, save

PATCH, REGISTERS = 4, 3


def build(folder: Path) -> Path:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=5,
        num_attention_heads=2,
        image_size=32,
        patch_size=PATCH,
        num_register_tokens=REGISTERS,
    )
    return save(folder, make(DINOv3ViTModel, config), [("model.layer.", "layer.")])


@torch.no_grad()
def straight_line(root: Path, frames: Tensor) -> dict[str, Tensor]:
    from transformers import DINOv3ViTModel

    columns, first = frames.shape[2] // PATCH, 1 + REGISTERS
    model = DINOv3ViTModel.from_pretrained(root).eval()
    output = model(normalised(frames, *IMAGENET), output_hidden_states=True)
    normed = output.last_hidden_state
    grids = dict(blocks(output.hidden_states, first, columns))
    grids["norm"] = in_rows(normed[:, first:], columns)
    return grids | {"global": output.pooler_output[:, None, None], "registers": normed[:, None, 1:first]}


PUBLISHED = (
    "embeddings.cls_token",
    "embeddings.register_tokens",
    "embeddings.patch_embeddings.weight",
    "layer.0.attention.q_proj.weight",
    "layer.0.layer_scale1.lambda1",
    "layer.0.mlp.up_proj.weight",
    "norm.weight",
)
TINY = [
    Tiny("dinov3-vitl16", build, (128, 128), straight_line, PUBLISHED),
    Tiny("dinov3-vitl16", build, (12, 20), straight_line, PUBLISHED, (), {"size": (12, 20)}, "wide"),
]
