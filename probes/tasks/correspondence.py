"""Correspondence: which pixel of another view shows the same point? Asked of the features themselves, untrained."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Integer
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from probes.geometry import project, transform, unproject
from probes.labels import ClipLabels, LabelSpace, PixelPool
from probes.sampling import GridMap, interpolation_matrix, pixel_centres
from probes.tasks.base import Task, Tensors, at_pixels

QUERIES = 16
"""Queries are a regular subset of the first view's pixels, at most this many along each axis."""
CANDIDATES = 128
"""Matches are sought at a regular subset of pixels, at most this many along each axis: finer than grids are. The best
is half a step away from the true position at most, which is less than 0.5 % of the diagonal."""
CHUNK = 64
"""Queries that are compared at once, which bounds the memory."""
TIE = 1e-5
"""Cosines that differ by less are equal: it is what float32 can tell apart in features of some thousand channels."""
OCCLUDED = 0.03
"""A point is hidden if the surface seen at its place is nearer or farther by more than this share of its depth."""


class CorrespondenceTask(Task):
    """Each query takes the pixel of view j whose features have the largest cosine with its own, out of all candidates.

    El Banani et al. (2024), "Probing the 3D awareness of visual foundation models", arXiv 2404.08636, section 4:
    features of both views read bilinearly, L2-normalised, and matched to their nearest neighbour. It differs from the
    released code in three ways. Features are standardised per channel first, as for all tasks. Every query that view j
    can see counts; there it is the 1000 matches that pass a ratio test best, so that a model chooses what it is asked.
    And of candidates that are equal one is drawn, so that no place is favoured by the order of pixels.

    What can be found is limited by the grid, which is read bilinearly whatever its size: a coarser grid has less to say
    within a cell, and the protocol's smallest thresholds are smaller than a cell of most.
    """

    name = "correspondence"
    fields = frozenset()
    layout = "cells"
    trained = False

    def __init__(self, space: LabelSpace) -> None:
        super().__init__(space)
        self._queries = pixel_centres(space.height, space.width, QUERIES)
        self._candidates = pixel_centres(space.height, space.width, CANDIDATES)

    @property
    def queries(self) -> Float[np.ndarray, "query 2"]:
        """Normalised positions of the queries in view 0."""
        return at_pixels(self.space, pixel_grid(*self._queries).reshape(-1, 2) + 0.5)

    @property
    def outputs(self) -> int:
        """None of its own: what is compared are the channels of the tap."""
        return 0

    def sample(
        self, pool: PixelPool, frames: Integer[np.ndarray, " view"], pixels: int, rng: np.random.Generator
    ) -> NoReturn:
        """There is nothing to train on: raises `TypeError`."""
        raise _untrained("sample")

    def prior(self, targets: Tensors) -> NoReturn:
        """There is no constant to start at: raises `TypeError`."""
        raise _untrained("prior")

    def loss(self, outputs: Tensor, targets: Tensors) -> NoReturn:
        """There is no loss: raises `TypeError`."""
        raise _untrained("loss")

    def target(self, labels: ClipLabels, windows: Integer[np.ndarray, "window view"]) -> dict[str, NDArray[Any]]:
        """Where each query of view 0 is in each other view j, by depth and poses.

        `positions` (window, pair, query, 2): normalised, where `visible` (window, pair, query): inside the picture and
        not hidden. `points` (window, pair, query, 3) and `surface` (window, pair, y, x, 3): the queries' points, and
        those of view j at a regular subset of its pixels, in its own camera's frame in metres, z = 0 where depth is
        unknown. `surface_x` (window, x), `surface_y` (window, y): normalised positions of that subset. `angle` (window,
        pair): degrees by which the camera turned, as in the released code. `size` (window, 2): width and height in
        pixels.
        """
        shown = [self._window(labels, window) for window in windows]
        target = {name: np.stack([entry[name] for entry in shown]) for name in shown[0]}
        rows, columns = self._candidates
        for name, values in (
            ("surface_x", (columns + 0.5) / self.space.width),
            ("surface_y", (rows + 0.5) / self.space.height),
            ("size", np.array([self.space.width, self.space.height])),
        ):
            target[name] = np.tile(values.astype(np.float32), (len(windows), 1))
        return target

    def _window(self, labels: ClipLabels, window: Integer[np.ndarray, " view"]) -> dict[str, NDArray[Any]]:
        depth, camera = labels.depth[window].astype(np.float64), labels.intrinsics[window]
        poses = labels.cam_to_world[window]
        at = pixel_grid(*self._queries).reshape(-1, 2)
        known = depth[0, at[:, 1], at[:, 0]]
        points = unproject(at + 0.5, known, np.broadcast_to(camera[0], (len(at), 3, 3)))
        to_others = np.linalg.inv(poses[1:]) @ poses[0]
        moved = transform(to_others[:, None], np.broadcast_to(points, (len(to_others), *points.shape)))
        xy = project(moved, camera[1:, None])
        placed = labels.posed[window] & labels.calibrated[window]
        visible = (known > 0) & self._seen(xy, moved[..., 2], depth[1:]) & (placed[0] & placed[1:])[:, None]
        grid = pixel_grid(*self._candidates)
        there = depth[1:, grid[..., 1], grid[..., 0]]
        cameras = np.broadcast_to(camera[1:, None, None], (*there.shape, 3, 3))
        surface = unproject(np.broadcast_to(grid + 0.5, (*there.shape, 2)), there, cameras)
        return {
            "positions": np.where(visible[..., None], xy / (self.space.width, self.space.height), 0).astype(np.float32),
            "visible": visible,
            "points": moved.astype(np.float32),
            "surface": surface.astype(np.float32),
            "angle": np.degrees(Rotation.from_matrix(to_others[:, :3, :3]).magnitude()),
        }

    def _seen(
        self,
        xy: Float[np.ndarray, "pair query 2"],
        z: Float[np.ndarray, "pair query"],
        depth: Float[np.ndarray, "pair y x"],
    ) -> Bool[np.ndarray, "pair query"]:
        """Whether points are inside the picture and the surface seen there is at their depth; unknown (0) is not."""
        x, y = xy[..., 0], xy[..., 1]
        inside = (x >= 0) & (x < self.space.width) & (y >= 0) & (y < self.space.height)  # False where NaN
        column, row = (np.where(inside, values, 0).astype(np.int64) for values in (x, y))
        surface = depth[np.arange(len(depth))[:, None], row, column]
        return np.asarray(inside & (np.abs(surface - z) <= OCCLUDED * z))

    def predict(self, outputs: Tensor, grid_map: GridMap) -> dict[str, NDArray[Any]]:
        """`matches` (window, pair, query, 2): normalised positions in view j of what is most like each query.

        Cosines are exact at every candidate, though its features are never built: their product with a query, and
        their length, follow from the cells'.
        """
        asked, read = (Reader(self.space, pixels, outputs, grid_map) for pixels in (self._queries, self._candidates))
        # Seeded, so that a run repeats; the same for all taps, so that chance favours none.
        shape = (len(outputs), outputs.shape[1] - 1, len(asked.rows) * len(asked.columns))
        draws = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(outputs.device)
        found = torch.zeros(shape, dtype=torch.int64, device=outputs.device)
        for window, views in enumerate(outputs):
            queries = F.normalize(asked(views[0]), dim=-1)
            for pair, view in enumerate(views[1:]):
                found[window, pair] = _match(queries, view, read, draws[window, pair])
        rows, columns = self._candidates
        index = found.cpu().numpy()
        x, y = columns[index % len(columns)] + 0.5, rows[index // len(columns)] + 0.5
        return {"matches": np.stack([x / self.space.width, y / self.space.height], -1).astype(np.float32)}


class Reader:
    """Bilinear reading of grids at a regular subset of pixels, by one matrix for each axis."""

    def __init__(
        self, space: LabelSpace, pixels: tuple[NDArray[Any], NDArray[Any]], outputs: Tensor, grid_map: GridMap
    ) -> None:
        rows, columns = (torch.from_numpy(axis) for axis in pixels)
        height, width = outputs.shape[2:4]
        down = interpolation_matrix(space.height, height, grid_map.scale_y, grid_map.offset_y)[rows]
        across = interpolation_matrix(space.width, width, grid_map.scale_x, grid_map.offset_x)[columns]
        self.rows, self.columns = down.to(outputs), across.to(outputs)

    def __call__(self, cells: Float[Tensor, "y x channel"]) -> Float[Tensor, "pixel channel"]:
        """Values at the pixels, row by row."""
        return torch.einsum("nj,mi,jic->nmc", self.rows, self.columns, cells).flatten(0, 1)

    def maps(self, maps: Float[Tensor, "map y x"]) -> Float[Tensor, "map pixel"]:
        """Values of many maps of one channel."""
        return (self.rows @ maps @ self.columns.T).flatten(1)

    def lengths(self, cells: Float[Tensor, "y x channel"]) -> Float[Tensor, " pixel"]:
        """Length of the values at the pixels: ||sum_a w_a f_a||^2 = sum_ab w_a w_b <f_a, f_b>, over neighbours a, b."""
        square = cells.new_zeros(len(self.rows), len(self.columns))
        for down, across, times in ((0, 0, 1), (0, 1, 2), (1, 0, 2), (1, 1, 2), (1, -1, 2)):  # by symmetry, half of 9
            beside = cells.new_zeros(cells.shape[:2])
            here, there = _overlap(cells, down, across)
            _overlap(beside, down, across)[0].copy_((here * there).sum(-1))
            weights = [
                matrix * torch.roll(matrix, -step, 1)  # what goes round meets zeros in `beside`
                for matrix, step in ((self.rows, down), (self.columns, across))
            ]
            square += times * (weights[0] @ beside @ weights[1].T)
        return square.clamp(min=0).sqrt().flatten()

    def bounded_lengths(self, cells: Float[Tensor, "y x channel"]) -> Float[Tensor, " pixel"]:
        """The same, to divide by: where neighbours cancel, what is left is rounding; of no feature, cosines are 0."""
        length = self.lengths(cells)
        return length.clamp(min=max(1e-3 * length.max().item(), torch.finfo(length.dtype).tiny))


def _overlap(cells: Tensor, down: int, across: int) -> tuple[Tensor, Tensor]:
    """The cells that have a neighbour `down` rows below and `across` columns to the right, and these neighbours."""
    height, width = cells.shape[:2]
    left, right = max(0, -across), width - max(0, across)
    return cells[: height - down, left:right], cells[down:, left + across : right + across]


def _match(
    queries: Float[Tensor, "query channel"],
    view: Float[Tensor, "y x channel"],
    read: Reader,
    draws: Float[Tensor, " query"],
) -> Int[Tensor, " query"]:
    """Index of the candidate with the largest cosine, for every query of unit length."""
    length = read.bounded_lengths(view)
    found = []
    for start in range(0, len(queries), CHUNK):
        chunk = slice(start, start + CHUNK)
        products = (queries[chunk] @ view.flatten(0, 1).T).reshape(-1, *view.shape[:2])
        found.append(nearest(read.maps(products) / length, draws[chunk]))
    return torch.cat(found)


def nearest(cosines: Float[Tensor, "query candidate"], draws: Float[Tensor, " query"]) -> Int[Tensor, " query"]:
    """The candidate with the largest cosine; of several that are equal to within `TIE`, the one that is drawn.

    Args:
        cosines: of every candidate with every query.
        draws: a number in [0, 1) for each query.
    """
    best, index = cosines.max(1)
    equal = cosines >= best[:, None] - TIE
    (tied,) = torch.nonzero(equal.sum(1, dtype=torch.int32) > 1, as_tuple=True)
    order = equal[tied].cumsum(1, dtype=torch.int32)
    rank = (draws[tied] * order[:, -1]).int()
    index[tied] = torch.searchsorted(order, rank[:, None] + 1)[:, 0]
    return index


def pixel_grid(rows: NDArray[Any], columns: NDArray[Any]) -> Int[np.ndarray, "y x 2"]:
    """(column, row) of every pixel."""
    return np.stack(np.meshgrid(columns, rows), -1)


def _untrained(method: str) -> TypeError:
    return TypeError(
        f"CorrespondenceTask.{method}: nothing is trained (`trained` is False), so this must not be called"
    )
