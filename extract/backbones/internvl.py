"""InternVL3 and InternVL3.5 (OpenGVLab 2025): InternViT-300M, pixel shuffle two by two, a projector, and a Qwen.

The checkpoints are the conversions to the classes of transformers (`-hf`, `-HF`), which hold the weights of the
originals. The chats are from: the chat template and `replace_video_token` of the conversions' processor; the
conversation `internvl2_5` of the originals' `conversation.py`; labels of several images and of the frames of a video
from the originals' model cards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones.base import PAPER, Checkpoint, Options, Site
from extract.checkpoints.folder import Component
from extract.checkpoints.model_family import MODEL
from extract.errors import ExtractError, WeightsError
from extract.preprocess import Preprocessing
from extract.vision_language.family import IMAGES, QUESTION, VIDEO, Place, VisionLanguageFamily

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

LICENCE_3 = "MIT; contains Qwen2.5 (Qwen License)"
APACHE = "Apache-2.0"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
START, END = "<img>", "</img>"
SYSTEM = (
    "<|im_start|>system\n你是书生·万象，英文名是InternVL，"
    "是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。<|im_end|>\n"
)
"""What the originals say first, and the conversions do not."""
INITIALIZER_RANGE = 0.02
"""Standard deviation of random weights of the vision tower: the default of its class in transformers."""


class InternVL(VisionLanguageFamily):
    """Every frame is one tile, stretched, and no thumbnail.

    A video is to these models nothing but images with other labels: `Frame1: ` and so on in `video`, the default, which
    is also what the published code of arXiv 2605.28132 writes; `Image-1: ` in `images`.

    `paper` has the chat of the originals, as that code has: a system prompt, and no question. It does not run the
    originals' own code, which computes attention with flash-attn (`--attention flash_attention_2`).

    The dynamic rotary positions of InternVL3 differ from plain ones only beyond the most tokens that a chat may have.

    The positions of the vision tower are a table for one size; the library interpolates it for another, and takes
    squares only. `untrained` draws the vision tower with standard deviation 0.02: with the published one, 1e-10,
    nothing would be left of a frame. Its position table is then zero, as its class draws it.
    """

    name: ClassVar[str] = "internvl"
    version: ClassVar[int] = 1
    models: ClassVar[Mapping[str, Checkpoint]] = {
        "internvl3-1b": Checkpoint("OpenGVLab/InternVL3-1B-hf", None, 938_193_024, LICENCE_3),
        "internvl3-2b": Checkpoint("OpenGVLab/InternVL3-2B-hf", None, 2_088_957_440, LICENCE_3),
        "internvl3-8b": Checkpoint("OpenGVLab/InternVL3-8B-hf", None, 7_944_373_760, LICENCE_3),
        "internvl3.5-4b": Checkpoint("OpenGVLab/InternVL3_5-4B-HF", None, 4_732_489_216, APACHE),
        "internvl3.5-8b": Checkpoint("OpenGVLab/InternVL3_5-8B-HF", None, 8_528_318_464, APACHE),
    }
    network = "InternVLForConditionalGeneration"
    needs = ("vision_config", "text_config", "image_token_id")
    tokenizer_files = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "*_tokens*.json")
    specials = ("<|im_start|>", "<|im_end|>", START, END)
    layouts: Sequence[str] = (VIDEO, IMAGES)
    paper: ClassVar[Mapping[str, tuple[str, ...]]] = {  # its 18 and 22, counted from 1
        model: ("llm.21" if model.startswith("internvl3.5") else "llm.17",) for model in models
    }

    def __init__(self, model: str, options: Options | None = None) -> None:
        super().__init__(model, options)
        self.patch, self.merge, tile = self._geometry()
        step = self.patch * self.merge
        height, width = self.in_multiples(self.options.size or (tile, tile), step)
        if height != width:
            near = round((height * width) ** 0.5 / step) * step
            raise ExtractError(f"size {height}x{width}: {self.model} takes squares. Nearest: {near}x{near}.")
        self.side = height

    # --- facts ------------------------------------------------------------------------------

    def _geometry(self) -> tuple[int, int, int]:
        """(side of a patch in pixels, patches along the side of a token, side of a tile in pixels).

        Raises `WeightsError` for what the library's own code does not fit.
        """
        tower, ratio = self.tower, self.config["downsample_ratio"]
        patch, tile = tower["patch_size"], tower["image_size"]
        merge = round(1 / ratio) if ratio > 0 else 0
        strategy = self.config["vision_feature_select_strategy"]
        if patch[0] != patch[1] or tile[0] != tile[1] or tile[0] % (patch[0] * max(merge, 1)):
            wrong = f"image_size {tile} and patch_size {patch} of vision_config make no square of whole tokens"
        elif merge < 1 or merge * ratio != 1:
            wrong = f"downsample_ratio is {ratio}, which is not one part of a whole number"
        elif strategy != "default":
            wrong = f"vision_feature_select_strategy is {strategy!r}, so that class tokens would be among the patches"
        else:
            return int(patch[0]), merge, int(tile[0])
        raise WeightsError(f"checkpoint {self._configs_root}: config.json: {wrong}. Fetch the published file.")

    @property
    def vision(self) -> Place:
        """Blocks of the vision tower."""
        count = self.side // self.patch
        tower = self.tower
        return Place("vision_tower.encoder.layer", tower["hidden_size"], (count, count), tower["num_hidden_layers"])

    @property
    def merger(self) -> Place:
        """What projects the patches of a token, side by side, to the width of the language model."""
        return Place("multi_modal_projector", self.language["hidden_size"], self._tokens)

    @property
    def llm(self) -> Place:
        """Blocks of the language model."""
        width, depth = self.language["hidden_size"], self.language["num_hidden_layers"]
        return Place("language_model.layers", width, self._tokens, depth)

    @property
    def llm_norm(self) -> str:
        """The norm at the end."""
        return "language_model.norm"

    @property
    def _tokens(self) -> tuple[int, int]:
        count = self.side // (self.patch * self.merge)
        return count, count

    @property
    def placeholder(self) -> int:
        """That of `<IMG_CONTEXT>`."""
        return int(self.config["image_token_id"])

    @property
    def placeholder_text(self) -> str:
        """As the tokenizer has it."""
        return "<IMG_CONTEXT>"

    def preprocessing(self) -> Preprocessing:
        """Stretched to one tile."""
        return Preprocessing(height=self.side, width=self.side, mean=IMAGENET_MEAN, std=IMAGENET_STD)

    def facts(self, part: Component, config: Mapping[str, Any]) -> dict[str, Any]:
        """Without whether the head is tied: it is dropped, and files say nothing of it or contradict their weights."""
        found = super().facts(part, config)
        return {key: value for key, value in found.items() if not key.endswith("tie_word_embeddings")}

    def drawn_configs(self) -> Mapping[str, Mapping[str, Any]]:
        """With random weights that leave something of a frame."""
        config = self.configs[MODEL]
        tower = {**config["vision_config"], "initializer_range": INITIALIZER_RANGE}
        return {MODEL: {**config, "vision_config": tower}}

    # --- the chat ---------------------------------------------------------------------------

    def texts(self, frames: int) -> Sequence[str]:
        """Instruction, frames with labels, the question on a line of its own, and the beginning of an answer."""
        paper = self.options.preset == PAPER
        question = "" if paper else f"\n{QUESTION}"
        head = f"{SYSTEM if paper else ''}<|im_start|>user\n{self.instruction}"
        tail = f"{END}{question}<|im_end|>\n<|im_start|>assistant\n"
        name = "Frame" if self.layout == VIDEO else "Image-"
        labels = [f"{name}{k + 1}: {START}" for k in range(frames)]
        return [head + labels[0], *(f"{END}\n{label}" for label in labels[1:]), tail]

    # --- numbers ----------------------------------------------------------------------------

    def inputs(self, images: Float[Tensor, "frame 3 height width"], ids: Int[Tensor, "1 token"]) -> dict[str, Any]:
        """A frame is a tile."""
        return {"input_ids": ids, "pixel_values": images}

    def patches(self, site: Site, output: Any, frames: int) -> Float[Tensor, "frame y x channel"]:
        """In rows. The vision tower has a class token in front, which is left out."""
        cells: Tensor = output if site.name == "merger" else output[:, 1:]
        return cells.reshape(frames, *site.grid, -1)
