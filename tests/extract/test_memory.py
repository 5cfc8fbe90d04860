"""An extraction of many clips takes no more memory than one of a few."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from benchmarks.small_wan import Noise, NoiseClip
from extract.loop import extract
from extract.plan import Request, make_plan
from extract.progress import Progress
from store import FeatureStore
from tests.extract.toy_family import ToyFamily

CLIPS = 2000
SIZE = (64, 64)


class Fleeting(NoiseClip):
    """Pixels that are made when they are asked for."""

    def __init__(self, number: int) -> None:
        self.id = self.scene = f"noise{number}"
        self.split, self.n_frames, self.bank, self.number = "test", 8, tuple(range(8)), number

    def frames(self, indices: Sequence[int]) -> Any:
        return np.random.default_rng(self.number).integers(0, 256, (len(indices), *SIZE, 3), np.uint8)


class Many(Noise):
    image_size = SIZE

    def __init__(self) -> None:
        super().__init__(0)
        self._clips = [Fleeting(number) for number in range(CLIPS)]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_memory_does_not_grow_with_clips() -> None:
    """A clip has 0.1 MB of frames and 0.2 MB of features: of 2,000, none may stay."""
    plan = make_plan(ToyFamily("toy"), Many(), Request(sites=["latent", "blocks.0", "blocks.1"]))
    process = psutil.Process()
    used: list[int] = []

    class Counted(Progress):
        @contextmanager
        def bar(self, title: str, total: int) -> Iterator[Callable[[], None]]:
            yield lambda: used.append(process.memory_info().rss)

    extract(plan, torch.device("cpu"), Counted())
    assert len(used) == CLIPS
    assert len(FeatureStore.open(plan.path).rows()) == CLIPS
    grown = max(used[-100:]) - max(used[200:400])
    assert grown < 24e6, f"{grown / 1e6:.0f} MB more after {CLIPS} clips than after 400"
