"""Tiny Qwen3-VL checkpoints, and Qwen3-VL computed with the model, tokenizer and patch order of transformers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.extract.vlm.tiny import Tiny, at_frames, before_norm, llm_states, make, normalised, numbered, save

DEPTH, LAYERS, WIDTH = 4, 5, 32
SPECIALS = numbered(
    ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
)
GRID = 2, 3
SIZE = 64, 96
HALF = [0.5, 0.5, 0.5]


def build(folder: Path) -> Path:
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    config = Qwen3VLConfig(
        vision_config={
            "depth": DEPTH,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1, 2],
        },
        text_config={
            "vocab_size": 272,
            "hidden_size": WIDTH,
            "intermediate_size": 48,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
        },
        image_token_id=SPECIALS["<|image_pad|>"],
        video_token_id=SPECIALS["<|video_pad|>"],
        vision_start_token_id=SPECIALS["<|vision_start|>"],
        vision_end_token_id=SPECIALS["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    return save(folder, make(Qwen3VLForConditionalGeneration, config), SPECIALS)


@torch.no_grad()
def straight_line(
    root: Path, frames: Tensor, layout: str = "images", question: str = "Describe this video."
) -> dict[str, Tensor]:
    from transformers import AutoModelForImageTextToText, AutoTokenizer
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    model = AutoModelForImageTextToText.from_pretrained(root, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(root)
    rows, columns = GRID
    n = len(frames)
    if layout == "images":
        pad, name = "<|image_pad|>", "image"
        each = f"<|vision_start|>{pad * rows * columns}<|vision_end|>\n"
        body = "The following images are consecutive frames from a video.\n"
        body += "".join(f"Frame{k + 1}: {each}" for k in range(n))
        grid = torch.tensor([[1, 2 * rows, 2 * columns]] * n)
    else:
        pad, name = "<|video_pad|>", "video"
        each = f"<|vision_start|>{pad * rows * columns}<|vision_end|>"
        body = "".join(f"<{k}.0 seconds>{each}" for k in range(n))
        grid = torch.tensor([[n, 2 * rows, 2 * columns]])
    text = f"<|im_start|>user\n{body}Describe this video.<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    processor = Qwen2VLImageProcessorPil(patch_size=16, merge_size=2)
    values = [processor.patchify(image.numpy(), 16, 2, 2)[0] for image in normalised(frames, HALF, HALF)]
    pixels = torch.from_numpy(np.concatenate(values))
    kind = (ids == SPECIALS[pad]).int() * (1 if name == "image" else 2)
    told = {f"{name}_grid_thw": grid, "pixel_values" + ("_videos" if name == "video" else ""): pixels}
    with before_norm(model.model.language_model.norm) as last:
        output = model.model(input_ids=ids, mm_token_type_ids=kind, output_hidden_states=True, **told)
    seen = model.model.visual(pixels, grid_thw=grid, output_hidden_states=True)
    grids = {f"vision.{k}": ungrouped(seen.hidden_states[k + 1], n) for k in range(DEPTH)}
    grids["merger"] = seen.pooler_output.reshape(n, rows, columns, -1)
    tokens = llm_states(output.hidden_states, last)
    return grids | {name: at_frames(each, ids, SPECIALS[pad], GRID) for name, each in tokens.items()}


def ungrouped(patches: Tensor, frames: int, grid_of_tokens: tuple[int, int] = GRID) -> Tensor:
    """Patches, token by token, each 2 x 2, as a grid: one by one."""
    rows, columns = grid_of_tokens
    grid = torch.empty(frames, 2 * rows, 2 * columns, patches.shape[-1])
    each = iter(patches)
    for frame in range(frames):
        for y in range(rows):
            for x in range(columns):
                for dy in range(2):
                    for dx in range(2):
                        grid[frame, 2 * y + dy, 2 * x + dx] = next(each)
    return grid


PUBLISHED = (
    "model.visual.blocks.0.attn.qkv.weight",
    "model.visual.deepstack_merger_list.0.norm.weight",
    "model.language_model.layers.0.self_attn.q_norm.weight",
)
TINY = [
    Tiny("qwen3-vl-2b", build, SIZE, straight_line, PUBLISHED),
    Tiny("qwen3-vl-4b", build, SIZE, partial(straight_line, layout="video"), PUBLISHED, {"layout": "video"}, "video"),
]
