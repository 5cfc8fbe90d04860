"""From grid cells to pixels: where a pixel lies in a grid, and bilinear values there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor


class GridMap(NamedTuple):
    """Which part of the image a grid spans: x_image = scale_x * x_grid + offset_x, and the same for y.

    Both are normalised coordinates in [0, 1] from the top left corner. The identity unless preprocessing cut the image.
    """

    scale_x: float = 1.0
    offset_x: float = 0.0
    scale_y: float = 1.0
    offset_y: float = 0.0

    def to_grid(self, xy: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Normalised grid coordinates of normalised image coordinates."""
        return (xy - xy.new_tensor([self.offset_x, self.offset_y])) / xy.new_tensor([self.scale_x, self.scale_y])


def sample_cells(
    cells: Float[Tensor, "*batch y x channel"], xy: Float[Tensor, "*batch sample 2"], grid_map: GridMap
) -> Float[Tensor, "*batch sample channel"]:
    """Bilinear values of a grid at normalised image positions `xy`.

    Cell (j, i) of a Y x X grid has its centre at ((i + 0.5) / X, (j + 0.5) / Y) (`align_corners=False`); beyond the
    outermost centres the border value holds.
    """
    batch, (height, width, channels) = cells.shape[:-3], cells.shape[-3:]
    images = cells.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
    points = 2 * grid_map.to_grid(xy).reshape(images.shape[0], 1, -1, 2) - 1
    values = F.grid_sample(images, points, mode="bilinear", padding_mode="border", align_corners=False)
    return values[:, :, 0].transpose(1, 2).reshape(*batch, -1, channels)


def read_cells(
    cells: Num[Tensor, "clip *view y x channel"], xy: Float[Tensor, "clip *view sample 2"], grid_map: GridMap
) -> Float[Tensor, "clip *view sample channel"]:
    """The same values in float32, without a gradient, from cells of any type. Only cells beside positions are read.

    Clip by clip: what is in work at a time then stays in the cache.
    """
    height, width, channels = cells.shape[-3:]
    at = grid_map.to_grid(xy.flatten(1, -2)) * xy.new_tensor([width, height]) - 0.5
    last = xy.new_tensor([width - 1, height - 1])
    at = torch.minimum(at.clamp(min=0), last)
    near = at.floor()
    share, low, high = at - near, near.long(), torch.minimum(near + 1, last).long()
    views = xy.shape[1:-2].numel()
    frame = torch.arange(views, device=xy.device).repeat_interleave(xy.shape[-2]) * (height * width)
    corners = [
        (frame + y[..., 1] * width + x[..., 0], wy[..., 1] * wx[..., 0])
        for y, wy in ((low, 1 - share), (high, share))
        for x, wx in ((low, 1 - share), (high, share))
    ]
    values = xy.new_empty(*xy.shape[:-1], channels, dtype=torch.float32)
    for clip, rows in enumerate(cells.reshape(len(cells), -1, channels)):
        out = values[clip].view(-1, channels).zero_()
        for index, weight in corners:
            out.addcmul_(rows[index[clip]].float(), weight[clip, :, None])
    return values


def interpolation_matrix(size: int, cells: int, scale: float = 1.0, offset: float = 0.0) -> Float[Tensor, "size cells"]:
    """Rows of linear interpolation weights along one axis: from `cells` grid values to `size` pixel centres.

    The same rule as `sample_cells`, which is separable because grids are never rotated against their images.
    """
    centre = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    position = (((centre - offset) / scale) * cells - 0.5).clamp(0, cells - 1)
    lower = position.floor().long().clamp(max=max(cells - 2, 0))
    weight = position - lower
    matrix = torch.zeros(size, cells, dtype=torch.float64)
    matrix.scatter_(1, lower[:, None], (1 - weight)[:, None])
    if cells > 1:
        matrix.scatter_(1, lower[:, None] + 1, weight[:, None])
    return matrix.float()


class Upsampler:
    """Bilinear resampling of grids to (height, width) pixels of the whole image, one frame at a time."""

    def __init__(self, grid: tuple[int, int], size: tuple[int, int], grid_map: GridMap, device: torch.device) -> None:
        self.rows = interpolation_matrix(size[0], grid[0], grid_map.scale_y, grid_map.offset_y).to(device)
        self.columns = interpolation_matrix(size[1], grid[1], grid_map.scale_x, grid_map.offset_x).to(device)

    def __call__(self, cells: Float[Tensor, "y x channel"]) -> Float[Tensor, "height width channel"]:
        """Values at pixel centres. Two small matrix products; the long axis last, so that channels stay contiguous."""
        wide = self.columns @ cells
        return (self.rows @ wide.reshape(len(wide), -1)).reshape(len(self.rows), *wide.shape[1:])


def pixel_centres(height: int, width: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a regular subset of an image's pixels, at most `longest` along each axis."""
    step = -(-max(height, width) // longest)
    return np.arange(step // 2, height, step), np.arange(step // 2, width, step)
