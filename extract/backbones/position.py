"""Control: where and when a cell is, and nothing else. What a probe reads from it is the dataset's average layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones._packaged import checked_size
from extract.backbones.base import Backbone, Checkpoint, Family, Options, Site, Weights
from extract.preprocess import Preprocessing
from store.digest import digest_text

if TYPE_CHECKING:
    import torch

CELL = 16
OCTAVES = 6
DEFINITION = (
    "sin(pi 2^k u), cos(pi 2^k u) for u in (t, y, x), k in 0..5; channel = (u, sin or cos, k); "
    "t = bank index / (bank - 1), y and x = cell centre / grid size"
)


class Position(Family):
    """One site, `fourier`: sin(pi 2^k u) and cos(pi 2^k u), k = 0 … 5, of t, y and x on a 16 x 16 grid: 36 channels.

    t = index in the bank / (bank frames - 1), 0 for a single frame; y and x are cell centres in [0, 1] of the image.
    Channel `12 * u + 6 * (0 for sin, 1 for cos) + k`, with u = 0, 1, 2 for t, y, x. The frames' content is never read;
    a size of (height, width) pixels gives a grid of 16-pixel cells. There are no weights, so `options.untrained`
    changes nothing.
    """

    name = "position"
    version = 1
    kind = "control"
    takes = frozenset({"size", "untrained"})
    models: ClassVar = {"position": Checkpoint("position", parameters=0, licence="none")}

    def __init__(self, model: str, options: Options | None = None) -> None:
        super().__init__(model, options)
        self.size = checked_size(self, default=(16 * CELL, 16 * CELL), multiple=CELL)

    def sites(self) -> Sequence[Site]:
        """The one site, `fourier`."""
        height, width = self.size
        return [Site("fourier", "fourier", 3 * 2 * OCTAVES, (height // CELL, width // CELL), depth=0)]

    def preprocessing(self) -> Preprocessing:
        """Only the geometry matters: the grid spans the whole frame."""
        height, width = self.size
        return Preprocessing(height=height, width=width)

    def settings(self) -> Mapping[str, Any]:
        """Number of frequencies per coordinate."""
        return {"octaves": OCTAVES}

    def weights(self) -> Weights:
        """The definition takes the place of weights."""
        return Weights(self.name, None, digest_text(DEFINITION))

    def load(self, device: torch.device, dtype: torch.dtype) -> Backbone:
        """A network of one layer without parameters."""
        from extract.backbones._fourier import Clock

        return Clock(self.sites()[0].grid, OCTAVES, device, dtype)
