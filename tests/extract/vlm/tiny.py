"""What the tests of vision-language families share: tiny checkpoints of the real classes, and how they are found.

A family has one file `tiny_NAME.py` beside this one, with a list `TINY`. Its `straight_line` is the independent
computation that features are compared with, bit for bit.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tests.extract.vlm as here
from extract.backbones.base import Options
from extract.registry import make_family
from extract.vision_language.family import VisionLanguageFamily
from tests.extract.video.tiny import loud, seeded

CPU = torch.device("cpu")
BYTES = 256
StraightLine = Callable[[Path, Tensor], dict[str, Tensor]]
"""(checkpoint, 8-bit frames (frame, y, x, 3) of the model's size) -> site -> (frame, y, x, channel) of every site."""


@dataclass(frozen=True)
class Tiny:
    """A model name with a checkpoint of a few thousand parameters.

    Attributes:
        model: name in the registry.
        build: writes the checkpoint, and returns its folder. The same each time.
        size: of frames, in pixels.
        straight_line: the library's own model and tokenizer, called on the whole text, all blocks, no early stop.
        published: names of some tensors in the weight file, as they are in that which is published.
        options: further options, for a variant of the model.
        name: of the variant.
    """

    model: str
    build: Callable[[Path], Path]
    size: tuple[int, int]
    straight_line: StraightLine
    published: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def id(self) -> str:
        return f"{self.model}{'-' if self.name else ''}{self.name}"

    def family(self, folder: Path, **options: Any) -> VisionLanguageFamily:
        asked = {"checkpoint": str(folder), "size": self.size, **self.options, **options}
        family = make_family(self.model, Options(**asked))
        assert isinstance(family, VisionLanguageFamily)
        return family


def all_tiny() -> list[Tiny]:
    names = [module.name for module in pkgutil.iter_modules(here.__path__) if module.name.startswith("tiny_")]
    return [tiny for name in sorted(names) for tiny in importlib.import_module(f"{here.__name__}.{name}").TINY]


def byte_tokenizer(specials: Mapping[str, int]) -> Any:
    """Every byte is a token, with its own number; and these special tokens, with theirs, which follow the bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    assert sorted(specials.values()) == list(range(BYTES, BYTES + len(specials)))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: k for k, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = sorted(specials, key=lambda name: specials[name])
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=names)


def save(folder: Path, model: nn.Module, specials: Mapping[str, int]) -> Path:
    """Save a model and its tokenizer as they are on the hub: one folder."""
    saved: Any = model
    saved.save_pretrained(folder)
    byte_tokenizer(specials).save_pretrained(folder)
    return folder


def make(model: type[Any], config: Any, gain: float = 2.0) -> Any:
    """A model with random weights, the same each time, large enough that a wrong order shows."""
    with seeded():
        return loud(model(config), gain).eval()


def numbered(names: Sequence[str]) -> dict[str, int]:
    """Special tokens after the bytes."""
    return {name: BYTES + k for k, name in enumerate(names)}


def normalised(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """8-bit frames (frame, y, x, 3) -> (frame, 3, y, x), as the library's processors make of them."""
    images = frames.permute(0, 3, 1, 2).float() / 255
    return (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


@contextmanager
def before_norm(norm: nn.Module) -> Iterator[list[Tensor]]:
    """What the norm at the end of a language model is given: `hidden_states` of the library hold it after the norm."""
    given: list[Tensor] = []
    handle = norm.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    try:
        yield given
    finally:
        handle.remove()


def llm_states(hidden: Sequence[Tensor], last: Sequence[Tensor]) -> dict[str, Tensor]:
    """The library's `hidden_states`, and what its norm was given, as sites: (1, token, channel)."""
    (final,) = last
    states = {f"llm.{k}": state for k, state in enumerate(hidden[1:-1])}
    return states | {f"llm.{len(states)}": final, "llm.norm": hidden[-1]}


def at_frames(hidden: Tensor, ids: Tensor, token: int, grid: tuple[int, int]) -> Tensor:
    """States (1, token, channel) at the image tokens of a text, if every image token is a cell of a grid."""
    return hidden[ids == token].reshape(-1, *grid, hidden.shape[-1])
