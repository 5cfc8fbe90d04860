"""Tiny InternVL checkpoints, and InternVL computed with the model and tokenizer of transformers."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.extract.video.tiny import seeded
from tests.extract.vlm.tiny import Tiny, at_frames, before_norm, byte_tokenizer, llm_states, make, normalised, numbered

DEPTH, LAYERS, WIDTH = 3, 4, 32
TILE, LARGER = (56, 56), (84, 84)
SPECIALS = numbered(["<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>"])
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HUB = [
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
    ("model.vision_tower.", "vision_tower."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
]
"""Names of the library's modules, and of the tensors in the published files."""
VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "attention_bias": True,
    "image_size": list(TILE),
    "patch_size": [14, 14],
}
TEXT = {
    "vocab_size": 272,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
QWEN2 = {"model_type": "qwen2", "rope_theta": 1e6, "rope_scaling": {"type": "dynamic", "factor": 2.0}, **TEXT}
QWEN3 = {"model_type": "qwen3", "rope_theta": 1e6, "head_dim": 16, **TEXT}


def network(text: dict[str, Any]) -> Any:
    """With a position table and a class token that are not zero, as they are drawn."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    config = InternVLConfig(
        vision_config=dict(VISION),
        text_config=dict(text),
        image_token_id=SPECIALS["<IMG_CONTEXT>"],
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    model = make(InternVLForConditionalGeneration, config)
    embeddings = model.model.vision_tower.embeddings
    with seeded(), torch.no_grad():
        embeddings.position_embeddings.normal_(std=0.1)
        embeddings.cls_token.normal_(std=0.1)
    return model


def build(folder: Path, text: dict[str, Any]) -> Path:
    """As on the hub: tensors with older names, nothing of a tied head, and random weights that would vanish."""
    from safetensors.torch import save_file

    model = network(text)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({hub_name(name): each.clone() for name, each in model.state_dict().items()}, folder / "model.safetensors")
    config = json.loads(model.config.to_json_string())
    del config["tie_word_embeddings"]
    config["vision_config"]["initializer_range"] = 1e-10
    (folder / "config.json").write_text(json.dumps(config))
    byte_tokenizer(SPECIALS).save_pretrained(folder)
    return folder


def hub_name(name: str) -> str:
    return next(theirs + name.removeprefix(ours) for ours, theirs in HUB if name.startswith(ours))


@torch.no_grad()
def straight_line(
    root: Path, frames: Tensor, before: str = "", label: str = "Frame{}: ", after: str = "\nDescribe this video."
) -> dict[str, Tensor]:
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    model = AutoModelForImageTextToText.from_pretrained(root, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(root)
    n, side = len(frames), frames.shape[1] // 28
    cells = "<IMG_CONTEXT>" * side**2
    body = "\n".join(f"{label.format(k + 1)}<img>{cells}</img>" for k in range(n))
    text = f"{before}<|im_start|>user\n{body}{after}<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    pixels = normalised(frames, MEAN, STD)
    with before_norm(model.model.language_model.norm) as last:
        output = model.model(input_ids=ids, pixel_values=pixels, output_hidden_states=True)
    seen = model.model.vision_tower(pixels, output_hidden_states=True)
    grids = {f"vision.{k}": in_rows(seen.hidden_states[k + 1][:, 1:], 2 * side) for k in range(DEPTH)}
    grids["merger"] = in_rows(model.model.get_image_features(pixels).pooler_output, side)
    tokens = llm_states(output.hidden_states, last)
    return grids | {
        name: at_frames(each, ids, SPECIALS["<IMG_CONTEXT>"], (side, side)) for name, each in tokens.items()
    }


def in_rows(cells: Tensor, side: int) -> Tensor:
    """Cells (frame, cell, channel) as grids."""
    return torch.stack([cells[:, row * side : (row + 1) * side] for row in range(side)], dim=1)


PAPER_SYSTEM = (
    "<|im_start|>system\n你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位"
    "联合开发的多模态大语言模型。<|im_end|>\n"
)
PUBLISHED = (
    "language_model.model.layers.0.self_attn.q_proj.weight",
    "language_model.model.embed_tokens.weight",
    "language_model.lm_head.weight",
    "vision_tower.encoder.layer.0.attention.projection_layer.weight",
    "vision_tower.embeddings.position_embeddings",
    "multi_modal_projector.linear_1.weight",
)
build_2, build_3 = partial(build, text=QWEN2), partial(build, text=QWEN3)
paper = partial(straight_line, before=PAPER_SYSTEM, after="")
images = partial(straight_line, label="Image-{}: ")
TINY = [
    Tiny("internvl3-1b", build_2, TILE, straight_line, PUBLISHED),
    Tiny("internvl3-2b", build_2, TILE, paper, PUBLISHED, {"preset": "paper"}, "paper"),
    Tiny("internvl3.5-4b", build_3, LARGER, images, PUBLISHED, {"layout": "images"}, "images-larger"),
]
