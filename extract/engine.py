"""The loop: one pass over a clip serves every tap, and writing goes on while the next clip is computed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from extract.errors import ExtractError, NonFiniteFeatureError
from extract.outcome import Outcome
from extract.progress import Progress
from extract.provenance import provenance
from extract.taps import listen
from store import ArrayValueError, StoreWriter, create, finalize_if_stale
from store.head import RECIPE

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from extract.backbones.base import Backbone, Offload, State
    from extract.datasets.base import Clip
    from extract.plan import Plan, Tap

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def extract(plan: Plan, device: torch.device, progress: Progress, offload: Offload = "none") -> Outcome:
    """Run a plan: every pending clip once through the backbone.

    A clip whose frames cannot be read, or whose features are not finite, is listed in the outcome and the rest goes on.
    Any other error ends the run; what was committed stays valid and the next run goes on from there.
    """
    there = (plan.path / RECIPE).exists()
    if there:
        _create(plan, device)  # says at once if it is another recipe's
    pending = plan.pending()
    outcome = Outcome(skipped=[row for row in plan.rows if row not in pending])
    if not pending:
        finalize_if_stale(plan.path)
        return outcome
    log.info("loading %s", plan.family.model)
    dtype = DTYPES[plan.request.dtype]
    family = plan.family
    backbone = family.load(device, dtype) if offload == "none" else family.load_offloaded(device, dtype, offload)
    if not there:
        _create(plan, device)  # not before the weights are known to be good: an empty store would hold the name
    with (
        exact_float32(),
        StoreWriter(plan.path) as writer,
        progress.bar(f"extract {plan.path.parent.name}", len(pending)) as advance,
    ):
        for row, frames in _decoded(plan, list(pending), outcome, advance):
            clip = plan.clips[row]
            try:
                writer.put(row, clip_features(backbone, plan, clip, frames.to(device), pending[row]))
                outcome.done.append(row)
            except (ExtractError, ArrayValueError) as error:
                outcome.failed[clip.id] = str(error)
                log.error("clip %s failed: %s", clip.id, error)
            advance()
        writer.flush()
        outcome.bytes = writer.bytes_written
    finalize_if_stale(plan.path)
    return outcome


@contextmanager
def exact_float32() -> Iterator[None]:
    """Keep NVIDIA GPUs from rounding the inputs of float32 convolutions to ten bits, which they do by default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _create(plan: Plan, device: torch.device) -> None:
    create(
        plan.path,
        plan.recipe,
        plan.table,
        plan.specs(),
        attrs={"model": plan.family.model, "kind": plan.family.kind, "fingerprint": plan.recipe.fingerprint},
        coordinates=plan.coordinates(),
        provenance=provenance(device),
    )


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


def _decoded(
    plan: Plan, rows: Sequence[int], outcome: Outcome, advance: Callable[[], None]
) -> Iterator[tuple[int, Tensor]]:
    """Frames of every row, decoded one clip ahead in a thread. Clips that cannot be read go to `outcome.failed`."""

    def decode(row: int) -> Tensor:
        clip = plan.clips[row]
        indices, _ = plan.family.window(clip.n_frames, clip.bank)
        return torch.from_numpy(clip.frames(indices))

    with ThreadPoolExecutor(1, thread_name_prefix="decode") as thread:
        ahead = thread.submit(decode, rows[0])
        for position, row in enumerate(rows):
            current = ahead
            if position + 1 < len(rows):
                ahead = thread.submit(decode, rows[position + 1])
            try:
                frames = current.result()
            except ExtractError as error:
                outcome.failed[plan.clips[row].id] = str(error)
                log.error("clip %s failed: %s", plan.clips[row].id, error)
                advance()
                continue
            yield row, frames
