"""Tiny ViT-MAE checkpoints, and its encoder computed with the model of transformers that has the decoder too."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tests.extract.encoders.tiny import IMAGENET, Tiny, blocks, in_rows, make, normalised, save

PATCH = 8
HUB = [
    ("vit.layers.", "vit.encoder.layer."),
    ("attention.q_proj", "attention.attention.query"),
    ("attention.k_proj", "attention.attention.key"),
    ("attention.v_proj", "attention.attention.value"),
    ("attention.o_proj", "attention.output.dense"),
    ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
]
"""Names of the library's modules, and of the tensors in the published file."""


def build(folder: Path) -> Path:
    """With the decoder, and a configuration that hides most patches."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    config = ViTMAEConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=5,
        num_attention_heads=2,
        decoder_hidden_size=16,
        decoder_intermediate_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        image_size=40,
        patch_size=PATCH,
        mask_ratio=0.75,
    )
    return save(folder, make(ViTMAEForPreTraining, config), HUB)


@torch.no_grad()
def straight_line(root: Path, frames: Tensor) -> dict[str, Tensor]:
    from transformers import ViTMAEForPreTraining

    n, height, columns = len(frames), frames.shape[1], frames.shape[2] // PATCH
    model = ViTMAEForPreTraining.from_pretrained(root, mask_ratio=0.0).eval().vit
    rising = torch.linspace(-1, 1, height // PATCH * columns).repeat(n, 1)
    native = frames.shape[1:3] == (40, 40)
    images = normalised(frames, *IMAGENET)
    output = model(images, noise=rising, interpolate_pos_encoding=not native, output_hidden_states=True)
    assert not output.mask.any()
    grids = dict(blocks(output.hidden_states, 1, columns))
    grids["norm"] = in_rows(output.last_hidden_state[:, 1:], columns)
    return grids | {"global": output.last_hidden_state[:, None, :1]}


PUBLISHED = (
    "decoder.decoder_layers.0.attention.attention.query.weight",
    "decoder.mask_token",
    "vit.embeddings.cls_token",
    "vit.embeddings.position_embeddings",
    "vit.embeddings.patch_embeddings.projection.weight",
    "vit.encoder.layer.0.attention.attention.query.weight",
    "vit.encoder.layer.0.attention.output.dense.bias",
    "vit.encoder.layer.0.intermediate.dense.weight",
    "vit.encoder.layer.0.layernorm_before.weight",
    "vit.encoder.layer.0.output.dense.weight",
    "vit.layernorm.weight",
)
TINY = [
    Tiny("vit-mae-base", build, (40, 40), straight_line, PUBLISHED, ("decoder.",)),
    Tiny("vit-mae-base", build, (24, 48), straight_line, PUBLISHED, ("decoder.",), {"size": (24, 48)}, "wide"),
]
