"""Points as in arXiv 2605.28132: both sides are divided by their own mean norm, at confident pixels above all."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from torch import Tensor

from probes.alternating.dense import inverse_log
from probes.labels import ClipLabels, PixelPool
from probes.losses import scaled_points_loss
from probes.sampling import GridMap
from probes.tasks.base import Tensors, stack_windows
from probes.tasks.paper.depth import DENSE_SIZE
from probes.tasks.paper.scale import FIELDS
from probes.tasks.points import PointsTask


class PaperPointsTask(PointsTask):
    """Points sign(z) (exp |z| - 1). A fourth output, the confidence of the head itself, is there and never trained."""

    fields = FIELDS
    dense_size = DENSE_SIZE

    @property
    def outputs(self) -> int:
        """x, y, z, and confidence."""
        return 4

    def sample(
        self, pool: PixelPool, frames: Integer[np.ndarray, " view"], pixels: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """As for `PointsTask`, and `confidence` (view, sample)."""
        drawn, index = self._drawn(pool, frames, pixels, rng)
        return drawn | {"confidence": np.take_along_axis(pool["confidence"][frames], index, axis=1)}

    def prior(self, targets: Tensors) -> Float[Tensor, " output"]:
        """The mean point, in what the outputs say it by; 0 for the confidence."""
        mean = super().prior(targets)
        return Tensor([*(mean.sign() * mean.abs().log1p()).tolist(), 0.0])

    def loss(self, outputs: Tensor, targets: Tensors) -> Float[Tensor, ""]:
        """L_point."""
        said = inverse_log(outputs[..., :3])
        return scaled_points_loss(said, targets["points"], targets["confidence"], targets["valid"])

    def target(self, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]) -> dict[str, NDArray[Any]]:
        """As for `PointsTask`, and `confidence` (window, view, y, x)."""
        rows, columns = self._evaluated
        confidence = stack_windows(labels.confidence[:, rows][:, :, columns], windows)
        return super().target(labels, windows) | {"confidence": confidence}

    def predict(self, outputs: Tensor, grid_map: GridMap) -> dict[str, NDArray[Any]]:
        """`points` (window, view, y, x, 3) at the same pixels."""
        return super().predict(inverse_log(outputs[..., :3]), grid_map)
