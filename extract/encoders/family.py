"""Families of image and video encoders: networks of the library transformers that see the patches of frames."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from extract.backbones._default_sites import even_blocks
from extract.backbones.base import Backbone, Options, Site
from extract.checkpoints.model_family import ModelFamily
from extract.errors import ExtractError, WeightsError
from extract.preprocess import Preprocessing

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor, nn

NORM, GLOBAL, REGISTERS = "norm", "global", "registers"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class EncoderFamily(ModelFamily):
    """An encoder that is shown frames without text.

    Sites: `blocks.k`, the tokens of patches after block k; `norm`, the same after the norm that follows the last block,
    where it is one over all tokens; `global`, the model's own summary of a frame, as a grid of one cell; `registers`,
    for models that have such tokens, in one row. Tokens of classes and registers are no cells of the other grids.

    Frames are stretched to the size that the model's table of positions is for. `--size` takes other multiples of a
    patch; the table is then interpolated by the library.
    """

    kind = "encoder"
    compiles = True
    needs: ClassVar[tuple[str, ...]] = ("hidden_size", "num_hidden_layers", "image_size", "patch_size")
    blocks: ClassVar[str]
    """Dotted path of the list of blocks."""
    norm: ClassVar[str | None] = None
    """Dotted path of the norm after the last block, if it is applied to all tokens."""
    summary: ClassVar[str | None] = None
    """Dotted path of what returns the summary of a frame: `norm`, whose first token it is, or a module for it alone."""
    classes: ClassVar[int] = 1
    """How many tokens stand before registers and patches."""
    frame_by_frame: ClassVar[bool] = True
    """Whether frames do not see each other."""
    interpolation: ClassVar[Literal["bilinear", "bicubic"]]
    mean: ClassVar[tuple[float, float, float]] = IMAGENET_MEAN
    std: ClassVar[tuple[float, float, float]] = IMAGENET_STD

    def __init__(self, model: str, options: Options | None = None) -> None:
        super().__init__(model, options)
        side, self.patch = self.image_size, self.tower["patch_size"]
        if not (isinstance(side, int) and isinstance(self.patch, int) and 0 < self.patch <= side):
            raise WeightsError(
                f"checkpoint {self._configs_root}: config.json: a side of {side!r} and patch_size {self.patch!r} make "
                "no square of patches, which this model's code needs. Fetch the published file."
            )
        height, width = self.in_multiples(self.options.size or self.default_size, self.patch)
        self.rows, self.columns = height // self.patch, width // self.patch

    # --- facts ------------------------------------------------------------------------------

    @property
    def tower(self) -> Mapping[str, Any]:
        """Configuration of what is run."""
        return self.config

    @property
    def image_size(self) -> Any:
        """Side of the square that the model was made for, in pixels, as the configuration has it."""
        return self.tower["image_size"]

    @property
    def default_size(self) -> tuple[int, int]:
        """(height, width) in pixels: whole patches of the model's square, so that every pixel is in a cell."""
        side = self.image_size // self.patch * self.patch
        return side, side

    @property
    def registers(self) -> int:
        """How many register tokens stand before the patches."""
        return 0

    @property
    def offloads(self) -> bool:
        """No: they are small."""
        return False

    @property
    def batches(self) -> bool:
        """Unless frames see each other."""
        return self.frame_by_frame

    def sites(self) -> Sequence[Site]:
        """Blocks, norm, summary, registers."""
        grid, width = (self.rows, self.columns), self.tower["hidden_size"]
        places = [(f"blocks.{k}", f"{self.blocks}.{k}", grid) for k in range(self.tower["num_hidden_layers"])]
        if self.norm is not None:
            places.append((NORM, self.norm, grid))
        if self.summary is not None:
            places.append((GLOBAL, self.summary, (1, 1)))
        if self.norm is not None and self.registers:
            places.append((REGISTERS, self.norm, (1, self.registers)))
        return [Site(name, module, width, grid, depth) for depth, (name, module, grid) in enumerate(places)]

    @property
    def deepest(self) -> str:
        """The last site whose patches the model was trained to make something of."""
        return NORM

    def default_sites(self) -> Sequence[str]:
        """Four blocks at even distances, at 1/5, 2/5, 3/5 and 4/5 of the depth, and the deepest site."""
        blocks = [f"blocks.{k}" for k in even_blocks(self.tower["num_hidden_layers"])]
        return list(dict.fromkeys([*blocks, self.deepest]))

    def preprocessing(self) -> Preprocessing:
        """Stretched to whole patches."""
        height, width = self.rows * self.patch, self.columns * self.patch
        return Preprocessing(height=height, width=width, interpolation=self.interpolation, mean=self.mean, std=self.std)

    # --- numbers ----------------------------------------------------------------------------

    def encoder(self, network: nn.Module) -> nn.Module:
        """What is run of a loaded network."""
        return network

    @abstractmethod
    def run(self, encoder: nn.Module, images: Float[Tensor, "frame 3 height width"]) -> None:
        """Call the encoder once on preprocessed frames."""

    def cells(self, site: Site, output: Any, frames: int) -> Float[Tensor, "frame y x channel"]:
        """Those tokens of what a site's module returned for so many frames that are the site's, row by row.

        Raises `ExtractError` unless there are as many tokens as the family states.
        """
        tokens: Tensor = output[0] if isinstance(output, tuple) else output
        alone = site.name == GLOBAL and self.summary != self.norm
        count = 1 if alone else self.classes + self.registers + self.rows * self.columns
        if tokens.numel() != frames * count * site.channels:
            raise ExtractError(
                f"site {site.name}: got tokens of shape {tuple(tokens.shape)}, expected {frames} x {count} x "
                f"{site.channels}. The checkpoint is not of the architecture its config describes, or the adapter is "
                "wrong."
            )
        first = {GLOBAL: 0, REGISTERS: self.classes}.get(site.name, self.classes + self.registers)
        rows, columns = site.grid
        chosen = tokens.reshape(frames, count, site.channels)[:, first : first + rows * columns]
        return chosen.reshape(frames, rows, columns, site.channels)

    # --- weights ----------------------------------------------------------------------------

    def load(self, device: torch.device, dtype: torch.dtype) -> Backbone:
        """The encoder alone, in evaluation mode. Raises `WeightsError` if it cannot be loaded."""
        from extract.encoders.backbone import load

        return load(self, device, dtype)


class TowerFamily(EncoderFamily):
    """The image tower of a model of images and text. Of the weight file, the tower's tensors are loaded."""

    needs = ("vision_config",)

    @property
    def tower(self) -> Mapping[str, Any]:
        """Configuration of the image tower."""
        found: Mapping[str, Any] = self.config["vision_config"]
        return found

    def drawn_configs(self) -> Mapping[str, Mapping[str, Any]]:
        """The image tower's."""
        return dict.fromkeys(self.configs, self.tower)

    def run(self, encoder: nn.Module, images: Float[Tensor, "frame 3 height width"]) -> None:
        """At the size of the table of positions, nothing is interpolated."""
        encoder(images, interpolate_pos_encoding=True)
