"""Control: the picture itself. What a probe reads from raw colours, no backbone has to be credited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from extract.backbones._packaged import checked_size
from extract.backbones.base import Backbone, Checkpoint, Family, Options, Site, Weights
from extract.preprocess import Preprocessing
from store.digest import digest_text

if TYPE_CHECKING:
    import torch

PATCH = 8
DEFINITION = (
    "frames resized to a multiple of 8 pixels, scaled to [-1, 1], cut into patches of 8x8; channel = (rgb, y, x)"
)


class Pixels(Family):
    """One site, `patches`: the frame at 128 x 128 pixels, cut into a 16 x 16 grid of 8 x 8 x 3 = 192 channels.

    Values lie in [-1, 1]. Channel `64 * colour + 8 * dy + dx` of a cell is the pixel (dy, dx) from its top left
    corner. There are no weights, so `options.untrained` changes nothing.
    """

    name = "pixels"
    version = 1
    kind = "control"
    takes = frozenset({"size", "untrained"})
    models: ClassVar = {"pixels": Checkpoint("pixels", parameters=0, licence="none")}

    def __init__(self, model: str, options: Options | None = None) -> None:
        super().__init__(model, options)
        self.size = checked_size(self, default=(16 * PATCH, 16 * PATCH), multiple=PATCH)

    def sites(self) -> Sequence[Site]:
        """The one site, `patches`."""
        height, width = self.size
        return [Site("patches", "patches", 3 * PATCH**2, (height // PATCH, width // PATCH), depth=0)]

    def preprocessing(self) -> Preprocessing:
        """Stretched with an anti-aliased triangle kernel, to [-1, 1]."""
        height, width = self.size
        half = (0.5, 0.5, 0.5)
        return Preprocessing(height=height, width=width, interpolation="bilinear", mean=half, std=half)

    def settings(self) -> Mapping[str, Any]:
        """Side of a patch in pixels."""
        return {"patch": PATCH}

    @property
    def batches(self) -> bool:
        """Yes: it sees one frame at a time."""
        return True

    def weights(self) -> Weights:
        """The definition takes the place of weights."""
        return Weights(self.name, None, digest_text(DEFINITION))

    def load(self, device: torch.device, dtype: torch.dtype) -> Backbone:
        """A network of one layer without parameters."""
        from collections import OrderedDict

        from torch import nn

        from extract.backbones._per_frame import PerFrame

        module = nn.Sequential(OrderedDict(patches=nn.PixelUnshuffle(PATCH)))
        return PerFrame(module.to(device), self.preprocessing(), dtype, module)
