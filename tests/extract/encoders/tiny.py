"""What the tests of encoders share: tiny checkpoints of the real classes, and how they are found.

A family has one file `tiny_NAME.py` beside this one, with a list `TINY`. Its `straight_line` is the independent
computation that features are compared with, bit for bit.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import tests.extract.encoders as here
from extract.backbones.base import Options
from extract.encoders.backbone import EncoderBackbone
from extract.encoders.family import EncoderFamily
from extract.registry import make_family
from extract.taps import listen
from tests.extract.video.tiny import loud, seeded

CPU = torch.device("cpu")
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
StraightLine = Callable[[Path, Tensor], dict[str, Tensor]]
"""(checkpoint, 8-bit frames (frame, y, x, 3) of the model's size) -> site -> (frame, y, x, channel) of every site."""
Grids = dict[str, Tensor]


@dataclass(frozen=True)
class Tiny:
    """A model name with a checkpoint of a few thousand parameters.

    Attributes:
        model: name in the registry.
        build: writes the checkpoint under the names of the published file, and returns its folder. The same each time.
        size: of frames, in pixels.
        straight_line: the library's own model of the whole weight file, all blocks, no early stop.
        published: names of some tensors in the weight file, as they are in that which is published.
        others: beginnings of names of tensors that are not of the encoder.
        options: further options, for a variant of the model.
        name: of the variant.
    """

    model: str
    build: Callable[[Path], Path]
    size: tuple[int, int]
    straight_line: StraightLine
    published: Sequence[str]
    others: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def id(self) -> str:
        return f"{self.model}{'-' if self.name else ''}{self.name}"

    def family(self, folder: Path, **options: Any) -> EncoderFamily:
        family = make_family(self.model, Options(**{"checkpoint": str(folder), **self.options, **options}))
        assert isinstance(family, EncoderFamily)
        return family

    def load(self, folder: Path, dtype: torch.dtype = torch.float32, **options: Any) -> EncoderBackbone:
        backbone = self.family(folder, **options).load(CPU, dtype)
        assert isinstance(backbone, EncoderBackbone)
        return backbone


def all_tiny() -> list[Tiny]:
    names = [module.name for module in pkgutil.iter_modules(here.__path__) if module.name.startswith("tiny_")]
    return [tiny for name in sorted(names) for tiny in importlib.import_module(f"{here.__name__}.{name}").TINY]


@torch.inference_mode()
def features(backbone: EncoderBackbone, clip: Tensor, names: Sequence[str] | None = None, stop: bool = False) -> Grids:
    """Grids (frame, y, x, channel) of some sites, by default of all, put together from the parts of the clip."""
    sites = [site for site in backbone.family.sites() if names is None or site.name in names]
    state = backbone.encode(clip, range(len(clip)), torch.Generator())
    grids: dict[str, list[Tensor]] = {site.name: [] for site in sites}
    for part in backbone.parts(state):
        with listen(backbone.module, sites, stop=stop) as heard:
            backbone.forward(part, None)
        for site in sites:
            grids[site.name].append(backbone.grid(site, heard[site.name], part))
    return {name: torch.cat(each) for name, each in grids.items()}


def same(a: Grids, b: Grids) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def make(model: type[Any], config: Any) -> Any:
    """A model with random weights, the same each time, of which none is zero and none hides in rounding."""
    with seeded(), torch.no_grad():
        network = loud(model(config)).eval()
        for parameter in network.parameters():
            if parameter.ndim == 3:  # tokens and tables of positions
                parameter.normal_(std=0.3)
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return network


def save(folder: Path, model: Any, renamed: Sequence[tuple[str, str]] = (), **more: Tensor) -> Path:
    """Write a checkpoint as it is on the hub: parts of names are replaced one after the other."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for ours, tensor in model.state_dict().items():
        name = ours
        for old, new in renamed:
            name = name.replace(old, new)
        tensors[name] = tensor.clone()
    save_file({**tensors, **more}, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(model.config.to_json_string(), encoding="utf-8")
    return folder


def normalised(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """8-bit frames (frame, y, x, 3) -> (frame, 3, y, x), as the library's processors make of them."""
    images = frames.permute(0, 3, 1, 2).float() / 255
    return (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def in_rows(cells: Tensor, columns: int) -> Tensor:
    """Cells (frame, cell, channel) as grids."""
    return torch.stack(list(cells.split(columns, dim=1)), dim=1)


def blocks(hidden: Sequence[Tensor], first: int, columns: int) -> Iterator[tuple[str, Tensor]]:
    """The library's `hidden_states`, which begin with the embedding, as sites; `first` is the first patch."""
    for k, states in enumerate(hidden[1:]):
        yield f"blocks.{k}", in_rows(states[:, first:], columns)
