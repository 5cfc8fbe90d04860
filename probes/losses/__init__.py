"""Training losses. Each is a mean over what is valid, and 0 (with a gradient of 0) where nothing is."""

from probes.losses.camera import camera_iterations_loss, camera_loss, iteration_weights
from probes.losses.depth import depth_loss, gradient_loss, scale_invariant_loss, weighted_depth_loss
from probes.losses.grouping import grouping_loss, pair_weights
from probes.losses.masked import masked_mean
from probes.losses.normals import normals_loss
from probes.losses.points import points_loss, scaled_points_loss
from probes.losses.segmentation import segmentation_loss
from probes.losses.tagging import asymmetric_loss, tagging_loss

__all__ = [
    "asymmetric_loss",
    "camera_iterations_loss",
    "camera_loss",
    "depth_loss",
    "gradient_loss",
    "grouping_loss",
    "iteration_weights",
    "masked_mean",
    "normals_loss",
    "pair_weights",
    "points_loss",
    "scale_invariant_loss",
    "scaled_points_loss",
    "segmentation_loss",
    "tagging_loss",
    "weighted_depth_loss",
]
