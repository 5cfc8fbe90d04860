"""Random numbers that depend on what they are for, never on the order in which they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_of(*key: int | str) -> int:
    """Seed in [0, 2^63) from a key such as `(seed, epoch, row)`: SHA-256 of its text, so no two uses share a stream."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*key: int | str) -> np.random.Generator:
    """NumPy generator for a key."""
    return np.random.default_rng(seed_of(*key))


@contextmanager
def torch_seed(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Within, torch's global generators of the CPU and of `device` are those of a seed; afterwards as they were."""
    import torch

    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        yield
