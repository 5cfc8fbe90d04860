"""The controls: raw pixels, and position alone."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from extract.backbones.base import Family, Options
from extract.backbones.pixels import Pixels
from extract.backbones.position import Position
from extract.errors import ExtractError

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


def extract(family: Family, frames: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The grid of the one site, read with a hook."""
    (site,) = family.sites()
    backbone = family.load(CPU, dtype)
    state = backbone.encode(frames, range(len(frames)), torch.Generator())
    grids = []
    module = backbone.module.get_submodule(site.module)
    hook = module.register_forward_hook(lambda _, __, output: grids.append(backbone.grid(site, output, state)))
    backbone.forward(state, None)
    hook.remove()
    (grid,) = grids
    assert grid.shape == (len(frames), *site.grid, site.channels)
    return grid


def noise(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", [Pixels("pixels"), Position("position")])
def test_facts(family: Family) -> None:
    assert family.kind == "control"
    assert family.sites()[0].grid == (16, 16)
    assert family.weights().id == family.model
    assert len(family.weights().digest) == 32
    for options in (Options(checkpoint="x"), Options(revision="x"), Options(size=(100, 128))):
        with pytest.raises(ExtractError):
            type(family)(family.model, options)


def test_controls_have_different_digests() -> None:
    assert Pixels("pixels").weights().digest != Position("position").weights().digest


def test_facts_need_no_torch() -> None:
    code = (
        "import sys; from extract.backbones.pixels import Pixels; from extract.backbones.position import Position; "
        "Pixels('pixels').weights(); Position('position').sites(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


# --- pixels ------------------------------------------------------------------------------------


def test_pixels_of_a_picture_that_needs_no_resizing() -> None:
    """Each channel of each cell, looked up by hand in the frame."""
    frames = noise(2, 128, 128, 3)
    grid = extract(Pixels("pixels"), frames)
    rng = np.random.default_rng(0)
    for frame, row, column, colour, dy, dx in rng.integers(0, [2, 16, 16, 3, 8, 8], (200, 6)).tolist():
        value = frames[frame, 8 * row + dy, 8 * column + dx, colour].item()
        assert grid[frame, row, column, 64 * colour + 8 * dy + dx].item() == pytest.approx(value / 127.5 - 1, abs=1e-6)


def test_pixels_lose_no_pixel() -> None:
    frames = noise(1, 128, 128, 3)
    grid = extract(Pixels("pixels"), frames)
    np.testing.assert_allclose(np.sort(grid.numpy().ravel()), np.sort(frames.numpy().ravel() / 127.5 - 1), atol=1e-6)


def test_pixels_average_when_shrinking() -> None:
    """A checkerboard of one-pixel fields turns grey, where picking pixels would keep black and white."""
    board = ((torch.arange(256)[:, None] + torch.arange(256)) % 2 * 255).to(torch.uint8)
    grid = extract(Pixels("pixels"), board[None, ..., None].expand(1, 256, 256, 3))
    inner = grid[:, 1:-1, 1:-1]
    assert inner.abs().max() < 0.01


def test_pixels_never_overshoot() -> None:
    """A sharper kernel than the triangle would invent values beyond those of an edge."""
    frames = torch.full((1, 256, 256, 3), 100, dtype=torch.uint8)
    frames[:, :, 101:] = 150
    grid = extract(Pixels("pixels"), frames)
    assert grid.min() > 100 / 127.5 - 1 - 1e-5
    assert grid.max() < 150 / 127.5 - 1 + 1e-5


def test_pixels_of_another_size() -> None:
    family = Pixels("pixels", Options(size=(64, 96)))
    assert family.sites()[0].grid == (8, 12)
    assert extract(family, noise(3, 50, 70, 3)).shape == (3, 8, 12, 192)
    assert extract(family, noise(1, 64, 96, 3), torch.bfloat16).dtype == torch.bfloat16


# --- position ----------------------------------------------------------------------------------


def test_position_by_hand() -> None:
    """Three frames on a 2 x 4 grid; coordinates t = 0, 1/2, 1; y = 1/4, 3/4; x = 1/8 … 7/8."""
    grid = extract(Position("position", Options(size=(32, 64))), noise(3, 20, 20, 3))
    for frame, t in enumerate((0.0, 0.5, 1.0)):
        for row, y in enumerate((0.25, 0.75)):
            for column, x in enumerate((0.125, 0.375, 0.625, 0.875)):
                expected = [
                    wave(math.pi * 2**k * u) for u in (t, y, x) for wave in (math.sin, math.cos) for k in range(6)
                ]
                np.testing.assert_allclose(grid[frame, row, column], expected, atol=2e-5)


def test_position_does_not_look() -> None:
    family = Position("position")
    assert torch.equal(
        extract(family, noise(4, 32, 32, 3)), extract(family, torch.zeros(4, 99, 7, 3, dtype=torch.uint8))
    )


def test_every_place_and_time_differs() -> None:
    cells = extract(Position("position"), noise(20, 8, 8, 3)).flatten(0, 2)
    assert len(torch.unique((cells * 1e3).round(), dim=0)) == 20 * 16 * 16


def test_a_single_frame_is_at_time_zero() -> None:
    grid = extract(Position("position"), noise(1, 8, 8, 3))
    assert torch.equal(grid[..., :6], torch.zeros(1, 16, 16, 6))
    assert torch.equal(grid[..., 6:12], torch.ones(1, 16, 16, 6))


def test_position_in_bfloat16_is_rounded_once() -> None:
    family, frames = Position("position"), noise(5, 8, 8, 3)
    assert torch.equal(extract(family, frames, torch.bfloat16), extract(family, frames).to(torch.bfloat16))
