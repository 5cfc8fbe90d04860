"""Tiny LLaVA-OneVision checkpoints, and LLaVA-OneVision computed with the model and tokenizer of transformers."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.extract.vlm.tiny import Tiny, before_norm, llm_states, make, normalised, numbered, save

DEPTH, LAYERS, WIDTH = 3, 5, 32
SPECIALS = numbered(["<|im_start|>", "<|im_end|>", "<image>", "<video>"])
SIDE, PATCHES, POOLED = 22, 5, 3
HALF = [0.5, 0.5, 0.5]


def tiny_config() -> Any:
    from transformers import LlavaOnevisionConfig

    return LlavaOnevisionConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_attention_heads": 2,
            "num_hidden_layers": DEPTH,
            "image_size": SIDE,
            "patch_size": 4,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": 272,
            "hidden_size": WIDTH,
            "intermediate_size": 48,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 4096,
        },
        image_grid_pinpoints=[[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, 2 * SIDE]],
        image_token_index=SPECIALS["<image>"],
        video_token_index=SPECIALS["<video>"],
    )


def build(folder: Path) -> Path:
    """With the names of tensors that are published, which are older than the library's modules, and than its files."""
    from safetensors.torch import load_file, save_file
    from transformers import LlavaOnevisionForConditionalGeneration

    save(folder, make(LlavaOnevisionForConditionalGeneration, tiny_config()), SPECIALS)
    weights = folder / "model.safetensors"
    tensors = {re.sub("^vision_tower", "vision_tower.vision_model", name): t for name, t in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    return folder


@torch.no_grad()
def straight_line(
    root: Path, frames: Tensor, layout: str = "images", question: str = "Describe this video."
) -> dict[str, Tensor]:
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    model: Any = AutoModelForImageTextToText.from_pretrained(root, dtype=torch.float32)
    model.eval()
    n = len(frames)
    pixels = normalised(frames, HALF, HALF)
    if layout == "images":
        cells, ends = PATCHES, range(n)
        each = "<image>" * (cells * cells + 1)
        body = "".join(f"Frame{k + 1}: {each}\n" for k in range(n))
        told: dict[str, Any] = {"pixel_values": pixels, "image_sizes": torch.tensor([[SIDE, SIDE]] * n)}
        told["batch_num_images"] = torch.tensor([n])
    else:
        cells, ends = POOLED, range(n - 1, n)
        body = "<video>" * (n * cells * cells + 1) + "\n"
        told = {"pixel_values_videos": pixels[None]}
    text = f"<|im_start|>user\n{body}{question}<|im_end|>\n<|im_start|>assistant\n"
    ids = AutoTokenizer.from_pretrained(root)(text, return_tensors="pt")["input_ids"]
    with before_norm(model.model.language_model.norm) as last:
        output = model.model(input_ids=ids, output_hidden_states=True, **told)
    seen = model.model.vision_tower(pixels, output_hidden_states=True)
    grids = {f"vision.{k}": square(seen.hidden_states[k + 1], PATCHES) for k in range(DEPTH)}
    grids["merger"] = square(model.model.multi_modal_projector(seen.hidden_states[-1]), PATCHES)
    states = llm_states(output.hidden_states, last)
    token = SPECIALS["<image>" if layout == "images" else "<video>"]
    return grids | {name: square(without_ends(each[ids == token], cells, ends), cells) for name, each in states.items()}


def square(tokens: Tensor, cells: int) -> Tensor:
    return tokens.reshape(-1, cells, cells, tokens.shape[-1])


def without_ends(tokens: Tensor, cells: int, ends: range) -> Tensor:
    """Take out the token after the cells of each frame in `ends`, one by one."""
    kept, at, frame = [], 0, 0
    while at < len(tokens):
        kept.append(tokens[at : at + cells * cells])
        at += cells * cells + (1 if frame in ends else 0)
        frame += 1
    return torch.cat(kept)


PUBLISHED = (
    "image_newline",
    "language_model.lm_head.weight",
    "language_model.model.embed_tokens.weight",
    "language_model.model.layers.0.self_attn.q_proj.bias",
    "language_model.model.norm.weight",
    "multi_modal_projector.linear_1.weight",
    "vision_tower.vision_model.embeddings.position_embedding.weight",
    "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight",
    "vision_tower.vision_model.post_layernorm.weight",
)
NO_SIZE = {"size": None}
TINY = [
    Tiny("llava-onevision-7b", build, (SIDE, SIDE), straight_line, PUBLISHED, NO_SIZE),
    Tiny(
        "llava-onevision-7b",
        build,
        (SIDE, SIDE),
        partial(straight_line, layout="video"),
        PUBLISHED,
        {**NO_SIZE, "layout": "video"},
        "video",
    ),
]
