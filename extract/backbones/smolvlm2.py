"""SmolVLM2 (Marafioti et al. 2025): SigLIP, nine patches side by side as one token, and SmolLM2.

Every frame is one tile of 27 x 27 patches and 9 x 9 tokens; larger images, which the library's processor cuts into
several tiles, are not made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones.base import Checkpoint, Options
from extract.vision_language.family import QUESTION, VIDEO, Place
from extract.vision_language.tiles import TileFamily

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

AROUND, WHOLE = "<fake_token_around_image>", "<global-img>"
SMALL = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
SMALL += ["eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


class SmolVLM2(TileFamily):
    """The model of 2.2 billion parameters.

    The chat is that of the checkpoint's template and of the library's processor (transformers,
    `models/smolvlm/processing_smolvlm.py`): its marks around an image of one tile, and its words around a video, whose
    frames are told to be one second apart. Images have labels, each on a line of its own.

    The library's processor resizes a frame twice, first to a longest side of 1536 pixels (384 in a video); here it is
    resized once.
    """

    name: ClassVar[str] = "smolvlm2"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "smolvlm2-2.2b": Checkpoint("HuggingFaceTB/SmolVLM2-2.2B-Instruct", None, 2_246_784_880, "Apache-2.0"),
    }
    network = "SmolVLMForConditionalGeneration"
    needs = ("vision_config", "text_config", "image_token_id", "scale_factor")
    specials = ("<|im_start|>", "<end_of_utterance>", AROUND, WHOLE)
    interpolation = "lanczos"

    def __init__(self, model: str, options: Options | None = None) -> None:
        super().__init__(model, options)
        merge = self.config["scale_factor"]
        if not isinstance(merge, int) or merge < 1 or self.across % merge:
            self.refuse(f"scale_factor is {merge}, which does not divide the {self.across} patches of a side")
        self.cells = self.across // merge
        """Tokens along a side."""

    @property
    def vision(self) -> Place:
        """Blocks of SigLIP."""
        return self.tower_at("vision_model.encoder.layers")

    @property
    def merger(self) -> Place:
        """What makes one token of nine patches."""
        return Place("connector", self.language["hidden_size"], (self.cells, self.cells))

    @property
    def llm(self) -> Place:
        """Blocks of SmolLM2."""
        return self.language_at("text_model.layers", self.cells)

    @property
    def llm_norm(self) -> str:
        """The norm at the end."""
        return "text_model.norm"

    @property
    def placeholder(self) -> int:
        """Frames of a video are images to the model."""
        return int(self.config["image_token_id"])

    @property
    def placeholder_text(self) -> str:
        """As the tokenizer has it."""
        return "<image>"

    # --- the chat ---------------------------------------------------------------------------

    def texts(self, frames: int) -> Sequence[str]:
        """Instruction, frames, question, and the beginning of an answer."""
        head, labels, after = self._words(frames)
        tail = f"{AROUND}{after}{QUESTION}<end_of_utterance>\nAssistant:"
        first, *others = (f"{label}{AROUND}{WHOLE}" for label in labels)
        return [f"<|im_start|>User: {self.instruction}{head}{first}", *(AROUND + label for label in others), tail]

    def _words(self, frames: int) -> tuple[str, Sequence[str], str]:
        """What stands before all frames, before each, and after all."""
        if self.layout == VIDEO:
            what = f"{in_words(frames)} frames from a {timedelta(seconds=frames)} [H:MM:SS] video"
            head = f"You are provided the following series of {what}.\n"
            return head, [f"\nFrame from {k // 60:02d}:{k % 60:02d}:" for k in range(frames)], "\n\n"
        return "", ["Frame1: ", *(f"\nFrame{k + 2}: " for k in range(frames - 1))], "\n"

    # --- numbers ----------------------------------------------------------------------------

    def inputs(self, images: Float[Tensor, "frame 3 height width"], ids: Int[Tensor, "1 token"]) -> dict[str, Any]:
        """Frames without padding. The library takes one of zeros for padding, and drops it.

        Black is -1, and zero a grey between two 8-bit values, which a frame can only come to be by a resize. Its first
        value is made the smallest above zero, which no feature can tell from it.
        """
        import torch

        kept = images.clone()
        empty = (images == 0).flatten(1).all(1)
        kept[:, 0, 0, 0] += empty * torch.finfo(images.dtype).smallest_normal
        return {"input_ids": ids, "pixel_values": kept[None]}


def in_words(number: int) -> str:
    """A whole number below a million in English, as the package num2words writes it: `one hundred and twenty-one`."""
    if number < 20:
        return SMALL[number]
    if number < 100:
        tens, rest = divmod(number, 10)
        return TENS[tens - 2] + (f"-{SMALL[rest]}" if rest else "")
    size, name = (100, "hundred") if number < 1000 else (1000, "thousand")
    count, rest = divmod(number, size)
    between = ", " if rest >= 100 else " and "
    return f"{in_words(count)} {name}" + (between + in_words(rest) if rest else "")
