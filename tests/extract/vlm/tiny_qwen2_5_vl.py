"""Tiny Qwen2.5-VL checkpoints, and Qwen2.5-VL computed with the model, tokenizer and orders of transformers."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.extract.vlm.tiny import (
    Tiny,
    at_frames,
    before_norm,
    byte_tokenizer,
    llm_states,
    make,
    normalised,
    numbered,
)
from tests.extract.vlm.tiny_qwen3_vl import ungrouped

DEPTH, LAYERS, WIDTH = 4, 5, 32
SPECIALS = numbered(
    ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
)
GRID = 3, 5
SIZE = 84, 140
WINDOW = 56
MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]


def flat_config(tied: bool) -> dict[str, Any]:
    """As it is published: the language model's entries at the top, and older names."""
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "vision_start_token_id": SPECIALS["<|vision_start|>"],
        "vision_end_token_id": SPECIALS["<|vision_end|>"],
        "image_token_id": SPECIALS["<|image_pad|>"],
        "video_token_id": SPECIALS["<|video_pad|>"],
        "bos_token_id": 0,
        "eos_token_id": SPECIALS["<|im_end|>"],
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "initializer_range": 0.02,
        "intermediate_size": 48,
        "max_position_embeddings": 8192,
        "max_window_layers": 70,
        "model_type": "qwen2_5_vl",
        "num_attention_heads": 2,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.41.2",
        "use_sliding_window": False,
        "vision_config": {
            "depth": DEPTH,
            "hidden_act": "silu",
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_heads": 2,
            "in_chans": 3,
            "out_hidden_size": WIDTH,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "window_size": WINDOW,
            "fullatt_block_indexes": [1, 3],
            "tokens_per_second": 2,
            "temporal_patch_size": 2,
        },
        "rope_scaling": {"type": "mrope", "mrope_section": [4, 2, 2]},
        "vocab_size": 272,
    }


def build(folder: Path, tied: bool) -> Path:
    """With the names of tensors that are published, which are older than the library's; a tied head is left out."""
    from safetensors.torch import save_file
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    flat = flat_config(tied)
    config = Qwen2_5_VLConfig.from_dict(json.loads(json.dumps(flat)))
    model = make(Qwen2_5_VLForConditionalGeneration, config, gain=8.0)  # less, and positions hardly count
    tensors = {
        re.sub(r"^model\.visual\.", "visual.", re.sub(r"^model\.language_model\.", "model.", name)): tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }
    byte_tokenizer(SPECIALS).save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(flat, indent=2), encoding="utf-8")
    return folder


build_tied, build_untied = partial(build, tied=True), partial(build, tied=False)


@torch.no_grad()
def straight_line(
    root: Path, frames: Tensor, layout: str = "images", question: str = "Describe this video."
) -> dict[str, Tensor]:
    from transformers import AutoModelForImageTextToText, AutoTokenizer
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.vision_utils import get_vision_window_index

    model: Any = AutoModelForImageTextToText.from_pretrained(root, dtype=torch.float32)
    rows, columns = GRID
    n = len(frames)
    told: dict[str, Any]
    if layout == "images":
        pad, name, kind = "<|image_pad|>", "image", 1
        each = f"<|vision_start|>{pad * rows * columns}<|vision_end|>\n"
        body = "The following images are consecutive frames from a video.\n"
        body += "".join(f"Frame{k + 1}: {each}" for k in range(n))
        grid = torch.tensor([[1, 2 * rows, 2 * columns]] * n)
        told = {"image_grid_thw": grid}
    else:
        pad, name, kind = "<|video_pad|>", "video", 2
        body = f"<|vision_start|>{pad * n * rows * columns}<|vision_end|>"
        grid = torch.tensor([[n, 2 * rows, 2 * columns]])
        told = {"video_grid_thw": grid, "second_per_grid_ts": torch.tensor([1.0])}
    text = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    text += f"<|im_start|>user\n{body}{question}<|im_end|>\n<|im_start|>assistant\n"
    ids = AutoTokenizer.from_pretrained(root)(text, return_tensors="pt")["input_ids"]
    processor = Qwen2VLImageProcessorPil(patch_size=14, merge_size=2)
    values = [processor.patchify(image.numpy(), 14, 2, 2)[0] for image in normalised(frames, MEAN, STD)]
    pixels = torch.from_numpy(np.concatenate(values))
    told["pixel_values" + ("_videos" if name == "video" else "")] = pixels
    told["mm_token_type_ids"] = (ids == SPECIALS[pad]).int() * kind
    with before_norm(model.model.language_model.norm) as last:
        output = model.model(input_ids=ids, output_hidden_states=True, **told)
    seen = model.model.visual(pixels, grid_thw=grid, output_hidden_states=True)
    windowed, _ = get_vision_window_index(grid, spatial_merge_size=2, window_size=WINDOW, patch_size=14)
    grids = {}
    for k in range(DEPTH):
        tokens = torch.empty(n * rows * columns, 4, seen.hidden_states[k + 1].shape[-1])
        tokens[windowed] = seen.hidden_states[k + 1].reshape(tokens.shape)
        grids[f"vision.{k}"] = ungrouped(tokens.flatten(0, 1), n, GRID)
    grids["merger"] = seen.pooler_output.reshape(n, rows, columns, -1)
    states = llm_states(output.hidden_states, last)
    return grids | {name: at_frames(each, ids, SPECIALS[pad], GRID) for name, each in states.items()}


PUBLISHED = (
    "model.embed_tokens.weight",
    "model.layers.0.self_attn.q_proj.bias",
    "model.norm.weight",
    "visual.blocks.0.attn.qkv.weight",
    "visual.blocks.0.mlp.gate_proj.bias",
    "visual.merger.ln_q.weight",
    "visual.merger.mlp.0.weight",
    "visual.patch_embed.proj.weight",
)
VIDEO = partial(straight_line, layout="video")
TINY = [
    Tiny("qwen2.5-vl-3b", build_tied, SIZE, straight_line, PUBLISHED),
    Tiny("qwen2.5-vl-7b", build_untied, SIZE, VIDEO, (*PUBLISHED, "lm_head.weight"), {"layout": "video"}, "video"),
]
