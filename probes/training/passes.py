"""How many probes are trained at once: as many as the memory holds, in as few passes over the store as that takes."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from probes.config import ProbeSpec, TapSpec, TrainConfig
from probes.training.state import STATE
from store.files import write_atomic
from store.reading.ring import SLOTS

if TYPE_CHECKING:
    import torch

    from probes.heads.base import Head

log = logging.getLogger(__name__)

PASSES = "passes.json"
SHARE = 0.6
"""Of the free memory, which a run may take; the rest is for targets, the system and its page cache."""
_PARAMETER = 5 * 4
"""Bytes per parameter: weight, gradient, two moments of AdamW, and the weights that are kept."""


def free_memory(device: torch.device) -> int:
    """Bytes that a run may take on a device, as things are."""
    import torch

    if device.type == "cuda":
        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(SHARE * psutil.virtual_memory().available)


def tap_bytes(tap: TapSpec, cells: int, element: int, config: TrainConfig, reads: int = 0) -> int:
    """Bytes that reading one tap takes: the slots of the ring, standardised features, and features at pixels (float32).

    Args:
        tap: which.
        cells: of one frame.
        element: bytes of a stored number.
        config: clips, views and pixels of a batch.
        reads: how often features are read at pixels: once for all linear probes of one task with the same targets.
    """
    numbers = config.batch_clips * config.views * cells * tap.channels
    return numbers * (SLOTS * element + 2 * 4) + 4 * reads * config.batch_clips * config.pixels * tap.channels


def probe_bytes(head: Head, cells: int, config: TrainConfig) -> int:
    """Bytes that one probe takes: its parameters, and what its forward keeps for the backward."""
    parameters = sum(parameter.numel() for parameter in head.parameters())
    return parameters * _PARAMETER + 4 * config.batch_clips * head.kept_numbers(config.views, cells)


def plan_passes(
    probes: Sequence[ProbeSpec], taps: Mapping[str, int], sizes: Sequence[int], budget: int
) -> list[list[int]]:
    """Split probes into passes, each within `budget` bytes if one probe with its tap is.

    Probes of one tap stay together while they fit, since every pass that needs a tap reads it again; probes of one unit
    stay together always.

    Args:
        probes: all of them.
        taps: tap -> bytes that reading it takes.
        sizes: bytes of each probe.
        budget: bytes of one pass.

    Returns:
        Positions of the probes of each pass; every probe is in one.
    """
    by_tap: dict[str, dict[str, list[int]]] = {}
    for index, probe in enumerate(probes):
        by_tap.setdefault(probe.tap, {}).setdefault(probe.unit, []).append(index)
    passes: list[list[int]] = []
    current: list[int] = []
    used = 0
    for tap, units in by_tap.items():
        whole = taps[tap] + sum(sizes[index] for members in units.values() for index in members)
        if current and used + whole > budget:
            passes.append(current)
            current, used = [], 0
        used += taps[tap]
        for members in units.values():
            size = sum(sizes[index] for index in members)
            if current and used + size > budget:
                passes.append(current)
                current, used = [], taps[tap]
            current.extend(members)
            used += size
    return [*passes, current]


def settle(
    place: Path, ids: Sequence[str], plan: Callable[[], list[list[int]]], *, asked: bool, helper: bool
) -> list[list[int]]:
    """The passes of a run, which are settled when it begins.

    The memory that is free is not the same in every process, nor when a run goes on after a kill; and what a process
    shares with another, and a state with the probes that it is of, is a place in a pass.

    Args:
        place: where the run is made; what was settled lies in `passes.json`, and what was trained in `pass-1` …
        ids: of all probes.
        plan: plans passes for the memory as it is now.
        asked: whether a user says how much memory there is. Then what was settled for another is planned again, and
            what was trained in other passes is thrown away.
        helper: of another process that settles them.

    Returns:
        Positions of the probes of each pass.
    """
    path = place / PASSES
    settled = _settled(path, ids)
    if settled is not None and (helper or not asked):
        return settled
    passes = plan()
    if passes != settled:
        if any(place.rglob(STATE)):
            log.warning("%s: was trained in other passes over the store; training starts anew", place)
        for folder in place.glob("pass-*"):
            shutil.rmtree(folder)
        write_atomic(path, [json.dumps([[ids[index] for index in members] for members in passes]).encode()])
    return passes


def _settled(path: Path, ids: Sequence[str]) -> list[list[int]] | None:
    """What a file says, if it speaks of these probes."""
    places = {name: index for index, name in enumerate(ids)}
    try:
        passes = [[places[name] for name in members] for members in json.loads(path.read_bytes())]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return passes if sorted(index for members in passes for index in members) == list(range(len(ids))) else None
