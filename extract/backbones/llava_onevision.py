"""LLaVA-OneVision (Li et al. 2024): SigLIP without its last block, a projector of two layers, and Qwen2.

The projector reads what the last block returns, before the tower's own last norm. Of several images the library takes
one tile each: 27 x 27 tokens, and one more that says that a line of an image ends. A video is pooled after the
projector to 14 x 14 tokens per frame, with one such token at the end of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones.base import Checkpoint, Options
from extract.vision_language.family import QUESTION, VIDEO, Place
from extract.vision_language.tiles import TileFamily

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

STRATEGY = "vision_feature_select_strategy"


class LlavaOnevision(TileFamily):
    """The model of 7 billion parameters.

    The chat is that of the library's conversion script (transformers,
    `models/llava_onevision/convert_llava_onevision_weights_to_hf.py`), every image on a line of its own, here with a
    label. There is no system prompt.

    The library's processor pads several images to squares; here frames are stretched, as it stretches those of a video.
    """

    name: ClassVar[str] = "llava-onevision"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "llava-onevision-7b": Checkpoint("llava-hf/llava-onevision-qwen2-7b-ov-hf", None, 8_030_807_584, "Apache-2.0"),
    }
    network = "LlavaOnevisionForConditionalGeneration"
    needs = ("vision_config", "text_config", "image_token_index", "video_token_index")
    specials = ("<|im_start|>", "<|im_end|>")

    def __init__(self, model: str, options: Options | None = None) -> None:
        super().__init__(model, options)
        if (got := self.config[STRATEGY]) != "full":
            self.refuse(f"{STRATEGY} is {got!r} and not 'full', so that the first patch of a frame would be left out")

    # --- facts ------------------------------------------------------------------------------

    @property
    def vision(self) -> Place:
        """Blocks of SigLIP."""
        return self.tower_at("vision_tower.encoder.layers")

    @property
    def merger(self) -> Place:
        """The projector; in a video its tokens are pooled before the language model reads them."""
        return Place("multi_modal_projector", self.language["hidden_size"], (self.across, self.across))

    @property
    def llm(self) -> Place:
        """Blocks of Qwen2."""
        return self.language_at("language_model.layers", -(-self.across // 2) if self.layout == VIDEO else self.across)

    @property
    def llm_norm(self) -> str:
        """The norm at the end."""
        return "language_model.norm"

    @property
    def placeholder(self) -> int:
        """Images and videos have tokens of their own."""
        return int(self.config["video_token_index" if self.layout == VIDEO else "image_token_index"])

    @property
    def placeholder_text(self) -> str:
        """As the tokenizer has it."""
        return "<video>" if self.layout == VIDEO else "<image>"

    # --- the chat ---------------------------------------------------------------------------

    def texts(self, frames: int) -> Sequence[str]:
        """Instruction, frames, question, and the beginning of an answer."""
        head = f"<|im_start|>user\n{self.instruction}"
        tail = f"\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
        if self.layout == VIDEO:
            return [head, *[""] * (frames - 1), tail]
        return [f"{head}Frame1: ", *(f"\nFrame{k + 2}: " for k in range(frames - 1)), tail]

    def runs(self, frames: int) -> Sequence[int]:
        """The end of a line is a token too: after each image, or after the last frame of a video."""
        cells = super().runs(frames)
        if self.layout == VIDEO:
            return [*cells[:-1], cells[-1] + 1]
        return [count + 1 for count in cells]

    # --- numbers ----------------------------------------------------------------------------

    def inputs(self, images: Float[Tensor, "frame 3 height width"], ids: Int[Tensor, "1 token"]) -> dict[str, Any]:
        """A video, or images as several: the library would cut one alone into further tiles."""
        if self.layout == VIDEO:
            return {"input_ids": ids, "pixel_values_videos": images[None]}
        count = len(images)
        sizes = [tuple(images.shape[2:])] * count
        return {
            "input_ids": ids,
            "pixel_values": images,
            "image_sizes": sizes,
            "batch_num_images": [max(count, 2)],
        }
