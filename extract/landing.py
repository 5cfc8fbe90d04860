"""Features on their way to the store: pooled and cast on the device, copied beside the next clip, checked once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from extract import profile
from extract.errors import NonFiniteFeatureError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from extract.datasets.base import Clip
    from extract.plan import Plan, Tap
    from extract.transfer import Transfer

CAST = {"float16": torch.float16, "bfloat16": torch.bfloat16}
"""Storage types that values get on the device: half the bytes to copy. The store makes all others from float32."""


def pool(
    grid: Float[Tensor, "frame y x channel"], size: tuple[int, int]
) -> Float[Tensor, "frame rows columns channel"]:
    """Average-pool a grid to `size` (rows, columns), in float32."""
    if tuple(grid.shape[1:3]) == size:
        return grid.float()
    moved = grid.float().permute(0, 3, 1, 2)
    return torch.nn.functional.adaptive_avg_pool2d(moved, size).permute(0, 2, 3, 1)


class Landing:
    """The features of one clip. `take` them on the device, `depart`, and `arrive` once they are wanted.

    Nothing here waits for the device before `arrive`: what is checked, the largest magnitude, is a number on the device
    too, and comes with the values.

    Args:
        plan: that says grids and types.
        clip: whose features.
        copies: of the device.
    """

    def __init__(self, plan: Plan, clip: Clip, copies: Transfer) -> None:
        self.clip, self.frames = clip, len(clip.bank)
        self._plan, self._copies = plan, copies
        self._dtype = CAST.get(plan.request.store_dtype, torch.float32)
        self._values: dict[str, Tensor] = {}
        self._largest: dict[str, Tensor] = {}
        self._known: Tensor | None = None
        self._wait: Callable[[], None] | None = None

    def take(self, tap: Tap, pooled: Float[Tensor, "frame y x channel"], rows: Sequence[int]) -> None:
        """Features of some bank rows, on the device, in float32."""
        low, high = torch.aminmax(pooled)
        largest = torch.maximum(high, -low)
        before = self._largest.get(tap.name)
        self._largest[tap.name] = largest if before is None else torch.maximum(before, largest)
        cast = pooled.to(self._dtype).contiguous()
        if list(rows) == list(range(self.frames)):
            self._values[tap.name] = self._copies.fetch(cast)
            return
        if tap.name not in self._values:
            # A row that no part fills stays NaN, which no store takes.
            self._values[tap.name] = self._copies.filled((self.frames, *cast.shape[1:]), math.nan, self._dtype)
        for first, row, length in _runs(rows):
            self._copies.fetch(cast[first : first + length], self._values[tap.name][row : row + length])

    def depart(self) -> None:
        """All was taken."""
        self._known = self._copies.fetch(torch.stack(list(self._largest.values())))
        self._wait = self._copies.mark()

    def arrive(self) -> dict[str, NDArray[Any]]:
        """Wait for the features: tap name -> (bank frame, y, x, channel).

        float16 as such and bfloat16 as its bits in uint16, where the store keeps them so; else float32.

        Raises:
            NonFiniteFeatureError: a value is NaN or infinite, or does not fit the storage type.
        """
        assert self._known is not None
        assert self._wait is not None
        with profile.span("wait for the device", self.clip.id):
            self._wait()
        for name, largest in zip(self._largest, self._known.tolist(), strict=True):
            self._check(name, largest)
        return {name: _array(values) for name, values in self._values.items()}

    def _check(self, name: str, largest: float) -> None:
        if not math.isfinite(largest):
            values = self._values[name]
            bad = values.numel() - int(torch.isfinite(values).sum())
            raise NonFiniteFeatureError(
                f"tap {name}: {bad} of {values.numel()} values are NaN or infinite in {self._plan.request.dtype}. "
                f"Nothing of this clip was written. {_remedy(self._plan)}"
            )
        if not torch.isfinite(torch.tensor(largest).to(self._dtype)):
            raise NonFiniteFeatureError(
                f"tap {name}: the largest magnitude, {largest:.4g}, does not fit {self._plan.request.store_dtype}. "
                "Nothing of this clip was written. Store it as --store-dtype bfloat16 or float32."
            )


def _runs(rows: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Rows that follow each other: index of the first, its row, how many."""
    first = 0
    for index in range(1, len(rows) + 1):
        if index == len(rows) or rows[index] != rows[index - 1] + 1:
            yield first, rows[first], index - first
            first = index


def _array(values: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = (values.view(torch.uint16) if values.dtype == torch.bfloat16 else values).numpy()
    return array


def _remedy(plan: Plan) -> str:
    if plan.request.dtype == "float32":
        return "float32 overflows nowhere in a sound network: look at the weights, and fetch them again."
    return "Compute in a wider type: --dtype float32 (or bfloat16)."
