"""What the tests of latent video families share: tiny checkpoints of the real classes, and how they are found.

A family has one file `tiny_NAME.py` beside this one, with a list `TINY`. Its `straight_line` is the independent
computation that features are compared with, bit for bit.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tests.extract.video as here
from extract.backbones.base import NoiseLevel, Options
from extract.diffusion.latent_video import LatentVideoFamily
from extract.registry import make_family

CPU = torch.device("cpu")
StraightLine = Callable[[Path, Tensor, Tensor, NoiseLevel], dict[str, Tensor]]
"""(checkpoint, frames of one window (frame, 3, y, x) in [-1, 1], noise (1, channel, time, y, x), level)
-> site -> (time, y, x, channel) of every block, and of `vae.latent`."""


@dataclass(frozen=True)
class Tiny:
    """A model name with a checkpoint of a few thousand parameters.

    Attributes:
        model: name in the registry.
        build: writes the checkpoint, and returns its folder. The same each time.
        frames, size: of a window, which suit the tiny autoencoder.
        straight_line: the library's own components called one after the other, all blocks, no early stop.
        options: further options, for a variant of the model.
        name: of the variant.
    """

    model: str
    build: Callable[[Path], Path]
    frames: int
    size: tuple[int, int]
    straight_line: StraightLine
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def id(self) -> str:
        return f"{self.model}{'-' if self.name else ''}{self.name}"

    def family(self, folder: Path, **options: Any) -> LatentVideoFamily:
        asked = {"checkpoint": str(folder), "frames": self.frames, "size": self.size, **self.options, **options}
        family = make_family(self.model, Options(**asked))
        assert isinstance(family, LatentVideoFamily)
        return family


def all_tiny() -> list[Tiny]:
    names = [module.name for module in pkgutil.iter_modules(here.__path__) if module.name.startswith("tiny_")]
    return [tiny for name in sorted(names) for tiny in importlib.import_module(f"{here.__name__}.{name}").TINY]


def save(folder: Path, pipeline: str, parts: Mapping[str, Any], **index: Any) -> Path:
    """Save networks, tokenizers and schedulers in the layout of diffusers."""
    listing: dict[str, Any] = {"_class_name": pipeline}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        listing[name] = [type(part).__module__.split(".")[0], type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(listing | index, indent=1), encoding="utf-8")
    return folder


def t5_tokenizer() -> Any:
    from transformers import T5TokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("a", -3.0), ("b", -3.0)]
    return T5TokenizerFast(vocab=pieces, extra_ids=0)


def t5_encoder(width: int = 16) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(vocab_size=8, d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2))


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """The same random weights each time, and no trace of it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def loud(network: nn.Module, gain: float = 2.0) -> nn.Module:
    """Larger weights: as initialised, attention is so even that a wrong order of tokens would hide in rounding."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(gain)
    return network


@contextmanager
def record(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Outputs of modules, by a hook of the test's own."""
    heard: dict[str, Any] = {}

    def hear(name: str, module: Any, inputs: Any, output: Any) -> None:
        assert name not in heard
        heard[name] = output

    handles = [network.get_submodule(name).register_forward_hook(partial(hear, name)) for name in names]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def calls_of(network: nn.Module) -> list[dict[str, Any]]:
    """A list that grows by the named arguments of every call from now on."""
    calls: list[dict[str, Any]] = []

    def hear(module: Any, inputs: Any, named: dict[str, Any]) -> None:
        assert not inputs
        calls.append(dict(named))

    network.register_forward_pre_hook(hear, with_kwargs=True)
    return calls


def assert_same_call(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """The same arguments by the same names, tensors bit for bit."""
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value) if isinstance(value, Tensor) else ours[name] == value, name


def random_clip(n_frames: int, size: tuple[int, int], seed: int = 5) -> Tensor:
    """Frames that change in time and space, of the size that the network takes, so that nothing is resized."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n_frames, *size, 3), dtype=torch.uint8, generator=generator)


def in_range(frames: Tensor) -> Tensor:
    """(frame, 3, y, x) in [-1, 1], as the library's video processors make of 8-bit frames."""
    return (frames.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
