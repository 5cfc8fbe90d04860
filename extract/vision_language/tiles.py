"""What models share whose vision tower takes square tiles of one size: a frame is one tile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from extract.backbones.base import WEIGHTS_AND_SIZE, Options, Site
from extract.errors import WeightsError
from extract.preprocess import Preprocessing
from extract.vision_language.family import Place, VisionLanguageFamily

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

HALF = (0.5, 0.5, 0.5)


class Tile(Preprocessing):
    """As `Preprocessing`, for a convolution that leaves out what is over at the right and at the bottom.

    Patches of 14 pixels are 27 in a row of 384, and cover 378: no cell of a grid sees the last 6 pixels.

    Attributes:
        covered: how many pixels the patches cover, in either direction.
    """

    covered: int

    def grid_to_image(self, height: int, width: int) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """As `Preprocessing.grid_to_image`: the grid ends where the patches end."""
        return (self.covered / self.width, 0.0, 0.0), (0.0, self.covered / self.height, 0.0)


class TileFamily(VisionLanguageFamily):
    """Every frame is stretched to the one size that the vision tower has a table of positions for.

    No `--size`: the processors of the library know other sizes only as several tiles, which would give a frame several
    grids.
    """

    tokenizer_files = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "*_tokens*.json")
    takes = WEIGHTS_AND_SIZE - {"size"}
    interpolation: ClassVar[Literal["bicubic", "lanczos"]] = "bicubic"
    """Kernel of the model's own processor."""

    def __init__(self, model: str, options: Options | None = None) -> None:
        super().__init__(model, options)
        self.side, self.patch = (self.tower[name] for name in ("image_size", "patch_size"))
        if not (isinstance(self.side, int) and isinstance(self.patch, int) and 0 < self.patch <= self.side):
            self.refuse(
                f"image_size {self.side} and patch_size {self.patch} of vision_config make no square of patches"
            )
        self.across = self.side // self.patch
        """Patches along a side."""

    def refuse(self, wrong: str) -> NoReturn:
        """Raise `WeightsError` for a configuration that the library's own code does not fit."""
        raise WeightsError(f"checkpoint {self._configs_root}: config.json: {wrong}. Fetch the published file.")

    def tower_at(self, module: str) -> Place:
        """Blocks of the vision tower."""
        return Place(module, self.tower["hidden_size"], (self.across, self.across), self.tower["num_hidden_layers"])

    def language_at(self, module: str, cells: int) -> Place:
        """Blocks of the language model, for frames of so many by so many tokens."""
        return Place(module, self.language["hidden_size"], (cells, cells), self.language["num_hidden_layers"])

    def preprocessing(self) -> Preprocessing:
        """Stretched to a square, in [-1, 1]."""
        side, covered = self.side, self.across * self.patch
        return Tile(height=side, width=side, interpolation=self.interpolation, mean=HALF, std=HALF, covered=covered)

    def patches(self, site: Site, output: Any, frames: int) -> Float[Tensor, "frame y x channel"]:
        """One row of patches after the other, frame by frame; there is no class token."""
        tokens: Tensor = output[0] if isinstance(output, tuple) else output
        return tokens.reshape(frames, *site.grid, -1)
