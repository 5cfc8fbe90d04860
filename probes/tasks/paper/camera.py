"""Camera as in arXiv 2605.28132: world-to-camera poses of all views, refined four times, in points' unit of length."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from probes.geometry import to_first_view
from probes.labels import ClipLabels, LabelSpace, PixelPool
from probes.losses import camera_iterations_loss
from probes.sampling import GridMap
from probes.tasks.base import Task, Tensors, stack_windows
from probes.tasks.paper.scale import FIELDS, unit_of_sample, units_of_windows


class PaperCameraTask(Task):
    """Translation, quaternion (x, y, z, w) and field of view (vertical, horizontal) of x_j = R x_0 + t, for every view.

    The loss tells q from -q, as the paper's does.
    """

    name = "camera"
    fields = FIELDS
    layout = "poses"

    @property
    def outputs(self) -> int:
        """3 + 4 + 2."""
        return 9

    def sample(
        self, pool: PixelPool, frames: Integer[np.ndarray, " view"], pixels: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """`translation` (view, 3), `quaternion` (view, 4), `field_of_view` (view, 2) in radians, and `valid` (view)."""
        poses = _to_cameras(pool["cam_to_world"][frames])
        posed = pool["posed"][frames]
        return {
            "translation": (poses[:, :3, 3] / unit_of_sample(pool, int(frames[0]))).astype(np.float32),
            "quaternion": Rotation.from_matrix(poses[:, :3, :3]).as_quat().astype(np.float32),
            "field_of_view": field_of_view(pool["intrinsics"][frames], self.space).astype(np.float32),
            "valid": posed & posed[0] & pool["calibrated"][frames],
        }

    def prior(self, targets: Tensors) -> Float[Tensor, " output"]:
        """None is used: the head learns what it starts from."""
        return Tensor([])

    def loss(self, outputs: Tensor, targets: Tensors) -> Float[Tensor, ""]:
        """L_cam."""
        translation, quaternion, angles = (targets[name] for name in ("translation", "quaternion", "field_of_view"))
        estimates = outputs.transpose(0, 1)
        return camera_iterations_loss(estimates, translation, quaternion, angles, targets["valid"], sign="paper")

    def target(self, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]) -> dict[str, NDArray[Any]]:
        """`world_to_cam` (window, view, 4, 4), the world being the first view's frame.

        Raises:
            TargetsError: a pose of the window is not known; the paper has the identity in its place.
        """
        labels.require_poses(windows)
        poses = _to_cameras(stack_windows(labels.cam_to_world, windows))
        poses[..., :3, 3] /= units_of_windows(labels, windows)[:, None, None]
        return {"world_to_cam": poses}

    def predict(self, outputs: Tensor, grid_map: GridMap) -> dict[str, NDArray[Any]]:
        """The same from the last iteration; the quaternion need not have unit length."""
        said = outputs[:, -1].double().cpu().numpy()
        poses = np.tile(np.eye(4), (*said.shape[:2], 1, 1))
        turned = Rotation.from_quat(said[..., 3:7].reshape(-1, 4)).as_matrix()
        poses[..., :3, :3] = turned.reshape(*said.shape[:2], 3, 3)
        poses[..., :3, 3] = said[..., :3]
        return {"world_to_cam": poses}


def _to_cameras(cam_to_world: Float[np.ndarray, "*batch view 4 4"]) -> Float[np.ndarray, "*batch view 4 4"]:
    """x_j = T x_0."""
    poses: NDArray[Any] = np.linalg.inv(to_first_view(cam_to_world))
    return poses


def field_of_view(intrinsics: Float[np.ndarray, "view 3 3"], space: LabelSpace) -> Float[np.ndarray, "view 2"]:
    """Vertical and horizontal angle of view in radians, 2 atan(size / 2 f), as VGGT has it: centred pictures."""
    focal = np.stack([intrinsics[:, 1, 1], intrinsics[:, 0, 0]], -1)
    return np.asarray(2 * np.arctan(np.array([space.height, space.width]) / (2 * focal)))
