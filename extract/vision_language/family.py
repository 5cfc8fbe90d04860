"""Families of vision-language models: a vision tower, a merger, and a language model that reads text and images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones._default_sites import even_blocks
from extract.backbones.base import PAPER, STANDARD, Backbone, Offload, Site
from extract.checkpoints.model_family import ModelFamily

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor

IMAGES, VIDEO = "images", "video"
QUESTION = "Describe this video."
"""What is asked at the end. The language model is causal: no frame sees it."""
FRAME = "<frame>"
"""Stands for the tokens of a frame where a chat is written down in the recipe."""


@dataclass(frozen=True)
class Place:
    """Modules whose outputs can be read.

    Attributes:
        module: dotted path below the loaded model; of the list, if there are several.
        channels: of what they return for one cell.
        grid: (rows, columns) per frame.
        length: how many there are in the list.
    """

    module: str
    channels: int
    grid: tuple[int, int]
    length: int = 1


class VisionLanguageFamily(ModelFamily):
    """A model that is shown the bank frames within a chat, and is run once over all of them.

    Sites: `vision.k`, what block k of the vision tower returns, on the grid of its patches; `merger`, what the language
    model is given for an image; `llm.k`, what its block k returns at the tokens of the images; `llm.norm`, the same
    after the norm that follows the last block. The language model is causal: a frame sees those before it and the text
    before it, so that the order of frames counts, and so does a prompt, which stands before them.
    """

    kind = "vlm"
    compiles = True
    layouts: Sequence[str] = (IMAGES, VIDEO)
    paper: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """model -> sites that the published code of arXiv 2605.28132 reads."""
    specials: ClassVar[tuple[str, ...]] = ()
    """Strings of the chat that must be single tokens."""

    # --- what a family states ------------------------------------------------------------------

    @property
    @abstractmethod
    def vision(self) -> Place:
        """Blocks of the vision tower."""

    @property
    @abstractmethod
    def merger(self) -> Place:
        """What gives the language model its image tokens."""

    @property
    @abstractmethod
    def llm(self) -> Place:
        """Blocks of the language model; the grid is that of the image tokens of a frame."""

    @property
    @abstractmethod
    def llm_norm(self) -> str:
        """Dotted path of the norm after the last block of the language model."""

    @property
    @abstractmethod
    def placeholder(self) -> int:
        """Id of the token that stands for a cell of a frame in the present layout."""

    @property
    @abstractmethod
    def placeholder_text(self) -> str:
        """The same token as the tokenizer has it, to see that both are of one model."""

    @abstractmethod
    def texts(self, frames: int) -> Sequence[str]:
        """The chat, cut where the frames stand: one text more than there are frames.

        Texts begin and end at special tokens or frames, so that a tokenizer takes each as it takes the whole.
        """

    @abstractmethod
    def inputs(self, images: Float[Tensor, "frame 3 height width"], ids: Int[Tensor, "1 token"]) -> dict[str, Any]:
        """Arguments of the model for preprocessed frames and a tokenised chat, on the device of both."""

    @abstractmethod
    def patches(self, site: Site, output: Any, frames: int) -> Float[Tensor, "frame y x channel"]:
        """What a module of the vision tower, or the merger, returned, as grids in the order of the frames."""

    @property
    def instruction(self) -> str:
        """The user's prompt, on lines of its own; empty if there is none."""
        return "" if self.options.prompt is None else f"{self.options.prompt}\n"

    def runs(self, frames: int) -> Sequence[int]:
        """How many placeholder tokens each frame has: those of its grid first, row by row, and any others after."""
        rows, columns = self.llm.grid
        return [rows * columns] * frames

    # --- what most configurations say alike ------------------------------------------------------

    @property
    def tower(self) -> Mapping[str, Any]:
        """Configuration of the vision tower."""
        found: Mapping[str, Any] = self.config["vision_config"]
        return found

    @property
    def language(self) -> Mapping[str, Any]:
        """Configuration of the language model; older files have it at the top."""
        found: Mapping[str, Any] = self.config.get("text_config") or self.config
        return found

    @property
    def text_limits(self) -> tuple[int, int]:
        """Size of the vocabulary, and the most tokens that the language model takes."""
        return self.language["vocab_size"], self.language["max_position_embeddings"]

    # --- what follows ---------------------------------------------------------------------------

    @property
    def layout(self) -> str:
        """How frames are shown."""
        return self.options.layout or self.layouts[0]

    @property
    def presets(self) -> Sequence[str]:
        """`paper` for the models of arXiv 2605.28132."""
        return (STANDARD, PAPER) if self.model in self.paper else (STANDARD,)

    def sites(self) -> Sequence[Site]:
        """Vision tower, merger, language model, norm."""
        vision, merger, llm = self.vision, self.merger, self.llm
        places = [(f"vision.{k}", f"{vision.module}.{k}", vision) for k in range(vision.length)]
        places += [("merger", merger.module, merger)]
        places += [(f"llm.{k}", f"{llm.module}.{k}", llm) for k in range(llm.length)]
        places += [("llm.norm", self.llm_norm, llm)]
        return [
            Site(name, module, place.channels, place.grid, depth) for depth, (name, module, place) in enumerate(places)
        ]

    def default_sites(self) -> Sequence[str]:
        """The paper's; or the last block of the vision tower, the merger, and four evenly spaced blocks of the LLM."""
        if self.options.preset == PAPER:
            return self.paper[self.model]
        blocks = [f"llm.{k}" for k in even_blocks(self.llm.length)]
        return [f"vision.{self.vision.length - 1}", "merger", *blocks]

    def settings(self) -> Mapping[str, Any]:
        """How frames are shown, and the chat of two frames, which shows that of any number."""
        text = "tokens are bytes" if self.options.untrained is not None else "tokenizer of the checkpoint"
        return {"layout": self.layout, "chat": FRAME.join(self.texts(2)), "text": text}

    # --- weights ----------------------------------------------------------------------------

    def load_offloaded(self, device: torch.device, dtype: torch.dtype, offload: Offload) -> Backbone:
        """The model without its head, in evaluation mode. Raises `WeightsError` if it cannot be loaded."""
        from extract.vision_language.backbone import load

        return load(self, device, dtype, offload)
