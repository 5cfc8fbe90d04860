"""Tokens of several taps that show the same: the same clips, frames, and cells of one grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.analysis.tokens import SLAB, chosen_taps, drawn, finite
from store.clips import ClipRow
from store.errors import MissingClipError, StoreError
from store.fusion.taps import DIMS, check_same_view
from store.readable import Readable

Rows = tuple[int, ...]
"""Of one clip in each store."""


class Side(NamedTuple):
    """A tap: of which source, and its name."""

    source: int
    tap: str


@dataclass(frozen=True)
class Matched:
    """How tokens of taps are laid over each other; may be sent to other processes.

    Attributes:
        sides: the taps.
        grid: (y, x) that all are pooled to; `None` means the mean over the cells of each frame.
        most: at most so many tokens of each clip, drawn by its id.
    """

    sides: tuple[Side, ...]
    grid: tuple[int, int] | None
    most: int | None

    def tokens(
        self, sources: Sequence[Readable], rows: Sequence[int], wanted: Sequence[int]
    ) -> Iterator[dict[int, NDArray[np.float64]]]:
        """Tokens of one clip, a few frames at a time: number of the side -> (token, channel).

        Args:
            sources: the stores.
            rows: row of the clip in each of them.
            wanted: numbers of the sides that are read.

        Raises:
            ArrayValueError: a value is not finite.
        """
        clip = sources[0].clips[rows[0]]
        cells = self.grid[0] * self.grid[1] if self.grid else 1
        places = drawn(clip.id, len(clip.bank) * cells, self.most)
        for frames, kept in self._pieces(sources, len(clip.bank), cells, places, wanted):
            yield {number: self._side(sources, rows, number, frames, kept) for number in wanted}

    def clip(
        self, sources: Sequence[Readable], rows: Sequence[int], wanted: Sequence[int]
    ) -> dict[int, NDArray[np.float64]]:
        """All tokens of a clip at once."""
        pieces = list(self.tokens(sources, rows, wanted))
        return {number: np.concatenate([piece[number] for piece in pieces]) for number in wanted}

    def _pieces(
        self,
        sources: Sequence[Readable],
        held: int,
        cells: int,
        places: NDArray[np.int64] | None,
        wanted: Sequence[int],
    ) -> Iterator[tuple[list[int], NDArray[np.int64] | None]]:
        """Frames that are read together, and which tokens of them are kept (`None`: all)."""
        infos = [sources[self.sides[number].source].info(self.sides[number].tap) for number in wanted]
        frame_bytes = sum(8 * int(np.prod(info.shape[2:])) for info in infos)
        step = max(1, SLAB // frame_bytes)
        frames = list(range(held)) if places is None else np.unique(places // cells).tolist()
        for start in range(0, len(frames), step):
            some = frames[start : start + step]
            if places is None:
                yield some, None
            else:
                here = places[np.isin(places // cells, some)]
                yield some, np.searchsorted(some, here // cells) * cells + here % cells

    def _side(
        self,
        sources: Sequence[Readable],
        rows: Sequence[int],
        number: int,
        frames: Sequence[int],
        kept: NDArray[np.int64] | None,
    ) -> NDArray[np.float64]:
        side = self.sides[number]
        source, row = sources[side.source], rows[side.source]
        pooled = on_grid(source.read(side.tap, row, frames), self.grid)
        flat = pooled.reshape(-1, pooled.shape[-1])
        return finite(flat if kept is None else flat[kept], source, side.tap, source.clips[row].id)


def size(sources: Sequence[Readable], sides: Iterable[Side], rows: Sequence[Rows]) -> int:
    """Bytes of the clips that are read for these sides."""
    return sum(int(sources[side.source].sizes(side.tap)[[each[side.source] for each in rows]].sum()) for side in sides)


def on_grid(values: NDArray[np.generic], grid: tuple[int, int] | None) -> NDArray[np.float64]:
    """Pool (frame, Y, X, channel) to (frame, y, x, channel), or to the mean of each frame: (frame, channel).

    As a fusion pools (`fusion.arithmetic.project`), in float64: cell j of y is the mean of cells floor(j Y / y) to
    ceil((j + 1) Y / y) - 1 of Y, along both axes.
    """
    cells = values.astype(np.float64)
    if grid is None:
        return np.asarray(cells.mean((1, 2)))
    frames, height, width, channels = cells.shape
    if height != grid[0]:
        cells = windows(height, grid[0]) @ cells.reshape(frames, height, width * channels)
    if width != grid[1]:
        cells = windows(width, grid[1]) @ cells.reshape(frames * grid[0], width, channels)
    return cells.reshape(frames, *grid, channels)


def windows(cells: int, fewer: int) -> NDArray[np.float64]:
    """Weights of the cells of one axis in those that they are pooled to: (fewer, cells). Rows add up to 1."""
    weights = np.zeros((fewer, cells))
    for j, row in enumerate(weights):
        window = slice(j * cells // fewer, -(-(j + 1) * cells // fewer))
        row[window] = 1 / len(row[window])
    return weights


def matched(
    sources: Sequence[Readable], taps: Sequence[Sequence[str]], *, frames_only: bool, most: int | None
) -> Matched:
    """How the taps of one store or two are laid over each other.

    Cells are pooled to the grid with the fewest rows and columns of all. `grid_to_image` says which part of the image
    a grid shows; those of all must agree. With `frames_only` it does not matter.

    Raises:
        UnknownArrayError: there is no such tap.
        FusionError: taps show different parts of the image.
        StoreError: a tap has no grid of cells.
    """
    sides = [Side(number, name) for number, source in enumerate(sources) for name in chosen_taps(source, taps[number])]
    owners = [sources[side.source] for side in sides]
    infos = [owner.info(side.tap) for owner, side in zip(owners, sides, strict=True)]
    for owner, info in zip(owners, infos, strict=True):
        if info.dims != DIMS:
            raise StoreError(f"{owner.name}: tap {info.name} has dimensions {info.dims}, not {DIMS}. Leave it out.")
    if frames_only:
        return Matched(tuple(sides), None, most)
    check_same_view(owners, infos)
    return Matched(tuple(sides), (min(info.shape[2] for info in infos), min(info.shape[3] for info in infos)), most)


def common_rows(
    sources: Sequence[Readable], sides: Sequence[Side], split: str | None, limit: int | None
) -> tuple[list[Rows], tuple[int, ...]]:
    """The clips that all sources hold for all their taps, by id; and how many of the split each of them holds.

    Returns:
        For each clip its row in each source, in the order of the first; and the numbers of clips.

    Raises:
        MissingClipError: a source has no clip of the split, or no clip is in all of them.
        StoreError: a clip differs between them in scene, split, bank or source digest.
    """
    held: list[dict[str, ClipRow]] = []
    for number, source in enumerate(sources):
        taps = [side.tap for side in sides if side.source == number]
        # A clip that is of another split elsewhere is to be noticed, not to be left out.
        held.append({source.clips[row].id: source.clips[row] for row in source.rows(None if held else split, taps)})
    common = [name for name in held[0] if all(name in each for each in held)][:limit]
    if not common:
        raise MissingClipError(
            f"{' and '.join(source.name for source in sources)} have no clip in common"
            f"{'' if split is None else f' of split {split!r}'}: {'; '.join(source.holdings() for source in sources)}. "
            "Extract both from the same data set."
        )
    for name in common:
        first, *others = (each[name] for each in held)
        for source, other in zip(sources[1:], others, strict=True):
            if identity(first) != identity(other):
                raise StoreError(
                    f"clip {name} differs between {sources[0].name} ({identity(first)}) and {source.name} "
                    f"({identity(other)}). Extract both from one version of the data set, with the same clips and bank."
                )
    counts = tuple(sum(split in (None, clip.split) for clip in each.values()) for each in held)
    return [tuple(each[name].row for each in held) for name in common], counts


def identity(clip: ClipRow) -> str:
    """What must agree for two rows to be the same clip."""
    bank = f"bank {list(clip.bank)} of {clip.n_frames} frames"
    return f"scene {clip.scene}, split {clip.split}, {bank}, source digest {clip.digest}"
