"""A diffusion backbone of three layers that counts what it is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from extract.backbones.base import Backbone, Checkpoint, Family, NoiseLevel, Site, State, Weights
from extract.preprocess import Preprocessing

SIZE, CHANNELS = 16, 6


class ToyFamily(Family):
    name = "toy"
    version = 1
    kind = "vgm"
    models: ClassVar = {"toy": Checkpoint("toy"), "toy-nan": Checkpoint("toy"), "toy-huge": Checkpoint("toy")}
    default_noise = ("sigma=1",)

    def sites(self) -> Sequence[Site]:
        half = (SIZE // 2, SIZE // 2)
        return [
            Site("latent", "encoder", 3, (SIZE, SIZE), 0, stage="encode"),
            *(Site(f"blocks.{k}", f"blocks.{k}", CHANNELS, half, k + 1) for k in range(3)),
        ]

    def preprocessing(self) -> Preprocessing:
        return Preprocessing(height=SIZE, width=SIZE, interpolation="bilinear")

    def noise_level(self, text: str) -> NoiseLevel:
        sigma = float(text.removeprefix("sigma="))
        return NoiseLevel(f"sigma{sigma:g}", sigma, -2 * float(torch.tensor(sigma).log()), sigma)

    def weights(self) -> Weights:
        return Weights("toy", None, "0" * 32)

    def load(self, device: torch.device, dtype: torch.dtype) -> ToyBackbone:
        return ToyBackbone(self, {"toy": 1.0, "toy-nan": float("nan"), "toy-huge": 1e6}[self.model])


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.encoder = nn.Identity()
        later = [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(2)]
        self.blocks = nn.ModuleList([nn.Conv2d(3, CHANNELS, 2, stride=2), *later])
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 4
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        for k, block in enumerate(self.blocks):
            self.calls.append(k)
            x = torch.tanh(block(x))
        return x


class ToyBackbone(Backbone):
    def __init__(self, family: ToyFamily, scale: float) -> None:
        self.family, self.scale, self.encodes = family, scale, 0
        self.module = Network()

    def encode(self, frames: Tensor, bank: Sequence[int], generator: torch.Generator) -> State:
        self.encodes += 1
        latent = self.module.encoder(self.family.preprocessing()(frames))
        return State(bank, {"latent": latent, "noise": torch.randn(latent.shape, generator=generator)})

    def forward(self, state: State, level: NoiseLevel | None) -> None:
        assert level is not None
        self.module(state.values["latent"] + level.sigma * state.values["noise"])

    def grid(self, site: Site, output: Any, state: State) -> Tensor:
        scale = self.scale if self.encodes == 2 else 1.0  # only the second clip goes bad
        return output.permute(0, 2, 3, 1)[list(state.bank)] * scale
