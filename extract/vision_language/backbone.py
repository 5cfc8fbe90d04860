"""A vision-language model as a loaded network: frames and chat are prepared once, and read in one forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from extract.backbones.base import Backbone, NoiseLevel, Offload, Site, State
from extract.checkpoints.loading import load_networks
from extract.checkpoints.model_family import MODEL
from extract.checkpoints.residence import come_in_turn
from extract.errors import ExtractError
from extract.vision_language.chat import Tokenise, lay_out, tokeniser
from extract.vision_language.family import VisionLanguageFamily


@dataclass(kw_only=True)
class ChatState(State):
    """A clip as the model is given it.

    Attributes:
        inputs: arguments of the model.
        tokens: how many the chat has.
        starts: position of the first token of every bank frame.
    """

    inputs: Mapping[str, Any]
    tokens: int
    starts: Sequence[int]


class VisionLanguageBackbone(Backbone):
    """The model without its head: no logits are computed, and no keys and values are kept.

    Args:
        network: of transformers, with its head, on the CPU.
        family: that says how it is called.
        tokenise: text to ids.
        device: that computes.
        dtype: of the computation.
        offload: where the weights of blocks wait.
    """

    def __init__(
        self,
        network: nn.Module,
        family: VisionLanguageFamily,
        tokenise: Tokenise,
        device: torch.device,
        dtype: torch.dtype,
        offload: Offload = "none",
    ) -> None:
        headless: Any = network.model
        self.module = headless.eval().requires_grad_(False)
        self.family, self.tokenise, self.device, self.dtype = family, tokenise, device, dtype
        self._settle(device, offload)
        self.preprocess = family.preprocessing()

    def _settle(self, device: torch.device, offload: Offload) -> None:
        """Bring the network to the device; blocks that are to come in turn stay behind."""
        blocks: list[nn.Module] = []
        if offload != "none":
            places = self.family.vision.module, self.family.llm.module
            blocks = [block for place in places for block in self.module.get_submodule(place).children()]
            come_in_turn(blocks, device, offload)
        staying = {id(tensor) for block in blocks for tensor in (*block.parameters(), *block.buffers())}
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            if id(tensor) not in staying and tensor.device != device:
                tensor.data = tensor.data.to(device)

    @torch.no_grad()
    def encode(
        self, frames: UInt8[Tensor, "frame y x 3"], bank: Sequence[int], generator: torch.Generator
    ) -> ChatState:
        """Preprocess the bank frames and lay out the chat. Draws nothing from `generator`."""
        tokens = lay_out(self.family, self.tokenise, len(bank))
        images = self.preprocess(frames[list(bank)]).to(self.dtype)
        ids = torch.tensor([tokens.ids], device=images.device)
        # Every token counts. Without a mask, versions of the library guess from positions where a text ends.
        inputs = {"attention_mask": torch.ones_like(ids), **self.family.inputs(images, ids)}
        return ChatState(bank=bank, inputs=inputs, tokens=len(tokens.ids), starts=tokens.starts)

    @torch.no_grad()
    def forward(self, state: State, level: NoiseLevel | None) -> None:
        """Vision tower, merger and language model, once over all frames; `level` is None, since there is no noise."""
        assert isinstance(state, ChatState)
        self.module(**state.inputs, use_cache=False)

    def grid(self, site: Site, output: Any, state: State) -> Float[Tensor, "bank y x channel"]:
        """Patches of the vision tower, or the tokens of the language model that stand for a frame, row by row."""
        assert isinstance(state, ChatState)
        if not site.name.startswith("llm."):
            return self.family.patches(site, output, len(state.bank))
        tokens = output[0] if isinstance(output, tuple) else output
        if tokens.shape[:2] != (1, state.tokens):
            raise ExtractError(
                f"site {site.name}: got tokens of shape {tuple(tokens.shape)}, expected 1 x {state.tokens}. "
                "The checkpoint is not of the architecture its config describes, or the adapter is wrong."
            )
        rows, columns = site.grid
        found: Tensor = torch.stack([tokens[0, start : start + rows * columns] for start in state.starts])
        return found.reshape(len(state.starts), rows, columns, -1)


def load(
    family: VisionLanguageFamily, device: torch.device, dtype: torch.dtype, offload: Offload
) -> VisionLanguageBackbone:
    """Load or draw the network, and its tokenizer first: it fails sooner."""
    family = family.as_loaded()
    tokenise = tokeniser(family)
    network = load_networks(family, dtype)[MODEL]
    return VisionLanguageBackbone(network, family, tokenise, device, dtype, offload)
