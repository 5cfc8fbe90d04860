"""A toy backbone that does what it is told by the environment: takes its time, fails on a clip, or ends its process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import xxhash
from torch import Tensor

from extract.backbones.base import Checkpoint
from tests.extract.toy_family import ToyBackbone, ToyFamily

ORDERS = "TEST_FRAIL_ORDERS"
"""File: {"sleep": seconds per clip, "kill": [digest of frames], "raise": [...], "log": file that gets a line each}."""


def digest(frames: Any) -> str:
    """Of the frames of a clip."""
    return xxhash.xxh3_128_hexdigest(torch.as_tensor(frames).numpy().tobytes())


class FrailFamily(ToyFamily):
    name = "frail"
    models: ClassVar = {"frail": Checkpoint("toy")}

    def load(self, device: torch.device, dtype: torch.dtype) -> FrailBackbone:
        return FrailBackbone(self, 1.0)


class FrailBackbone(ToyBackbone):
    def encode(self, frames: Tensor, bank: Sequence[int], generator: torch.Generator) -> Any:
        orders = json.loads(Path(os.environ[ORDERS]).read_text()) if ORDERS in os.environ else {}
        if "log" in orders:
            with Path(orders["log"]).open("a") as file:
                file.write(f"{os.getpid()} {digest(frames)}\n")
        time.sleep(orders.get("sleep", 0))
        if digest(frames) in orders.get("kill", ()):
            os._exit(9)
        if digest(frames) in orders.get("raise", ()):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return super().encode(frames, bank, generator)
