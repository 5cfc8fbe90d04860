"""Tiny SmolVLM2 checkpoints, and SmolVLM2 computed with the model, tokenizer and texts of transformers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.extract.vlm.tiny import Tiny, at_frames, before_norm, llm_states, make, normalised, numbered, save

DEPTH, LAYERS, WIDTH = 3, 5, 32
AROUND, WHOLE, IMAGE = "<fake_token_around_image>", "<global-img>", "<image>"
SPECIALS = numbered(["<|im_start|>", "<end_of_utterance>", AROUND, WHOLE, IMAGE])
SIDE, PATCHES, CELLS = 26, 6, 2
HALF = [0.5, 0.5, 0.5]


def build(folder: Path) -> Path:
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

    config = SmolVLMConfig(
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_attention_heads": 2,
            "num_hidden_layers": DEPTH,
            "image_size": SIDE,
            "patch_size": 4,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": 272,
            "hidden_size": WIDTH,
            "intermediate_size": 48,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "pad_token_id": 2,
        },
        scale_factor=PATCHES // CELLS,
        image_token_id=SPECIALS[IMAGE],
    )
    return save(folder, make(SmolVLMForConditionalGeneration, config), SPECIALS)


@torch.no_grad()
def straight_line(
    root: Path, frames: Tensor, layout: str = "images", question: str = "Describe this video."
) -> dict[str, Tensor]:
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    model: Any = AutoModelForImageTextToText.from_pretrained(root, dtype=torch.float32)
    model.eval()
    text = whole_text(len(frames), layout, question)
    ids = AutoTokenizer.from_pretrained(root)(text, return_tensors="pt")["input_ids"]
    pixels = normalised(frames, HALF, HALF)
    told: dict[str, Any] = {"pixel_values": pixels[None]}
    told["pixel_attention_mask"] = torch.ones(1, len(frames), SIDE, SIDE, dtype=torch.int64)
    with before_norm(model.model.text_model.norm) as last:
        output = model.model(input_ids=ids, output_hidden_states=True, **told)
    seen = model.model.vision_model(pixels, output_hidden_states=True)
    grids = {
        f"vision.{k}": state.reshape(-1, PATCHES, PATCHES, state.shape[-1])
        for k, state in enumerate(seen.hidden_states[1:])
    }
    merged = model.model.connector(seen.last_hidden_state)
    grids["merger"] = merged.reshape(-1, CELLS, CELLS, WIDTH)
    states = llm_states(output.hidden_states, last)
    return grids | {name: at_frames(each, ids, SPECIALS[IMAGE], (CELLS, CELLS)) for name, each in states.items()}


def whole_text(frames: int, layout: str, question: str = "Describe this video.") -> str:
    """The template and the texts of the library's processor, which itself wants a package that is not needed."""
    from jinja2 import Template
    from transformers.models.smolvlm import processing_smolvlm

    library: Any = processing_smolvlm
    image = library.get_image_prompt_string(
        0, 0, CELLS * CELLS, fake_token_around_image=AROUND, image_token=IMAGE, global_image_token=WHOLE
    )
    if layout == "images":
        shown = "".join(f"Frame{k + 1}: {image}\n" for k in range(frames))
        content = [{"type": "text", "text": shown}]
    else:
        words = ["zero", "one", "two", "three", "four"]
        shown = library.DEFAULT_VIDEO_INTRO.format(frame_count=words[frames], video_duration=f"0:00:0{frames}")
        for k in range(frames):
            shown += library.FRAME_TIMESTAMP_MESSAGE.format(timestamp=f"00:0{k}") + image
        shown += library.DEFAULT_MEDIA_OUTTRO
        content = [{"type": "video"}]
    content.append({"type": "text", "text": question})
    messages = [{"role": "user", "content": content}]
    text: str = Template(library.DEFAULT_CHAT_TEMPLATE).render(messages=messages, add_generation_prompt=True)
    return text.replace("<video>", shown)


PUBLISHED = (
    "lm_head.weight",
    "model.connector.modality_projection.proj.weight",
    "model.text_model.layers.0.self_attn.q_proj.weight",
    "model.text_model.norm.weight",
    "model.vision_model.embeddings.position_embedding.weight",
    "model.vision_model.encoder.layers.0.mlp.fc1.weight",
    "model.vision_model.post_layernorm.weight",
)
NO_SIZE = {"size": None}
TINY = [
    Tiny("smolvlm2-2.2b", build, (SIDE, SIDE), straight_line, PUBLISHED, NO_SIZE),
    Tiny(
        "smolvlm2-2.2b",
        build,
        (SIDE, SIDE),
        partial(straight_line, layout="video"),
        PUBLISHED,
        {**NO_SIZE, "layout": "video"},
        "video",
    ),
]
