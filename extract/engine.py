"""One pass over a clip serves every tap: encoded once, one forward per noise level, stopped after the deepest tap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import xxhash

from extract import profile
from extract.compiled import compile_blocks
from extract.errors import ExtractError
from extract.landing import Landing, pool
from extract.taps import listen
from extract.transfer import transfer

if TYPE_CHECKING:
    from torch import Tensor

    from extract.backbones.base import Backbone, NoiseLevel, Offload, State
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


def load_backbone(plan: Plan, device: torch.device, offload: Offload) -> Backbone:
    """The plan's backbone on its device, compiled if that is asked for. Raises `WeightsError` if that fails."""
    dtype, family = DTYPES[plan.request.dtype], plan.family
    backbone = family.load(device, dtype) if offload == "none" else family.load_offloaded(device, dtype, offload)
    if family.options.compiled:
        compile_blocks(backbone.module, family.sites())
    return backbone


def clip_features(backbone: Backbone, plan: Plan, clip: Clip, frames: Tensor, taps: Sequence[Tap]) -> Landing:
    """Features of one clip; `Landing.arrive` gives them: tap name -> (bank frame, y, x, channel).

    The noise is seeded by the recipe's seed, the clip's id and the number of the draw alone: neither order, batch nor
    rank changes a number. Features of several draws are averaged; the clip is encoded once for all of them.
    """
    (landing,) = batch_features(backbone, plan, [clip], [frames], taps)
    return landing


@torch.inference_mode()
def batch_features(
    backbone: Backbone, plan: Plan, clips: Sequence[Clip], frames: Sequence[Tensor], taps: Sequence[Tap]
) -> list[Landing]:
    """Features of several clips, each as `clip_features` gives them, from one forward for all. See `Family.batches`."""
    copies = transfer(frames[0].device)
    landings = [Landing(plan, clip, copies) for clip in clips]
    noise = plan.recipe.noise
    seed, draws = (noise.seed, noise.draws) if noise else (0, 1)
    generators = [[_generator(seed, clip.id, draw) for clip in clips] for draw in range(draws)]
    states = [
        _encode(backbone, plan, landing, given, generator, taps)
        for landing, given, generator in zip(landings, frames, generators[0], strict=True)
    ]
    if levels := list(_by_level(taps)):
        drawn = [states]
        drawn += [list(map(backbone.redraw, states, of_draw)) for of_draw in generators[1:]]
        joined = [each[0] if len(each) == 1 else backbone.join(each) for each in drawn]
        for at_level in levels:
            for parts in zip(*map(backbone.parts, joined), strict=True):
                _at_level(backbone, plan, parts, at_level, landings)
    for landing in landings:
        landing.depart()
    return landings


def _encode(
    backbone: Backbone,
    plan: Plan,
    landing: Landing,
    frames: Tensor,
    generator: torch.Generator,
    taps: Sequence[Tap],
) -> State:
    """What all noise levels share, with the taps that see no noise."""
    clip = landing.clip
    _, positions = plan.family.window(clip.n_frames, clip.bank)
    here = [tap for tap in taps if tap.site.stage == "encode"]
    with (
        profile.device_span(profile.ENCODE, clip.id),
        listen(backbone.module, [tap.site for tap in here], stop=False) as heard,
    ):
        state = backbone.encode(frames, positions, generator)
    with profile.device_span(profile.LAND, clip.id):
        for tap in here:
            landing.take(tap, _pooled(backbone, plan, tap, heard.pop(tap.site.name), state), range(landing.frames))
    return state


def _at_level(
    backbone: Backbone, plan: Plan, draws: Sequence[State], taps: Sequence[Tap], landings: Sequence[Landing]
) -> None:
    """One forward per draw of a part, stopped after the deepest tap; the mean over draws is what lands."""
    level, label = taps[0].level, ",".join(landing.clip.id for landing in landings)
    sums: dict[str, Tensor] = {}
    for part in draws:
        with (
            profile.device_span(_called(level), label),
            listen(backbone.module, [tap.site for tap in taps], stop=True) as heard,
        ):
            backbone.forward(part, level)
        with profile.device_span(profile.LAND, label):
            for tap in taps:
                found = _pooled(backbone, plan, tap, heard.pop(tap.site.name), part)
                sums[tap.name] = sums[tap.name] + found if tap.name in sums else found
                if part is draws[-1]:
                    # By a tensor: by a number, GPUs multiply with its reciprocal.
                    mean = found if len(draws) == 1 else sums[tap.name] / found.new_full((), len(draws))
                    _deal(tap, mean, part.rows, landings)
                    del sums[tap.name]


def _deal(tap: Tap, found: Tensor, rows: Sequence[int] | None, landings: Sequence[Landing]) -> None:
    """To every clip of a batch its rows, which are numbered through: bank after bank."""
    numbers = range(len(found)) if rows is None else rows
    first = 0
    for landing in landings:
        own = [index for index, row in enumerate(numbers) if first <= row < first + landing.frames]
        if own:
            given = found if len(own) == len(found) else found[own[0] : own[-1] + 1]
            landing.take(tap, given, [numbers[index] - first for index in own])
        first += landing.frames


def _called(level: NoiseLevel | None) -> str:
    return "forward" if level is None else f"{profile.DENOISE} {level.name}"


def _generator(seed: int, clip_id: str, draw: int) -> torch.Generator:
    return torch.Generator().manual_seed(noise_seed(seed, clip_id, draw))


def noise_seed(seed: int, clip_id: str, draw: int = 0) -> int:
    """Seed of a clip's noise: 63 bits of xxh3 over recipe seed, clip id and, from the second on, number of the draw."""
    text = f"{seed}:{clip_id}" + (f"\0{draw}" if draw else "")
    return xxhash.xxh3_64_intdigest(text.encode()) >> 1


def _pooled(backbone: Backbone, plan: Plan, tap: Tap, output: Any, state: State) -> Tensor:
    """What a site's module returned, as the grid that is kept: (bank frame, y, x, channel), float32."""
    grid = backbone.grid(tap.site, output, state)
    stated = (*tap.site.grid, tap.site.channels)
    if tuple(grid.shape[1:]) != stated:
        raise ExtractError(
            f"tap {tap.name}: the network gave a grid of {tuple(grid.shape[1:])}, "
            f"the family {plan.family.name!r} states {stated}. "
            "The checkpoint is not of the architecture its config describes, or the adapter is wrong."
        )
    return pool(grid, plan.grid(tap.site))


def _by_level(taps: Sequence[Tap]) -> Iterator[list[Tap]]:
    """Taps of the forward stage, one list per noise level."""
    levels: dict[str | None, list[Tap]] = {}
    for tap in taps:
        if tap.site.stage == "forward":
            levels.setdefault(tap.level.name if tap.level else None, []).append(tap)
    yield from levels.values()
