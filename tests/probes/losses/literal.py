"""What the tests of losses share: seeds, tensors, and gradients at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st

seeds = st.integers(0, 10_000)
few = settings(deadline=None, max_examples=40)


def tensor(values: np.ndarray | list[float]) -> torch.Tensor:
    return torch.from_numpy(np.array(values, np.float32))


def mask(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(values, bool))


def gradient(loss: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The loss and its gradient."""
    leaf = at.clone().requires_grad_()
    value = loss(leaf)
    value.backward()
    assert leaf.grad is not None
    return value.item(), leaf.grad


def huber(x: float) -> float:
    return 0.5 * x * x if abs(x) <= 1 else abs(x) - 0.5
