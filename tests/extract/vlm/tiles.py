"""What the tests of models share that take square tiles: frames to resize, and how close two resizes must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def pictures(height: int, width: int) -> dict[str, Tensor]:
    """8-bit frames (y, x, 3): a smooth one, and noise."""
    random = np.random.default_rng(3)
    coarse = torch.from_numpy(random.random((1, 3, 6, 9), dtype=np.float32))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0]
    noise = torch.from_numpy(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return {"smooth": (smooth.clamp(0, 1) * 255).round().byte().permute(1, 2, 0), "noise": noise}


def assert_within_rounding(ours: Tensor, theirs: Any, std: float) -> None:
    """Network inputs that differ by what 8 bits leave out, in each of two passes, and not more."""
    step = 1 / 255 / std
    difference = (ours - torch.as_tensor(np.asarray(theirs))).abs()
    assert difference.max() <= 1.5 * step
    assert difference.mean() < 0.4 * step
    assert ours.std() > 10 * step
