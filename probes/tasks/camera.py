"""Camera: how did the camera move and turn from the first view to each other view?"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from probes.geometry import to_first_view
from probes.heads.base import Layout
from probes.labels import ClipLabels, PixelPool
from probes.losses import camera_loss, iteration_weights
from probes.sampling import GridMap
from probes.tasks.base import Task, Tensors, stack_windows

POSE = 7
"""Translation (3) and quaternion (4)."""


class CameraTask(Task):
    """Means of view 0 and view j -> linear -> translation (metres) and quaternion (x, y, z, w) of x_0 = R x_j + t."""

    name = "camera"
    fields = frozenset({"cam_to_world", "posed"})
    layout: ClassVar[Layout] = "pairs"

    @property
    def outputs(self) -> int:
        """3 for the translation, 4 for the quaternion."""
        return POSE

    def sample(
        self, pool: PixelPool, frames: Integer[np.ndarray, " view"], pixels: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """`translation` (pair, 3) and `quaternion` (pair, 4) with w >= 0; `valid` (pair) where both poses are known."""
        poses = to_first_view(pool["cam_to_world"][frames])[1:]
        quaternion = Rotation.from_matrix(poses[:, :3, :3]).as_quat(canonical=True)
        posed = pool["posed"][frames]
        return {
            "translation": poses[:, :3, 3].astype(np.float32),
            "quaternion": quaternion.astype(np.float32),
            "valid": posed[0] & posed[1:],
        }

    def prior(self, targets: Tensors) -> Float[Tensor, " output"]:
        """Mean translation and no rotation."""
        known = targets["translation"][targets["valid"]]
        translation = known.mean(0) if len(known) else known.new_zeros(3)
        return Tensor([*translation.tolist(), 0.0, 0.0, 0.0, 1.0])

    def loss(self, outputs: Tensor, targets: Tensors) -> Float[Tensor, ""]:
        """Huber on translation and quaternion."""
        return camera_loss(outputs, targets["translation"], targets["quaternion"], targets["valid"])

    def target(self, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]) -> dict[str, NDArray[Any]]:
        """`rotation` (window, pair, 3, 3), `translation` (window, pair, 3), and `known` (window, pair)."""
        poses = to_first_view(stack_windows(labels.cam_to_world, windows))[:, 1:]
        posed = stack_windows(labels.posed, windows)
        return {
            "rotation": poses[..., :3, :3],
            "translation": poses[..., :3, 3],
            "known": posed[:, :1] & posed[:, 1:],
        }

    def predict(self, outputs: Tensor, grid_map: GridMap) -> dict[str, NDArray[Any]]:
        """The same from a head's outputs; the quaternion need not have unit length."""
        values = outputs.double().cpu().numpy()
        rotation = Rotation.from_quat(values[..., 3:].reshape(-1, 4)).as_matrix()
        return {"rotation": rotation.reshape(*values.shape[:-1], 3, 3), "translation": values[..., :3]}


class PosesTask(CameraTask):
    """The same for heads that refine a pose of every view: of what they say, translation and quaternion are asked."""

    layout: ClassVar[Layout] = "poses"

    def prior(self, targets: Tensors) -> Float[Tensor, " output"]:
        """None is used: the head learns what it starts from."""
        return Tensor([])

    def loss(self, outputs: Tensor, targets: Tensors) -> Float[Tensor, ""]:
        """1/K sum_i 0.6^(K - 1 - i) L(outputs of iteration i), L the loss of `CameraTask`, weighed as in VGGT."""
        iterations = outputs[:, :, 1:, :POSE].unbind(1)
        losses = torch.stack([super(PosesTask, self).loss(each, targets) for each in iterations])
        return (iteration_weights(len(losses)).to(losses) * losses).mean()

    def predict(self, outputs: Tensor, grid_map: GridMap) -> dict[str, NDArray[Any]]:
        """As the last iteration has it."""
        return super().predict(outputs[:, -1, 1:, :POSE], grid_map)
