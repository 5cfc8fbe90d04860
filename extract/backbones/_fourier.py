"""Fourier features of time and place, as a backbone whose one layer can be hooked like any other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from extract.backbones.base import Backbone, NoiseLevel, Site, State


class Fourier(nn.Module):
    """sin(pi 2^k u) and cos(pi 2^k u) of (t, y, x) for k = 0 … octaves - 1, in float32.

    y and x are centres of the cells of `grid`, in [0, 1].
    """

    def __init__(self, grid: tuple[int, int], octaves: int) -> None:
        super().__init__()
        self.grid = grid
        self.octaves = octaves

    def forward(self, time: Float[Tensor, " bank"]) -> Float[Tensor, "bank y x channel"]:
        """Features of each time (bank) at each cell; channels run over coordinate, then sin and cos, then octave."""
        rows, columns = self.grid
        y = (torch.arange(rows, device=time.device) + 0.5) / rows
        x = (torch.arange(columns, device=time.device) + 0.5) / columns
        place = torch.stack(torch.meshgrid(time, y, x, indexing="ij"), dim=-1)
        angle = place[..., None] * (math.pi * 2.0 ** torch.arange(self.octaves, device=time.device))
        return torch.stack((angle.sin(), angle.cos()), dim=-2).flatten(-3)


class Clock(Backbone):
    """Knows how many bank frames there are, and nothing of what they show."""

    def __init__(self, grid: tuple[int, int], octaves: int, device: torch.device, dtype: torch.dtype) -> None:
        self.module = nn.ModuleDict({"fourier": Fourier(grid, octaves)})
        self.device = device
        self.dtype = dtype

    def encode(self, frames: UInt8[Tensor, "frame y x 3"], bank: Sequence[int], generator: torch.Generator) -> State:
        """Time of each bank frame, from 0 for the first to 1 for the last. Draws nothing from `generator`."""
        return State(list(bank), {"time": torch.linspace(0, 1, len(bank), device=self.device)})

    def forward(self, state: State, level: NoiseLevel | None) -> None:
        """Compute the features; `level` is None, since there is no noise."""
        self.module.get_submodule("fourier")(state.values["time"])

    def grid(
        self, site: Site, output: Float[Tensor, "bank y x channel"], state: State
    ) -> Float[Tensor, "bank y x channel"]:
        """The module's output in the asked dtype."""
        return output.to(self.dtype)
