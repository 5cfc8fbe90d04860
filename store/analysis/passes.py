"""One pass over many clips, in pieces that dask runs: memory does not grow with the number of clips.

A piece reads its clips one after another with the store's own reader and adds them up in place, so that a worker holds
one sum and a part of one clip. The same covariance over the dask arrays of `store.open` (one chunk a clip) takes as
long, but holds several padded clips and one partial matrix of each: 0.9 GB where this takes 0.6 to 0.7 GB, at 1536
channels and two threads (`python -m benchmarks.analysis`). It would also have to mask what lies beyond a short bank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from store.progress import Progress
from store.readable import Readable
from store.reading.handle import StoreHandle

Item = TypeVar("Item")
T = TypeVar("T")

CLIPS = 4
"""Clips of a piece. Fixed, so that neither machine nor scheduler changes in which order numbers are added up."""


def over_clips(
    sources: Sequence[Readable],
    items: Sequence[Item],
    fold: Callable[[Sequence[Readable], Sequence[Item]], T],
    merge: Callable[[T, T], T],
    *,
    progress: Progress | None = None,
    size: int = 0,
    clips: int = CLIPS,
) -> T:
    """Fold pieces of the items and merge the results, from the first to the last.

    dask's scheduler at hand does it (`dask.config`, or an active `distributed.Client`). To other processes go the
    functions, the items, and what opens the stores anew there.

    Args:
        sources: the stores, for `fold`.
        items: what stands for the clips, such as their rows; at least one.
        fold: result of some of the items; may be pickled.
        merge: result of two pieces; changes neither.
        progress: hears how far it is, where dask's own schedulers run.
        size: bytes of the pass, for `progress`.
        clips: items of a piece.
    """
    from dask.delayed import delayed
    from threadpoolctl import threadpool_limits

    work = delayed(partial(_fold, [StoreHandle(source) for source in sources], fold), pure=False, traverse=False)
    join = delayed(merge, pure=False, traverse=False)
    pieces = [work(list(items[start : start + clips])) for start in range(0, len(items), clips)]
    total = pieces[0]
    for piece in pieces[1:]:
        total = join(total, piece)
    # One thread of BLAS for each of dask's: where both are many, they wait for each other, and longer than they work.
    with threadpool_limits(1, "blas"), _heard(progress, {piece.key: size // len(pieces) for piece in pieces}):
        result: T = total.compute()
    return result


def _fold(
    handles: Sequence[StoreHandle], fold: Callable[[Sequence[Readable], Sequence[Item]], T], items: Sequence[Item]
) -> T:
    return fold([handle.store for handle in handles], items)


def _heard(progress: Progress | None, sizes: Mapping[str, int]) -> Any:
    """A context in which every finished piece moves the progress on."""
    from dask.callbacks import Callback

    def posttask(key: str, *_: object) -> None:
        if progress is not None and key in sizes:
            progress.advance(sizes[key])

    return Callback(posttask=posttask)  # type: ignore[no-untyped-call]
