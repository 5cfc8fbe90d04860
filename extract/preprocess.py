"""How frames become a network's input: explicit torch code, every number of it part of the recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from extract import lanczos

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor


class Preprocessing(BaseModel):
    """Resize to (height, width), scale to [0, 1], subtract `mean`, divide by `std`.

    Attributes:
        height, width: size in pixels after resizing.
        fit: `stretch` changes the aspect ratio and keeps all content; `crop` cuts the centre out and keeps the ratio.
        interpolation: kernel of the resize; always anti-aliased when it shrinks.
        mean, std: per RGB channel, in units of [0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int
    width: int
    fit: Literal["stretch", "crop"] = "stretch"
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bicubic"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __call__(self, frames: UInt8[Tensor, "frame y x 3"]) -> Float[Tensor, "frame 3 height width"]:
        """Float32 network input. Values are clamped to [0, 1] after resizing, since bicubic overshoots."""
        images = frames.permute(0, 3, 1, 2).float() / 255
        if self.fit == "crop":
            top, left, h, w = self._crop(images.shape[-2], images.shape[-1])
            images = images[..., top : top + h, left : left + w]
        if images.shape[-2:] != (self.height, self.width):
            images = self._resize(images)
        mean = images.new_tensor(self.mean)[:, None, None]
        std = images.new_tensor(self.std)[:, None, None]
        return (images - mean) / std

    def _resize(self, images: Float[Tensor, "frame 3 y x"]) -> Float[Tensor, "frame 3 height width"]:
        import torch.nn.functional as F

        if self.interpolation == "lanczos":
            return lanczos.resize(images, self.height, self.width)
        return F.interpolate(
            images, (self.height, self.width), mode=self.interpolation, align_corners=False, antialias=True
        ).clamp(0, 1)

    def _crop(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Largest centred window (top, left, rows, columns) with the target's aspect ratio."""
        rows = min(height, round(width * self.height / self.width))
        columns = min(width, round(height * self.width / self.height))
        return (height - rows) // 2, (width - columns) // 2, rows, columns

    def grid_to_image(self, height: int, width: int) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Affine map from normalised grid coordinates to normalised coordinates of the source image.

        Both are (x, y) in [0, 1] from the top left corner: `x_image = a*x + b*y + c`. Identity for `stretch`.
        """
        if self.fit == "stretch":
            return (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
        top, left, rows, columns = self._crop(height, width)
        return (columns / width, 0.0, left / width), (0.0, rows / height, top / height)


class ResizedTwice(Preprocessing):
    """As `Preprocessing`, of frames that were stretched to another size and kept in 8 bits before.

    Attributes:
        via: (height, width) in pixels of the size in between.
    """

    via: tuple[int, int]

    def __call__(self, frames: UInt8[Tensor, "frame y x 3"]) -> Float[Tensor, "frame 3 height width"]:
        """As `Preprocessing`; both resizes are bicubic and anti-aliased."""
        height, width = self.via
        between = Preprocessing(height=height, width=width)(frames)
        return super().__call__((between * 255).round().byte().permute(0, 2, 3, 1))
