"""What the vision-language models of Qwen share: their chat, their resizing, and the order of their patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones.base import PAPER, Options, Site
from extract.preprocess import Preprocessing, ResizedTwice
from extract.vision_language.family import QUESTION, VIDEO, Place, VisionLanguageFamily

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

PAPER_FRAME = (540, 960)
"""(height, width) to which the published code of arXiv 2605.28132 stretches all frames."""
INTRODUCTION = "The following images are consecutive frames from a video.\n"
START, END = "<|vision_start|>", "<|vision_end|>"


class QwenFamily(VisionLanguageFamily):
    """Frames as images with labels, in the words of the published code of arXiv 2605.28132; or as one video.

    A video is told to the model in pairs of frames. Here every bank frame is both frames of its pair, as a still image
    is too: so each has tokens of its own. Pairs are told to be one second apart.

    The processor of the library rounds a size to multiples of the side of a token. Here that is done once, for the size
    of all frames: by default the paper's 960 x 540, rounded, with one resize. `paper` resizes twice, as its code does.
    """

    network: ClassVar[str]
    needs = ("vision_config", "image_token_id", "video_token_id")
    tokenizer_files = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "*_tokens*.json")
    specials = ("<|im_start|>", "<|im_end|>", START, END)
    system: ClassVar[str] = ""
    """What the chat template of the checkpoints says first."""

    def __init__(self, model: str, options: Options | None = None) -> None:
        super().__init__(model, options)
        side = self.side
        usual = tuple(round(each / side) * side for each in PAPER_FRAME)
        height, width = self.in_multiples(self.options.size or (usual[0], usual[1]), side)
        self.rows, self.columns = height // side, width // side

    # --- facts ------------------------------------------------------------------------------

    @property
    def merge(self) -> int:
        """So many by so many patches are one token."""
        return int(self.tower["spatial_merge_size"])

    @property
    def side(self) -> int:
        """Side of a token, in pixels."""
        return int(self.tower["patch_size"]) * self.merge

    @property
    def vision(self) -> Place:
        """Blocks of the vision tower."""
        grid = self.rows * self.merge, self.columns * self.merge
        return Place("visual.blocks", self.tower["hidden_size"], grid, self.tower["depth"])

    @property
    def merger(self) -> Place:
        """What merges patches."""
        return Place("visual.merger", self.tower["out_hidden_size"], (self.rows, self.columns))

    @property
    def llm(self) -> Place:
        """Blocks of the language model."""
        width, depth = self.language["hidden_size"], self.language["num_hidden_layers"]
        return Place("language_model.layers", width, (self.rows, self.columns), depth)

    @property
    def llm_norm(self) -> str:
        """The norm at the end."""
        return "language_model.norm"

    @property
    def placeholder(self) -> int:
        """Images and videos have tokens of their own."""
        return int(self.config["video_token_id" if self.layout == VIDEO else "image_token_id"])

    @property
    def placeholder_text(self) -> str:
        """As the tokenizer has it."""
        return "<|video_pad|>" if self.layout == VIDEO else "<|image_pad|>"

    def preprocessing(self) -> Preprocessing:
        """Stretched to a multiple of the side of a token."""
        height, width = self.rows * self.side, self.columns * self.side
        if self.options.preset == PAPER and self.options.size is None:
            return ResizedTwice(via=PAPER_FRAME, height=height, width=width, mean=self.mean, std=self.std)
        return Preprocessing(height=height, width=width, mean=self.mean, std=self.std)

    mean: ClassVar[tuple[float, float, float]]
    std: ClassVar[tuple[float, float, float]]

    # --- the chat ---------------------------------------------------------------------------

    def texts(self, frames: int) -> Sequence[str]:
        """System prompt, instruction, frames, question, and the beginning of an answer."""
        head = f"{self.system}<|im_start|>user\n{self.instruction}"
        tail = f"{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
        if self.layout == VIDEO:
            between = self.between(frames)
            return [head + between[0], *between[1:-1], between[-1] + tail]
        labels = [f"Frame{k + 1}: {START}" for k in range(frames)]
        return [head + INTRODUCTION + labels[0], *(f"{END}\n{label}" for label in labels[1:]), f"{END}\n{tail}"]

    def between(self, frames: int) -> Sequence[str]:
        """What stands before, between and after the frames of a video."""
        return [START, *[""] * (frames - 1), END]

    # --- numbers ----------------------------------------------------------------------------

    def inputs(self, images: Float[Tensor, "frame 3 height width"], ids: Int[Tensor, "1 token"]) -> dict[str, Any]:
        """Patches in groups of merge x merge, and which tokens they become."""
        import torch

        rows = self._patchify(images)
        sides = self.rows * self.merge, self.columns * self.merge
        if self.layout == VIDEO:
            kind, grid = 2, torch.tensor([[len(images), *sides]], device=ids.device)
            told = {"pixel_values_videos": rows, "video_grid_thw": grid}
        else:
            kind, grid = 1, torch.tensor([[1, *sides]] * len(images), device=ids.device)
            told = {"pixel_values": rows, "image_grid_thw": grid}
        return {"input_ids": ids, "mm_token_type_ids": (ids == self.placeholder).int() * kind, **told}

    def _patchify(self, images: Float[Tensor, "frame 3 height width"]) -> Float[Tensor, "patch value"]:
        """Row of a patch: colour, then the frame twice, then its pixels; the patches of a token follow each other."""
        from einops import rearrange, repeat

        merge, patch = self.merge, int(self.tower["patch_size"])
        groups = rearrange(images, "n c (y a p) (x b q) -> (n y x a b) c p q", a=merge, b=merge, p=patch, q=patch)
        return repeat(groups, "patch c p q -> patch (c t p q)", t=int(self.tower["temporal_patch_size"]))

    def patches(self, site: Site, output: Any, frames: int) -> Float[Tensor, "frame y x channel"]:
        """Merged tokens are in rows; patches are in groups, in the order of the merged tokens."""
        ordered: Tensor = self.in_order(site, output, frames)
        if site.name == "merger":
            return ordered.reshape(frames, self.rows, self.columns, -1)
        merge = self.merge
        groups = ordered.reshape(frames, self.rows, self.columns, merge, merge, -1)
        return groups.transpose(2, 3).reshape(frames, self.rows * merge, self.columns * merge, -1)

    def in_order(self, site: Site, output: Tensor, frames: int) -> Tensor:
        """What a module returned, frame by frame and token by token."""
        return output
