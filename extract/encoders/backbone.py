"""An encoder as a loaded network: frames are a batch, or one clip."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from extract.backbones._per_frame import PerFrame
from extract.backbones.base import Site, State
from extract.checkpoints.loading import load_networks
from extract.checkpoints.model_family import MODEL
from extract.encoders.family import EncoderFamily


class EncoderBackbone(PerFrame):
    """The part of a network that encodes frames.

    Args:
        network: of transformers, on the CPU.
        family: that says what is run of it, and how.
        device: that computes.
        dtype: of the computation.
    """

    def __init__(self, network: nn.Module, family: EncoderFamily, device: torch.device, dtype: torch.dtype) -> None:
        encoder = family.encoder(network)
        if any(each.device != device for each in encoder.parameters()):
            encoder.to(device)
        super().__init__(encoder, family.preprocessing(), dtype, partial(family.run, encoder))
        self.family = family

    def parts(self, state: State) -> Iterator[State]:
        """A few frames at a time where `PerFrame` does; the whole clip if its frames see each other."""
        yield from super().parts(state) if self.family.frame_by_frame else [state]

    def grid(self, site: Site, output: Any, state: State) -> Float[Tensor, "bank y x channel"]:
        """The tokens of the site, row by row."""
        return self.family.cells(site, output, len(state.bank))


def load(family: EncoderFamily, device: torch.device, dtype: torch.dtype) -> EncoderBackbone:
    """Load or draw the network."""
    family = family.as_loaded()
    return EncoderBackbone(load_networks(family, dtype)[MODEL], family, device, dtype)
