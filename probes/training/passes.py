"""How many probes are trained at once: as many as the memory holds, in as few passes over the store as that takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from probes.config import ProbeSpec, TapSpec, TrainConfig
from store.reading.ring import SLOTS

if TYPE_CHECKING:
    import torch

    from probes.heads.base import Head

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
