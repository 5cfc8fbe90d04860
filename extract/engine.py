"""One pass over a clip serves every tap: encoded once, one forward per noise level, stopped after the deepest tap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from extract.errors import ExtractError, NonFiniteFeatureError
from extract.taps import listen

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from extract.backbones.base import Backbone, State
    from extract.datasets.base import Clip
    from extract.plan import Plan, Tap

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@contextmanager
def exact_float32() -> Iterator[None]:
    """Keep NVIDIA GPUs from rounding the inputs of float32 convolutions to ten bits, which they do by default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@torch.inference_mode()
def clip_features(
    backbone: Backbone, plan: Plan, clip: Clip, frames: Tensor, taps: Sequence[Tap]
) -> dict[str, NDArray[Any]]:
    """Features of one clip: tap name -> float32 (bank frame, y, x, channel).

    The noise is seeded by the recipe's seed, the clip's id and the number of the draw alone: neither order, batch nor
    rank changes a number. Features of several draws are averaged; the clip is encoded once for all of them.
    """
    _, positions = plan.family.window(clip.n_frames, clip.bank)
    noise = plan.recipe.noise
    generators = [_generator(noise.seed if noise else 0, clip.id, draw) for draw in range(noise.draws if noise else 1)]
    features: dict[str, NDArray[Any]] = {}
    with listen(backbone.module, [tap.site for tap in taps if tap.site.stage == "encode"], stop=False) as heard:
        state = backbone.encode(frames, positions, generators[0])
    for tap in taps:
        if tap.site.stage == "encode":
            features[tap.name] = _to_array(plan, tap, backbone.grid(tap.site, heard.pop(tap.site.name), state))
    levels = list(_by_level(taps))
    for draw, generator in enumerate(generators if levels else ()):
        drawn = backbone.redraw(state, generator) if draw else state
        for at_level in levels:
            for name, grids in _at_level(backbone, plan, drawn, at_level, len(clip.bank)).items():
                features[name] = features[name] + grids if draw else grids
    if len(generators) > 1:
        features |= {tap.name: features[tap.name] / len(generators) for at_level in levels for tap in at_level}
    return features


def _at_level(
    backbone: Backbone, plan: Plan, state: State, taps: Sequence[Tap], length: int
) -> dict[str, NDArray[Any]]:
    """One forward per part of the clip, stopped after the deepest tap."""
    grids: dict[str, NDArray[Any]] = {}
    for part in backbone.parts(state):
        with listen(backbone.module, [tap.site for tap in taps], stop=True) as heard:
            backbone.forward(part, taps[0].level)
        for tap in taps:
            found = _to_array(plan, tap, backbone.grid(tap.site, heard.pop(tap.site.name), part))
            if part.rows is None or list(part.rows) == list(range(length)):
                grids[tap.name] = found
            else:
                # A row that no part fills stays NaN, which no store takes.
                whole = grids.setdefault(tap.name, np.full((length, *found.shape[1:]), np.nan, found.dtype))
                whole[list(part.rows)] = found
    return grids


def _generator(seed: int, clip_id: str, draw: int) -> torch.Generator:
    return torch.Generator().manual_seed(noise_seed(seed, clip_id, draw))


def noise_seed(seed: int, clip_id: str, draw: int = 0) -> int:
    """Seed of a clip's noise: 63 bits of xxh3 over recipe seed, clip id and, from the second on, number of the draw."""
    text = f"{seed}:{clip_id}" + (f"\0{draw}" if draw else "")
    return xxhash.xxh3_64_intdigest(text.encode()) >> 1


def pool(
    grid: Float[Tensor, "frame y x channel"], size: tuple[int, int]
) -> Float[Tensor, "frame rows columns channel"]:
    """Average-pool a grid to `size` (rows, columns), in float32."""
    if tuple(grid.shape[1:3]) == size:
        return grid.float()
    moved = grid.float().permute(0, 3, 1, 2)
    return torch.nn.functional.adaptive_avg_pool2d(moved, size).permute(0, 2, 3, 1)


def _to_array(plan: Plan, tap: Tap, grid: Tensor) -> NDArray[Any]:
    stated = (*tap.site.grid, tap.site.channels)
    if tuple(grid.shape[1:]) != stated:
        raise ExtractError(
            f"tap {tap.name}: the network gave a grid of {tuple(grid.shape[1:])}, "
            f"the family {plan.family.name!r} states {stated}. "
            "The checkpoint is not of the architecture its config describes, or the adapter is wrong."
        )
    if not torch.isfinite(grid).all():
        bad = int((~torch.isfinite(grid)).sum())
        raise NonFiniteFeatureError(
            f"tap {tap.name}: {bad} of {grid.numel()} values are NaN or infinite in {plan.request.dtype}. "
            f"Nothing of this clip was written. {_remedy(plan)}"
        )
    array: NDArray[Any] = pool(grid, plan.grid(tap.site)).cpu().numpy()
    return array


def _remedy(plan: Plan) -> str:
    if plan.request.dtype == "float32":
        return "float32 overflows nowhere in a sound network: look at the weights, and fetch them again."
    return "Compute in a wider type: --dtype float32 (or bfloat16)."


def _by_level(taps: Sequence[Tap]) -> Iterator[list[Tap]]:
    """Taps of the forward stage, one list per noise level."""
    levels: dict[str | None, list[Tap]] = {}
    for tap in taps:
        if tap.site.stage == "forward":
            levels.setdefault(tap.level.name if tap.level else None, []).append(tap)
    yield from levels.values()
