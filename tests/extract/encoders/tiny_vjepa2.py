"""Tiny V-JEPA 2 checkpoints, and V-JEPA 2 computed with the model of transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tests.extract.encoders.tiny import IMAGENET, Tiny, in_rows, make, normalised, save

PATCH, CELLS, WIDTH = 8, 4, 48


def build(folder: Path) -> Path:
    """With the predictor; clips of training have 20 frames."""
    from transformers import VJEPA2Config, VJEPA2Model

    config = VJEPA2Config(
        hidden_size=WIDTH,
        num_hidden_layers=5,
        num_attention_heads=4,
        mlp_ratio=2,
        crop_size=PATCH * CELLS,
        patch_size=PATCH,
        frames_per_clip=20,
        pred_hidden_size=24,
        pred_num_hidden_layers=1,
        pred_num_attention_heads=2,
    )
    return save(folder, make(VJEPA2Model, config))


@torch.no_grad()
def straight_line(root: Path, frames: Tensor) -> dict[str, Tensor]:
    from transformers import VJEPA2Model

    images = normalised(frames, *IMAGENET)
    video = torch.stack([image for image in images for _ in range(2)])
    model = VJEPA2Model.from_pretrained(root).eval()
    output = model(pixel_values_videos=video[None], skip_predictor=True, output_hidden_states=True)
    states = {f"blocks.{k}": each for k, each in enumerate(output.hidden_states[1:])}
    states["norm"] = output.last_hidden_state
    return {name: in_rows(each.reshape(len(frames), CELLS**2, WIDTH), CELLS) for name, each in states.items()}


PUBLISHED = (
    "encoder.embeddings.patch_embeddings.proj.weight",
    "encoder.layer.0.attention.query.weight",
    "encoder.layer.0.attention.proj.weight",
    "encoder.layer.0.mlp.fc1.weight",
    "encoder.layernorm.weight",
    "predictor.embeddings.mask_tokens",
    "predictor.layer.0.attention.key.weight",
)
TINY = [Tiny("vjepa2-vitl", build, (32, 32), straight_line, PUBLISHED)]
