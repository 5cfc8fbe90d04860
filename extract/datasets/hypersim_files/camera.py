"""Cameras of Hypersim: most have a lens that is shifted or tilted, so that the optical axis is not the camera's z.

The release gives for each scene the matrix M that maps u, v in [-1, 1] (right and up; the centre of a pixel is half a
pixel from its corner) to a ray (x right, y up, z backwards): ray = M (u, v, 1)^T, `M_cam_from_uv` in its
metadata_camera_parameters.csv. With D = diag(1, -1, -1), which turns OpenGL's axes to OpenCV's, and A from u, v to
pixels, (D M A^-1)^-1 takes rays to pixels. It is K R: an upper triangle K of intrinsics and a rotation R (Hartley &
Zisserman 2004, 6.2.4). So each is a pinhole camera that is turned by R, exactly; where the lens is tilted and shifted
aside, K has a skew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64

from extract.datasets.poses.rigid import checked, pose, unknown

SIZE = (768, 1024)
"""(height, width) of every image."""
_TURN = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Lens:
    """How a scene's cameras map rays to pixels.

    Attributes:
        intrinsics: K, of pictures of `SIZE` that span [0, width] x [0, height].
        rotation: R, from the camera's own OpenCV axes to those of the pinhole.
    """

    intrinsics: Float64[np.ndarray, "3 3"]
    rotation: Float64[np.ndarray, "3 3"]

    @classmethod
    def of(cls, cam_from_uv: Float64[np.ndarray, "3 3"]) -> Lens:
        """The pinhole of `M_cam_from_uv`. Raises `ValueError` if it is none that looks along -z."""
        from scipy.linalg import rq

        height, width = SIZE
        to_pixels = np.array([[width / 2, 0, width / 2], [0, -height / 2, height / 2], [0, 0, 1]])
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what is no camera is said below
            to_rays = _TURN @ cam_from_uv @ np.linalg.inv(to_pixels)
            finite = np.isfinite(to_rays).all()
            sound = finite and np.linalg.det(to_rays) > 0 and np.linalg.cond(to_rays) <= 1e6
        if not sound:
            raise ValueError(f"no camera maps u, v to rays by {cam_from_uv.tolist()}")
        triangle, rotation = rq(np.linalg.inv(to_rays))
        signs = np.sign(np.diag(triangle))
        triangle, rotation = triangle * signs, signs[:, None] * rotation
        return cls(triangle / triangle[2, 2], rotation)

    def ray_lengths(self) -> Float64[np.ndarray, "y x"]:
        """Of every pixel p, the length |K^-1 p| of its ray up to the plane at depth 1."""
        rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
        pixels = np.stack([columns, rows, np.ones(SIZE)], -1)
        return np.asarray(np.linalg.norm(pixels @ np.linalg.inv(self.intrinsics).T, axis=-1))

    def cam_to_world(
        self, orientation: Float64[np.ndarray, "3 3"], position: Float64[np.ndarray, " 3"], where: str
    ) -> Float64[np.ndarray, "4 4"]:
        """Pose of the pinhole, OpenCV axes; all zero if it is not finite.

        Args:
            orientation: world from camera, x right, y up, z backwards.
            position: in metres.
            where: names the camera in the `DataError` that no rotation raises.
        """
        given = checked(pose(orientation, position), where)
        if not given.any():
            return unknown()
        return pose(given[:3, :3] @ _TURN @ self.rotation.T, given[:3, 3])


def planar(distance: Float[np.ndarray, "y x"], lengths: Float64[np.ndarray, "y x"]) -> Float32[np.ndarray, "y x"]:
    """Depth along the pinhole's axis, z = distance / |K^-1 p|, from distances to the camera's centre.

    0 where it is not finite, as where there is nothing.
    """
    depth = distance.astype(np.float64) / lengths
    return np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)
