"""Qwen2.5-VL (Qwen Team 2025, arXiv 2502.13923): a vision tower with attention in windows, before a language model.

Windows are of 112 pixels; four blocks attend to the whole frame. The tower keeps its patches in the order of windows
from before the first block to after the merger, and puts only what comes out of it back in rows. Here all sites are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones.base import Checkpoint, Options, Site
from extract.errors import WeightsError
from extract.vision_language.family import VIDEO
from extract.vision_language.qwen import QwenFamily

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

SECONDS_PER_PAIR = 1.0
"""Two frames per second, at which Qwen's own package qwen-vl-utils samples a video."""


class Qwen25VL(QwenFamily):
    """The models of 3 and 7 billion parameters.

    The system prompt is what the chat template of both checkpoints (`chat_template.json`) puts before a chat that has
    none. A video is one run of tokens, with no text between its frames; the time of a frame is in its positions.

    The published code of arXiv 2605.28132 computes attention with flash-attn; `--attention flash_attention_2` does so.
    """

    name: ClassVar[str] = "qwen2.5-vl"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "qwen2.5-vl-3b": Checkpoint(
            "Qwen/Qwen2.5-VL-3B-Instruct", None, 3_754_622_976, "Qwen Research License (non-commercial)"
        ),
        "qwen2.5-vl-7b": Checkpoint("Qwen/Qwen2.5-VL-7B-Instruct", None, 8_292_166_656, "Apache-2.0"),
    }
    network = "Qwen2_5_VLForConditionalGeneration"
    paper: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(models, ("llm.20",))  # its 21, counted from 1
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    mean = (0.48145466, 0.4578275, 0.40821073)
    std = (0.26862954, 0.26130258, 0.27577711)

    def __init__(self, model: str, options: Options | None = None) -> None:
        super().__init__(model, options)
        if self.window_side < 1:
            raise WeightsError(
                f"checkpoint {self._configs_root}: config.json: vision_config.window_size is "
                f"{self.tower['window_size']}, less than a token of {self.side} pixels. Fetch the file again."
            )

    @property
    def window_side(self) -> int:
        """Side of a window of the vision tower, in tokens."""
        return int(self.tower["window_size"]) // self.side

    def inputs(self, images: Float[Tensor, "frame 3 height width"], ids: Int[Tensor, "1 token"]) -> dict[str, Any]:
        """Of a video, also how far pairs of frames are apart, in seconds."""
        import torch

        told = super().inputs(images, ids)
        if self.layout == VIDEO:
            told["second_per_grid_ts"] = torch.tensor([SECONDS_PER_PAIR], device=ids.device)
        return told

    def in_order(self, site: Site, output: Tensor, frames: int) -> Tensor:
        """Tokens in rows: those of a window follow each other, as the windows of a frame do, both row by row.

        Windows at the right and at the bottom are what is left. As `get_vision_window_index` of transformers.
        """
        import torch

        cells = [(y // self.window_side, x // self.window_side) for y in range(self.rows) for x in range(self.columns)]
        windowed = sorted(range(len(cells)), key=lambda cell: cells[cell])
        places = torch.tensor(windowed, device=output.device).argsort()
        return output.reshape(frames, len(cells), -1)[:, places]
