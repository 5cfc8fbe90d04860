"""What readers hand out: features of some clips as they are stored, and how int8 becomes numbers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Int8, Int64, Shaped
from torch import Tensor


class FeatureBatch(NamedTuple):
    """Features of some clips in their storage type. What one clip alone is asked for has no axis `clip`.

    Attributes:
        rows: row of each clip in the clip table, (clip,) int64.
        frames: which frames of its bank, (clip, frame) int64.
        features: tap -> (clip, frame, y, x, channel): float16, bfloat16 or float32, or the int8 of `int8-channel`.
        scales: tap -> (clip, channel) float32, for `int8-channel` taps only; value = int8 * scale.
    """

    rows: Int64[Tensor, "*clip"]
    frames: Int64[Tensor, "*clip frame"]
    features: dict[str, Shaped[Tensor, "*clip frame y x channel"]]
    scales: dict[str, Float32[Tensor, "*clip channel"]]

    def values(self, tap: str) -> Float[Tensor, "*clip frame y x channel"]:
        """Features of one tap as numbers: `int8-channel` becomes float32, all else is given as it is."""
        stored = self.features[tap]
        return dequantise(stored, self.scales[tap]) if tap in self.scales else stored

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> FeatureBatch:
        """The same on another device. Rows and frames stay where they are: they are for Python, not for kernels."""

        def move(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {tap: tensor.to(device, non_blocking=non_blocking) for tap, tensor in tensors.items()}

        return self._replace(features=move(self.features), scales=move(self.scales))

    def clone(self) -> FeatureBatch:
        """A copy in memory of its own, to keep."""

        def copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {tap: tensor.clone() for tap, tensor in tensors.items()}

        return self._replace(features=copy(self.features), scales=copy(self.scales))


def dequantise(
    values: Int8[Tensor, "*clip frame y x channel"],
    scale: Float32[Tensor, "*clip channel"],
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "*clip frame y x channel"]:
    """int8 * scale, on whatever device both are: copy the int8 to a GPU first, it is a quarter of the float32.

    The product is taken in float32, where it is the one that `FeatureStore.read` gives, and then rounded to `dtype`.
    """
    middle = [1] * (values.ndim - scale.ndim)
    return (values * scale.reshape(*scale.shape[:-1], *middle, scale.shape[-1])).to(dtype)
