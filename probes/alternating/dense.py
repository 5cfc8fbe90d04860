"""The dense read-out: four stages of the trunk become one map at image resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from probes.alternating.trunk import READ_STAGES, TrunkOutput

CELL = 14
"""Pixels per cell and side if no size is asked for: the patch size of VGGT."""

STAGE_CHANNELS = (256, 512, 1024, 1024)
FUSION, LAST = 256, 32
POSITION_RATIO, POSITION_BASE = 0.1, 100.0
CHUNK = 8
"""Views that go through the convolutions at once."""


def stages_of(depth: int) -> tuple[int, int, int, int]:
    """Which four stages are read: the last one of each quarter of the depth, where four quarters can be told apart.

    0, 1, 2, 3 of 4; 0, 0, 1, 1 of 2; 1, 3, 5, 7 of 8. The last stage is always read. A trunk of depth 0 gives four
    equal stages, each read once.
    """
    count = depth or READ_STAGES
    first, second, third, fourth = (((quarter + 1) * count - 1) // READ_STAGES for quarter in range(READ_STAGES))
    return first, second, third, fourth


def exponential(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """exp x: a depth."""
    return values.exp()


def inverse_log(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """sign(x) (exp |x| - 1): a coordinate of a point, linear near 0 and far-reaching beyond."""
    return values.sign() * torch.expm1(values.abs())


def above_one(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """1 + exp x: a confidence, as in DUSt3R (arXiv 2312.14132), section 3.3."""
    return 1 + values.exp()


def position_map(
    channels: int, rows: int, columns: int, aspect: float, device: torch.device | None = None
) -> Float[Tensor, "channel rows columns"]:
    """Where each place of a map is, in waves: half of the channels tell the column, half the row.

    Coordinates run from the centre, in units of half the image's diagonal, and so are the same at every resolution.
    Each is written as sin(w c), then cos(w c) with w = 100^(-i / n), i = 0 … n - 1, n = channels / 4 (Vaswani et al.
    2017, section 3.5).

    Args:
        channels: a multiple of 4.
        rows, columns: size of the map.
        aspect: width of the image over its height.
        device: of the result.
    """
    count = channels // 4
    waves = POSITION_BASE ** (-torch.arange(count, device=device, dtype=torch.float32) / count)
    width = aspect / (1 + aspect**2) ** 0.5
    sides = []
    for size, reach in ((columns, width), (rows, width / aspect)):
        centres = (2 * torch.arange(size, device=device) + 1) / size - 1
        angles = waves[:, None] * (reach * centres)
        sides.append(torch.cat([angles.sin(), angles.cos()]))
    column, row = sides
    shape = (-1, rows, columns)
    return torch.cat([column[:, None, :].expand(shape), row[:, :, None].expand(shape)])


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions behind rectifiers, added to the rectified input.

    The residual convolution unit of RefineNet (Lin et al. 2017, arXiv 1611.06612, section 3.2) as VGGT's weights know
    it: there the rectifier works in place, so that what skips the convolutions is rectified too.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, maps: Float[Tensor, "view channel y x"]) -> Float[Tensor, "view channel y x"]:
        """The same size."""
        rectified = maps.relu()
        out: Tensor = rectified + self.second(self.first(rectified).relu())
        return out


class Fusion(nn.Module):
    """One step up the pyramid (DPT, arXiv 2103.13413, section 3, "Fusion"): add a finer map, refine, enlarge.

    Args:
        channels: of both maps.
        finer: whether a finer map joins; not so at the coarsest.
    """

    def __init__(self, channels: int, *, finer: bool) -> None:
        super().__init__()
        self.enter = ResidualUnit(channels) if finer else None
        self.refine = ResidualUnit(channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(
        self,
        coarse: Float[Tensor, "view channel y x"],
        fine: Float[Tensor, "view channel y x"] | None,
        size: Sequence[int],
    ) -> Float[Tensor, "view channel rows columns"]:
        """The fused map at `size` (rows, columns)."""
        if self.enter is not None:
            coarse = coarse + self.enter(fine)
        out: Tensor = self.mix(enlarge(self.refine(coarse), size))
        return out


def enlarge(maps: Float[Tensor, "view channel y x"], size: Sequence[int]) -> Float[Tensor, "view channel rows columns"]:
    """Bilinear, with the centres of the corners kept in place."""
    return F.interpolate(maps, (size[0], size[1]), mode="bilinear", align_corners=True)


class DenseHead(nn.Module):
    """The dense prediction head of DPT (Ranftl et al. 2021, arXiv 2103.13413, section 3) in the sizes of VGGT.

    Four stages pass one LayerNorm and a 1x1 convolution each, are told where they lie, and are brought to 4, 2, 1 and
    1/2 times the grid. From the coarsest to the finest they are fused, and the result is brought to the asked size.

    Args:
        channels: of the stages, twice the trunk's width.
        depth: of the trunk, which says what stages are read: see `stages_of`.
        outputs: numbers per pixel.
        stage_channels: of the four maps before fusion; multiples of 4.
        fusion: channels of the fused map; a multiple of 8.
        chunk: views that go through at once.
        checkpointing: keep nothing of a chunk but its tokens for the backward pass, and compute it again there. Else
            4 views of 294 x 518 pixels hold 1 GiB in float32.
    """

    def __init__(
        self,
        channels: int,
        depth: int,
        outputs: int,
        stage_channels: tuple[int, int, int, int] = STAGE_CHANNELS,
        fusion: int = FUSION,
        chunk: int = CHUNK,
        *,
        checkpointing: bool = True,
    ) -> None:
        super().__init__()
        self.stages = stages_of(depth)
        self.chunk = chunk
        self.checkpointing = checkpointing
        self.norm = nn.LayerNorm(channels)
        self.projects = nn.ModuleList(nn.Conv2d(channels, own, 1) for own in stage_channels)
        finest, finer, _, coarsest = stage_channels
        self.resizes = nn.ModuleList(
            [
                nn.ConvTranspose2d(finest, finest, 4, 4),
                nn.ConvTranspose2d(finer, finer, 2, 2),
                nn.Identity(),
                nn.Conv2d(coarsest, coarsest, 3, 2, 1),
            ]
        )
        self.enters = nn.ModuleList(nn.Conv2d(own, fusion, 3, padding=1, bias=False) for own in stage_channels)
        self.fusions = nn.ModuleList(Fusion(fusion, finer=stage < READ_STAGES - 1) for stage in range(READ_STAGES))
        self.halve = nn.Conv2d(fusion, fusion // 2, 3, padding=1)
        self.last = nn.Sequential(nn.Conv2d(fusion // 2, LAST, 3, padding=1), nn.ReLU(), nn.Conv2d(LAST, outputs, 1))

    def forward(
        self, trunk: TrunkOutput, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "clip view rows columns out"]:
        """Raw outputs at `size` (rows, columns), by default 14 per cell. Give them meaning with the functions above."""
        rows, columns = size or (CELL * trunk.grid[0], CELL * trunk.grid[1])
        maps = [trunk.maps(stage).flatten(0, 1) for stage in self.stages]
        chunks = zip(*(torch.split(own, self.chunk) for own in maps), strict=True)
        outputs = torch.cat([self._run(chunk, rows, columns) for chunk in chunks])
        return torch.unflatten(outputs.movedim(1, -1), 0, trunk.cells.shape[:2])

    def _run(self, maps: Sequence[Tensor], rows: int, columns: int) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            out: Tensor = checkpoint(self._predict, maps, rows, columns, use_reentrant=False)
            return out
        return self._predict(maps, rows, columns)

    def _predict(
        self, maps: Sequence[Float[Tensor, "view y x channel"]], rows: int, columns: int
    ) -> Float[Tensor, "view out rows columns"]:
        aspect = columns / rows
        pyramid = [self._level(stage, own, aspect) for stage, own in enumerate(maps)]
        y, x = pyramid[0].shape[-2:]
        sizes = [(2 * y, 2 * x), *(level.shape[-2:] for level in pyramid[:-1])]
        fused = self.fusions[-1](pyramid[-1], None, sizes[-1])
        for stage in reversed(range(READ_STAGES - 1)):
            fused = self.fusions[stage](fused, pyramid[stage], sizes[stage])
        out: Tensor = self.last(_placed(enlarge(self.halve(fused), (rows, columns)), aspect))
        return out

    def _level(self, stage: int, maps: Float[Tensor, "view y x channel"], aspect: float) -> Tensor:
        projected = self.projects[stage](self.norm(maps).movedim(-1, 1))
        level: Tensor = self.enters[stage](self.resizes[stage](_placed(projected, aspect)))
        return level


def _placed(maps: Float[Tensor, "view channel y x"], aspect: float) -> Float[Tensor, "view channel y x"]:
    """Add a tenth of the map of positions."""
    _, channels, rows, columns = maps.shape
    return maps + POSITION_RATIO * position_map(channels, rows, columns, aspect, maps.device).to(maps.dtype)
