"""Correspondence as Probe3D asks it: every pixel of a view is matched, and each match says how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Integer
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from probes.geometry import transform, unproject
from probes.labels import ClipLabels, LabelSpace
from probes.sampling import GridMap, pixel_centres
from probes.tasks.base import Arrays
from probes.tasks.correspondence import CHUNK, QUERIES, CorrespondenceTask, Reader, pixel_grid

LONGEST = 160
"""Pixels are a regular subset, at most this many along each axis: a quarter of 640 x 480, as in the code."""
SMALLEST = 1e-9
"""Distances of features, and depths that are divided by, are at least this."""


class Probe3dCorrespondenceTask(CorrespondenceTask):
    """Each pixel takes the pixel of view j whose features have the largest cosine with its own.

    El Banani et al. (2024), arXiv 2404.08636, and its code for ScanNet: features as they are stored, not standardised,
    read bilinearly at pixels with a known depth, in both views; a match is the surer, the smaller its distance
    1 - cosine is beside that of the second best. Of equals the first is taken.

    It differs from the code in this: pixels are those of the targets, and a depth and its ray are of one pixel (there
    they are 1.5 pixels apart, by the way in which depth and camera are scaled down); pairs are the first view of a
    window with each other one, not those of a list.
    """

    untrained_head = "raw"

    def __init__(self, space: LabelSpace) -> None:
        super().__init__(space)
        self._places = pixel_centres(space.height, space.width, LONGEST)

    def target(self, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]) -> dict[str, NDArray[Any]]:
        """Where each pixel of view 0 is projected to in each other view j, by depth and poses, seen there or not.

        `asked` (window, pair, query): whether the query's depth, both poses and both cameras are known, and view j has
        a place. `positions` (window, pair, query, 2): normalised. `points` (window, pair, query, 3) and `surface`
        (window, pair, place, 3): the points of queries and of view j's pixels in its camera's frame. `places` (window,
        place, 2): normalised positions of pixels. `angle` (window, pair): degrees by which the camera turned. `size`
        (window, 2): width and height in pixels.
        """
        shown = [self._projected(labels, window) for window in windows]
        target = {name: np.stack([entry[name] for entry in shown]) for name in shown[0]}
        size = np.array([self.space.width, self.space.height], np.float32)
        places = ((pixel_grid(*self._places).reshape(-1, 2) + 0.5) / size).astype(np.float32)
        return target | {
            "places": np.broadcast_to(places, (len(windows), *places.shape)),
            "size": np.tile(size, (len(windows), 1)),
        }

    def _projected(self, labels: ClipLabels, window: Integer[np.ndarray, " view"]) -> dict[str, NDArray[Any]]:
        depth, at = self._depths(labels, window).astype(np.float64), pixel_grid(*self._places).reshape(-1, 2) + 0.5
        camera, poses = labels.intrinsics[window], labels.cam_to_world[window]
        spots = np.broadcast_to(at, (*depth.shape, 2))
        points = unproject(spots, depth, np.broadcast_to(camera[:, None], (*depth.shape, 3, 3)))
        to_others = np.linalg.inv(poses[1:]) @ poses[0]
        moved = transform(to_others[:, None], np.broadcast_to(points[0], points[1:].shape))
        uvw = moved @ np.swapaxes(camera[1:], -1, -2)
        uv = uvw[..., :2] / np.maximum(uvw[..., 2:], SMALLEST)
        placed = labels.posed[window] & labels.calibrated[window]
        usable = placed[0] & placed[1:] & (depth[1:] > 0).any(axis=1)
        return {
            "asked": (depth[0] > 0) & usable[:, None],
            "positions": (uv / (self.space.width, self.space.height)).astype(np.float32),
            "points": moved.astype(np.float32),
            "surface": points[1:].astype(np.float32),
            "angle": np.degrees(Rotation.from_matrix(to_others[:, :3, :3]).magnitude()),
        }

    def _depths(self, labels: ClipLabels, window: Integer[np.ndarray, " view"]) -> Float[np.ndarray, "view place"]:
        rows, columns = self._places
        depth: NDArray[np.float32] = labels.depth[window][:, rows[:, None], columns]
        return depth.reshape(len(window), -1)

    def predict(self, outputs: Tensor, grid_map: GridMap) -> dict[str, NDArray[Any]]:
        """The same as `predict_seeing` where every depth is known."""
        places = len(self._places[0]) * len(self._places[1])
        return self._matched(outputs, grid_map, np.ones((*outputs.shape[:2], places), bool))

    def predict_seeing(
        self, outputs: Tensor, grid_map: GridMap, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]
    ) -> dict[str, NDArray[Any]]:
        """`matches` (window, pair, query): index of a place in view j; `confidence` of that shape.

        Only pixels of known depth are compared; where one of the views has none, the match is 0 and no confidence.
        """
        return self._matched(outputs, grid_map, np.stack([self._depths(labels, window) > 0 for window in windows]))

    def shown(self, prediction: Arrays, target: Arrays) -> dict[str, NDArray[Any]]:
        """Return what an `Example` has: a regular subset of the queries of the first window, and their matches."""
        rows, columns = (np.arange(len(axis))[:: -(-len(axis) // QUERIES)] for axis in self._places)
        chosen = (rows[:, None] * len(self._places[1]) + columns).ravel()
        places, positions = target["places"][0], target["positions"][0][:, chosen]
        inside = ((positions >= 0) & (positions < 1)).all(axis=-1)
        return {
            "queries": places[chosen],
            "positions": np.where(inside[..., None], positions, np.float32(0)),
            "visible": target["asked"][0][:, chosen] & inside,
            "matches": places[prediction["matches"][0][:, chosen]],
        }

    def _matched(
        self, outputs: Tensor, grid_map: GridMap, known: Bool[np.ndarray, "window view place"]
    ) -> dict[str, NDArray[Any]]:
        read = Reader(self.space, self._places, outputs, grid_map)
        shape = (len(outputs), outputs.shape[1] - 1, known.shape[-1])
        matches, confidence = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        there = torch.from_numpy(known).to(outputs.device)
        for window, views in enumerate(outputs):
            asked = known[window, 0]
            queries = F.normalize(read(views[0])[there[window, 0]], dim=-1)
            for pair, view in enumerate(views[1:]):
                if asked.any() and known[window, pair + 1].any():
                    index, sure = _match(queries, view, read, there[window, pair + 1])
                    matches[window, pair, asked] = index.cpu().numpy()
                    confidence[window, pair, asked] = sure.cpu().numpy()
        return {"matches": matches, "confidence": confidence}


def _match(
    queries: Float[Tensor, "query channel"],
    view: Float[Tensor, "y x channel"],
    read: Reader,
    known: Bool[Tensor, " place"],
) -> tuple[Int[Tensor, " query"], Float[Tensor, " query"]]:
    """Place of the largest cosine among those that are known, and 1 - d1/d2 with the two smallest distances."""
    length = read.bounded_lengths(view)
    found, sure = [], []
    for start in range(0, len(queries), CHUNK):
        products = (queries[start : start + CHUNK] @ view.flatten(0, 1).T).reshape(-1, *view.shape[:2])
        cosines = (read.maps(products) / length).masked_fill(~known, -torch.inf)
        best, index = cosines.max(1)
        second = cosines.scatter_(1, index[:, None], -torch.inf).amax(1)
        nearest, next_nearest = ((1 - cosine).clamp(min=SMALLEST) for cosine in (best, second))
        found.append(index)
        sure.append(1 - nearest / next_nearest)
    return torch.cat(found), torch.cat(sure)
