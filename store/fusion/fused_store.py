"""Several feature stores, opened as one."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store.arrays import ArrayInfo
from store.creation import Coordinate
from store.digest import digest_text
from store.errors import FusionError, MissingClipError, UnknownArrayError
from store.feature_store import FeatureStore
from store.folder import Folder
from store.fusion.agreement import check_same_clips
from store.fusion.identity import EPS, fused_name, fused_recipe
from store.fusion.taps import fused_taps
from store.readable import Readable

if TYPE_CHECKING:
    from store.reading.slot import ClipRead

SPAN = "span"
_AT_ONCE = 1 << 26
"""Bytes of one branch that a thread reads before it computes, if one frame is not more."""


class FusedStore(Readable):
    """Features of several stores, computed from what they hold as they are read. See `store.fuse`.

    A tap is one tap of every branch, in all combinations: `blocks.20@t502+llm.21`. Its values are float32. Their grid
    has the fewest rows and the fewest columns of all branches, to which the others are pooled; their channels are those
    of the branches, in the order of these. A clip is there if it is committed in every branch, for the taps concerned.

    Args:
        branches: the stores, all of the same clips.
        mode: `lnconcat`: the features of each branch have mean 0 and variance 1 in every cell
            (less, where they are not well above eps); or `concat`.

    Attributes:
        branches: the stores.

    Raises:
        FusionError: the stores do not fit together.
    """

    def __init__(self, branches: Sequence[FeatureStore], mode: str) -> None:
        if len(branches) < 2:
            raise FusionError(f"a fusion needs two stores or more, got {[branch.name for branch in branches]}.")
        check_same_clips(branches)
        self.branches, self._mode, self._eps = list(branches), mode, EPS.get(mode)
        self.recipe = fused_recipe([branch.recipe for branch in branches], mode)
        self.fingerprint = self.recipe.fingerprint
        self.name = fused_name([branch.name for branch in branches], self.recipe.dataset.name, mode)
        self.urls = tuple(branch.folder.url for branch in branches)
        self.clips = branches[0].clips
        self._taps = fused_taps(branches)
        self.arrays: dict[str, ArrayInfo] = {name: tap.info for name, tap in self._taps.items()}
        assert self.recipe.backbone is not None
        self.attrs = {
            "model": self.recipe.backbone.model,
            "kind": self.recipe.backbone.kind,
            "fingerprint": self.fingerprint,
        }
        self._memory = threading.local()

    @property
    def state(self) -> str:
        """See `Readable.state`: over those of the branches."""
        return digest_text("\n".join([self.fingerprint, *(branch.state for branch in self.branches)]))

    def reopener(self) -> Callable[[], FusedStore]:
        """See `Readable.reopener`."""
        return partial(_reopen, [branch.folder for branch in self.branches], self._mode)

    def holdings(self) -> str:
        """See `Readable.holdings`."""
        return "; ".join(f"{branch.name}: {branch.holdings()}" for branch in self.branches)

    def coordinates(self) -> dict[str, Coordinate]:
        """See `Readable.coordinates`: `span` covers those of all branches; of others, those in which they agree."""
        first, *rest = (branch.coordinates() for branch in self.branches)
        found = {name: values for name, values in first.items() if all(name in each for each in rest)}
        for name, here in list(found.items()):
            others = [each[name] for each in rest]
            if name == SPAN and all(each.values.shape == here.values.shape for each in others):
                found[name] = Coordinate(_union([here, *others]), here.dims, here.description)
            elif not all(np.array_equal(each.values, here.values) for each in others):
                del found[name]
        return found

    def mask(self, array: str) -> NDArray[np.bool_]:
        """See `Readable.mask`."""
        held: NDArray[np.bool_] = np.logical_and.reduce([branch.mask(part) for branch, part in self._parts(array)])
        return held

    def sizes(self, array: str) -> NDArray[np.uint64]:
        """See `Readable.sizes`."""
        total = np.sum([branch.sizes(part) for branch, part in self._parts(array)], axis=0, dtype=np.uint64)
        return np.where(self.mask(array), total, np.uint64(0))

    def read(
        self,
        array: str,
        row: int,
        frames: Sequence[int] | None = None,
        *,
        out: NDArray[Any] | None = None,
        verify: bool | None = None,
    ) -> NDArray[Any]:
        """See `Readable.read`: float32 (frame, y, x, channel). `out` is float32 too."""
        info = self.info(array)
        if not 0 <= row < len(self.clips):
            raise MissingClipError(f"{self.name}: no clip has row {row}. There are {len(self.clips)}, from row 0 on.")
        positions = range(len(self.clips[row].bank)) if frames is None else frames
        shape = (len(positions), *info.shape[2:])
        if out is None:
            out = np.empty(shape, info.physical)
        elif out.shape != shape or out.dtype != info.physical or not out.flags.c_contiguous:
            raise ValueError(f"out: expected C-contiguous {shape} {info.physical}, got {out.shape} {out.dtype}")
        self._fuse(row, positions, [(array, out)], verify)
        return out

    def scale(self, array: str, row: int, *, verify: bool | None = None) -> NDArray[np.float32]:
        """See `Readable.scale`. Raises `UnknownArrayError`: nothing is `int8-channel` here."""
        raise UnknownArrayError(f"{self.name}: {self.info(array).name} is float32 and has no scales.")

    def units(self, reads: Sequence[ClipRead]) -> list[list[ClipRead]]:
        """See `Readable.units`: all taps of the same frames, so that what a branch has is read once for all."""
        units: dict[tuple[int, tuple[int, ...]], list[ClipRead]] = {}
        for read in reads:
            units.setdefault((read.row, tuple(read.frames)), []).append(read)
        return list(units.values())

    def fill(self, unit: Sequence[ClipRead], verify: bool | None = None) -> None:
        """See `Readable.fill`."""
        for reads in self.units(unit):
            self._fuse(reads[0].row, reads[0].frames, [(read.tap, read.values) for read in reads], verify)

    def _parts(self, array: str) -> list[tuple[FeatureStore, str]]:
        return list(zip(self.branches, self._taps[self.info(array).name].parts, strict=True))

    def _fuse(
        self, row: int, frames: Sequence[int], wanted: Sequence[tuple[str, NDArray[Any]]], verify: bool | None
    ) -> None:
        """Compute some frames of one clip.

        Args:
            row, frames: which.
            wanted: fused taps, and where their values go: (frame, y, x, channel).
            verify: as in `read`.
        """
        for number, branch in enumerate(self.branches):
            places: dict[str, list[NDArray[Any]]] = {}
            for name, values in wanted:
                tap = self._taps[name]
                places.setdefault(tap.parts[number], []).append(values[..., tap.channels[number]])
            for part, outs in places.items():
                self._project(branch, part, row, frames, outs, verify)

    def _project(
        self,
        branch: FeatureStore,
        part: str,
        row: int,
        frames: Sequence[int],
        outs: Sequence[NDArray[Any]],
        verify: bool | None,
    ) -> None:
        """Read some frames of a tap of a branch, some at a time, and put them wherever they are wanted."""
        from store.fusion.arithmetic import project

        info = branch.info(part)
        scale = branch.scale(part, row, verify=verify) if info.scale else None
        frame_bytes = math.prod(info.shape[2:]) * info.physical.itemsize
        step = max(1, _AT_ONCE // frame_bytes)
        for start in range(0, len(frames), step):
            asked = frames[start : start + step]
            memory = self._scratch(len(asked) * frame_bytes)
            stored = memory.view(info.physical).reshape(len(asked), *info.shape[2:])
            branch.read(part, row, asked, out=stored, verify=verify)
            project(stored, info.dtype, scale, [out[start : start + step] for out in outs], self._eps)

    def _scratch(self, size: int) -> NDArray[np.uint8]:
        """Memory of this thread, the same at every call: fresh memory would cost more than what is read into it."""
        held: NDArray[np.uint8] | None = getattr(self._memory, "held", None)
        if held is None or len(held) < size:
            held = self._memory.held = np.empty(size, np.uint8)
        return held[:size]


def _reopen(folders: Sequence[Folder], mode: str) -> FusedStore:
    return FusedStore([FeatureStore(folder) for folder in folders], mode)


def _union(spans: Sequence[Coordinate]) -> NDArray[Any]:
    """First and last clip frame of all spans: (clip, frame, 2), -1 where there is none."""
    values: NDArray[Any] = np.stack([span.values for span in spans])
    first = np.where(values < 0, np.iinfo(values.dtype).max, values)[..., 0].min(0)
    last = values[..., 1].max(0)
    return np.stack([np.where(last < 0, last, first), last], axis=-1)
