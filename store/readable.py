"""What is read like a store: a store on disk, or several that are fused as they are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store.arrays import ArrayInfo
from store.clips import ClipRow
from store.digest import digest_text
from store.errors import MissingClipError, UnknownArrayError
from store.recipe import Recipe, canonical_json
from store.suggest import did_you_mean

if TYPE_CHECKING:
    from store.creation import Coordinate
    from store.reading.slot import ClipRead


class Readable(ABC):
    """Arrays of clips, with all that a reader must know of them. Threads may share one.

    Attributes:
        name: `svd/scannet`.
        urls: where the files are, a place for each store.
        recipe, fingerprint: what made the numbers.
        clips: the clip table.
        arrays: array name -> metadata.
        attrs: attributes of the Zarr group; a targets store has `classes`.
    """

    name: str
    urls: Sequence[str]
    recipe: Recipe
    fingerprint: str
    clips: list[ClipRow]
    arrays: Mapping[str, ArrayInfo]
    attrs: Mapping[str, Any]

    @property
    def url(self) -> str:
        """All places as one text."""
        return "+".join(self.urls)

    @property
    def taps(self) -> list[str]:
        """Names of the feature arrays, in execution order of their sites, then from clean to noisy."""

        def order(name: str) -> tuple[int, float]:
            attrs = self.arrays[name].attrs
            return attrs["depth"], (attrs.get("noise") or {}).get("sigma", 0.0)

        return sorted((name for name, info in self.arrays.items() if info.is_tap), key=order)

    def info(self, array: str) -> ArrayInfo:
        """Metadata of one array. Raises `UnknownArrayError` with the names there are."""
        if array not in self.arrays:
            raise UnknownArrayError(f"{self.name}: {did_you_mean('array', array, self.arrays)}")
        return self.arrays[array]

    def tap_fingerprint(self, array: str) -> str:
        """Identity of one tap: xxh3_128 over the recipe's fingerprint, the array's name and its attributes.

        The attributes hold what the recipe leaves to taps: site and noise level. Taps with the same identity hold the
        same numbers, whatever lies beside them.
        """
        return digest_text(canonical_json([self.fingerprint, array, self.info(array).attrs]))

    def rows(self, split: str | None = None, arrays: Sequence[str] = ()) -> list[int]:
        """Rows of the split that are committed for all the arrays (for any, if none is given), in order.

        Raises:
            MissingClipError: there is none; says what is there instead.
        """
        masks = [self.mask(self.info(array).name) for array in arrays or self.arrays]
        masks = masks or [np.zeros(len(self.clips), bool)]
        held = np.logical_and.reduce(masks) if arrays else np.logical_or.reduce(masks)
        rows = [clip.row for clip in self.clips if split in (None, clip.split) and held[clip.row]]
        if not rows:
            several = f"all of {len(arrays)} arrays" if len(arrays) > 4 else ", ".join(arrays)
            raise MissingClipError(
                f"{self.name}: no committed clip of split {split!r} with {several or 'any array'}; "
                f"{self.holdings()}. Finish it with `python -m extract`."
            )
        return rows

    @property
    @abstractmethod
    def state(self) -> str:
        """A digest: equal for equal contents."""

    @abstractmethod
    def reopener(self) -> Callable[[], Readable]:
        """Opens the same anew, also in another process: what is returned may be pickled, with logins and caches."""

    @abstractmethod
    def holdings(self) -> str:
        """What is committed, for messages: `the store holds 3 of split 'train'`."""

    @abstractmethod
    def coordinates(self) -> dict[str, Coordinate]:
        """The small arrays beside the taps by name: `bank_frame`, `span`. Raises `FormatError` if one is damaged."""

    @abstractmethod
    def mask(self, array: str) -> NDArray[np.bool_]:
        """Which rows are committed for the array: (clip,)."""

    @abstractmethod
    def sizes(self, array: str) -> NDArray[np.uint64]:
        """Bytes that lie on disk for every clip of the array, 0 where it is not committed: (clip,)."""

    @abstractmethod
    def read(
        self,
        array: str,
        row: int,
        frames: Sequence[int] | None = None,
        *,
        out: NDArray[Any] | None = None,
        verify: bool | None = None,
    ) -> NDArray[Any]:
        """Values of one clip: (frame, …) for framed arrays, else the whole entry. See `FeatureStore.read`."""

    @abstractmethod
    def scale(self, array: str, row: int, *, verify: bool | None = None) -> NDArray[np.float32]:
        """Scales of an `int8-channel` array: (channel,). Raises `UnknownArrayError` for another."""

    def units(self, reads: Sequence[ClipRead]) -> list[list[ClipRead]]:
        """Reads as units of work for threads: what is together in a unit is best read at once."""
        return [[read] for read in reads]

    def fill(self, unit: Sequence[ClipRead], verify: bool | None = None) -> None:
        """Read a unit of work into its places. `verify`, and what is raised, as in `read`."""
        for read in unit:
            read.run(self, verify)
