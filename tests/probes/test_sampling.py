"""Reading grids at pixels: against a literal rule, against torch, and with a grid that spans part of the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from probes.sampling import GridMap, Upsampler, pixel_centres, read_cells, sample_cells

CPU = torch.device("cpu")
HALF = GridMap(0.5, 0.25, 1.0, 0.0)
"""A grid that spans the middle half of the image's width."""


def literal(cells: np.ndarray, x: float, y: float) -> np.ndarray:
    """Bilinear value at normalised grid coordinates; cell (j, i) has its centre at ((i + .5) / X, (j + .5) / Y)."""
    height, width, _ = cells.shape
    u, v = np.clip(x * width - 0.5, 0, width - 1), np.clip(y * height - 0.5, 0, height - 1)
    i, j = min(int(u), width - 2), min(int(v), height - 2)
    a, b = u - i, v - j
    top = (1 - a) * cells[j, i] + a * cells[j, i + 1]
    bottom = (1 - a) * cells[j + 1, i] + a * cells[j + 1, i + 1]
    return (1 - b) * top + b * bottom


@pytest.mark.parametrize("grid_map", [GridMap(), HALF])
def test_samples_are_bilinear(grid_map: GridMap) -> None:
    rng = np.random.default_rng(0)
    cells, xy = rng.normal(size=(5, 6, 3)).astype(np.float32), rng.random((20, 2)).astype(np.float32)
    got = sample_cells(torch.from_numpy(cells), torch.from_numpy(xy), grid_map)
    expected = [literal(cells, (x - grid_map.offset_x) / grid_map.scale_x, y) for x, y in xy.astype(float)]
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-5)


def test_batch_axes_are_kept_apart() -> None:
    cells, xy = torch.randn(2, 3, 4, 5, 2), torch.rand(2, 3, 7, 2)
    got = sample_cells(cells, xy, GridMap())
    assert got.shape == (2, 3, 7, 2)
    torch.testing.assert_close(got[1, 2], sample_cells(cells[1, 2], xy[1, 2], GridMap()))


@pytest.mark.parametrize("grid_map", [GridMap(), HALF])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int8])
def test_reading_a_few_cells_is_reading_the_grid(grid_map: GridMap, dtype: torch.dtype) -> None:
    cells = (20 * torch.randn(2, 3, 4, 5, 6)).to(dtype)
    xy = torch.cat([torch.rand(2, 3, 50, 2), torch.tensor([0.0, 1.0]).expand(2, 3, 1, 2)], 2)
    got = read_cells(cells, xy, grid_map)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, sample_cells(cells.float(), xy, grid_map), rtol=1e-5, atol=1e-4)


def test_a_grid_of_one_cell_says_the_same_everywhere() -> None:
    cells = torch.randn(1, 1, 1, 1, 3)
    torch.testing.assert_close(read_cells(cells, torch.rand(1, 1, 9, 2), GridMap()), cells[0].expand(1, 1, 9, 3))


def test_upsampling_is_that_of_torch() -> None:
    cells = torch.randn(6, 5, 3)
    expected = F.interpolate(cells.permute(2, 0, 1)[None], (24, 31), mode="bilinear", align_corners=False)
    torch.testing.assert_close(Upsampler((6, 5), (24, 31), GridMap(), CPU)(cells), expected[0].permute(1, 2, 0))


@pytest.mark.parametrize("grid_map", [GridMap(), HALF])
@pytest.mark.parametrize("grid", [(4, 5), (1, 1)])
def test_upsampling_and_sampling_at_pixel_centres_agree(grid: tuple[int, int], grid_map: GridMap) -> None:
    cells = torch.randn(*grid, 2)
    rows, columns = torch.meshgrid(torch.arange(9) + 0.5, torch.arange(12) + 0.5, indexing="ij")
    xy = torch.stack([columns / 12, rows / 9], -1).reshape(-1, 2)
    sampled = sample_cells(cells, xy, grid_map).reshape(9, 12, 2)
    torch.testing.assert_close(Upsampler(grid, (9, 12), grid_map, CPU)(cells), sampled)


def test_regular_pixels_stay_within_the_limit() -> None:
    rows, columns = pixel_centres(120, 256, 64)
    assert len(rows) <= 64
    assert len(columns) == 64
    assert rows[0] == columns[0] == 2
    assert columns[-1] == 254
