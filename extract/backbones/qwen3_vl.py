"""Qwen3-VL (Qwen Team 2025): a vision tower of 16-pixel patches, merged two by two, before a language model.

DeepStack: what three blocks of the vision tower return is merged too, and added to the image tokens after blocks 0, 1
and 2 of the language model, outside the blocks. So `llm.0`, `llm.1` and `llm.2` are read before the addition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from extract.backbones.base import Checkpoint
from extract.vision_language.qwen import END, START, QwenFamily

APACHE = "Apache-2.0"


class Qwen3VL(QwenFamily):
    """The dense models of 2, 4 and 8 billion parameters."""

    name: ClassVar[str] = "qwen3-vl"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "qwen3-vl-2b": Checkpoint("Qwen/Qwen3-VL-2B-Instruct", None, 2_127_532_032, APACHE),
        "qwen3-vl-4b": Checkpoint("Qwen/Qwen3-VL-4B-Instruct", None, 4_437_815_808, APACHE),
        "qwen3-vl-8b": Checkpoint("Qwen/Qwen3-VL-8B-Instruct", None, 8_767_123_696, APACHE),
    }
    network = "Qwen3VLForConditionalGeneration"
    paper: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(models, ("llm.21",))  # its 22, counted from 1
    mean = std = (0.5, 0.5, 0.5)

    def between(self, frames: int) -> Sequence[str]:
        """Every frame of a video has its time in front, in seconds."""
        times = [f"<{k:.1f} seconds>{START}" for k in range(frames)]
        return [times[0], *(END + time for time in times[1:]), END]
