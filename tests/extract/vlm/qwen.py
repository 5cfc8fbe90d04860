"""What the tests of both Qwen families share: what is published beside weights, and what transformers makes of it."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")

QWEN25 = ("qwen2.5-vl-3b", "qwen2.5-vl-7b")
QWEN3 = ("qwen3-vl-2b", "qwen3-vl-4b", "qwen3-vl-8b")
QWEN = (*QWEN25, *QWEN3)
_PROCESSOR_25: dict[str, Any] = {
    "min_pixels": 3136,
    "max_pixels": 12845056,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_PROCESSOR_3: dict[str, Any] = {
    "size": {"longest_edge": 16777216, "shortest_edge": 65536},
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def of_both(first: T, second: T) -> dict[str, T]:
    """model -> what its family has."""
    return dict.fromkeys(QWEN25, first) | dict.fromkeys(QWEN3, second)


PROCESSOR = of_both(_PROCESSOR_25, _PROCESSOR_3)
"""`preprocessor_config.json`, without the names of classes."""
VIDEO_PIXELS = of_both((3136, 12845056), (4096, 25165824))
"""Least and most, from `video_preprocessor_config.json`; Qwen2.5-VL has none, and its images' file is taken."""

TEMPLATE_25 = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}"
    "{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Chat template of Qwen2.5-VL, as published."""
TEMPLATE_3 = """{%- set image_count = namespace(value=0) %}
{%- set video_count = namespace(value=0) %}
{%- for message in messages %}
    {%- if message.role == "user" %}
        {{- '<|im_start|>' + message.role + '\\n' }}
        {%- if message.content is string %}
            {{- message.content }}
        {%- else %}
            {%- for content in message.content %}
                {%- if content.type == 'image' or 'image' in content or 'image_url' in content %}
                    {%- set image_count.value = image_count.value + 1 %}
                    {%- if add_vision_id %}Picture {{ image_count.value }}: {% endif -%}
                    <|vision_start|><|image_pad|><|vision_end|>
                {%- elif content.type == 'video' or 'video' in content %}
                    {%- set video_count.value = video_count.value + 1 %}
                    {%- if add_vision_id %}Video {{ video_count.value }}: {% endif -%}
                    <|vision_start|><|video_pad|><|vision_end|>
                {%- elif 'text' in content %}
                    {{- content.text }}
                {%- endif %}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
"""Chat template of Qwen3-VL, as published, without what is for tools, answers, and a system prompt that is given."""
TEMPLATE = of_both(TEMPLATE_25, TEMPLATE_3)


def rendered(model: str, content: list[dict[str, str]]) -> str:
    """The chat of one message, as transformers renders the template."""
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = [[{"role": "user", "content": content}]]
    chats: Any = render_jinja_template(messages, chat_template=TEMPLATE[model], add_generation_prompt=True)[0]
    (chat,) = chats
    return str(chat)


def image_processor(model: str) -> Any:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(**PROCESSOR[model])


def image_size(model: str, height: int, width: int) -> tuple[int, int]:
    """Size to which the image processor resizes."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    size = image_processor(model).size
    step = PROCESSOR[model]["patch_size"] * PROCESSOR[model]["merge_size"]
    found: tuple[int, int] = smart_resize(height, width, step, size["shortest_edge"], size["longest_edge"])
    return found


def of_video_processor(model: str, name: str) -> Callable[..., Any]:
    """A function or method of the file of a video processor, which is not imported, since it needs torchvision."""
    module = "qwen2_vl.video_processing_qwen2_vl" if model in QWEN25 else "qwen3_vl.video_processing_qwen3_vl"
    spec = find_spec(f"transformers.models.{module}")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    (found,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)
    names: dict[str, Any] = {"torch": torch, "math": math}
    # Its annotations name what only torchvision has.
    exec(compile(ast.Module([found], []), spec.origin, "exec", flags=annotations.compiler_flag), names)
    function: Callable[..., Any] = names[name]
    return function
