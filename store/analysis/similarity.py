"""How alike taps are: linear CKA between those of one store, or of two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, product
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from store.analysis.batches import MOST_TOKENS, TOKENS, hsic_of_batches
from store.analysis.matching import Matched, common_rows, matched
from store.analysis.products import Pair, hsic_of_products, product_bytes
from store.errors import StoreError
from store.progress import Progress
from store.readable import Readable
from store.suggest import did_you_mean

LARGE = 1 << 28
"""Bytes of all products of features, above which `auto` takes batches of tokens: 13 pairs of 1536 channels."""
ESTIMATORS = ("debiased", "biased")
METHODS = ("auto", "features", "minibatch")
POOLS = ("grid", "frame")


@dataclass(frozen=True)
class Similarity:
    """CKA between taps.

    Attributes:
        a, b: names of the taps along both axes.
        values: CKA; NaN where a tap has no variance that it could be divided by: (tap of a, tap of b).
        clips, tokens: how many were compared.
        held: clips of the split that each store has for its taps, in common or not.
        grid: (y, x) of the tokens; `None` if each is the mean of a frame.
        method, estimator: how.
    """

    a: tuple[str, ...]
    b: tuple[str, ...]
    values: NDArray[np.float64]
    clips: int
    tokens: int
    held: tuple[int, ...]
    grid: tuple[int, int] | None
    method: Literal["features", "minibatch"]
    estimator: str


def cka(
    a: Readable | str | Path,
    b: Readable | str | Path | None = None,
    *,
    taps: Sequence[str] = (),
    taps_b: Sequence[str] = (),
    split: str | None = None,
    limit: int | None = None,
    max_tokens: int | None = None,
    pool: str = "grid",
    estimator: str = "debiased",
    method: str = "auto",
    progress: Progress | None = None,
) -> Similarity:
    """Linear CKA (Kornblith et al. 2019, arXiv:1905.00414): HSIC(X, Y) / √(HSIC(X, X) HSIC(Y, Y)).

    Args:
        a, b: stores, open or by reference, whose clips are matched by id; without b, the taps of a with each other.
        taps, taps_b: names of taps of a and of b; all if empty.
        split: only clips of this split.
        limit: only so many clips, the first ones.
        max_tokens: at most so many tokens of each clip, drawn by its id; 32 for `minibatch` if it is not given.
        pool: `grid`: tokens are cells of the coarsest grid of all, to which the others are pooled. `frame`: each token
            is the mean of a frame.
        estimator: `debiased` or `biased` HSIC, see `products.hsic_of_products`.
        method: `features`: from products of features, all tokens at once. `minibatch`: the mean over batches of
            tokens, see `batches.hsic_of_batches`. `auto`: features, unless their products are large.
        progress: hears how far it is, in bytes that are read.

    Raises:
        UnknownArrayError, MissingClipError: there is no such tap, or no clip in common.
        FusionError: taps show different parts of the image.
        StoreError: a clip differs between the stores, too few tokens, or options that do not go together.
    """
    _check_options(pool, estimator, method)
    sources = [_opened(each) for each in ((a,) if b is None else (a, b))]
    plan = matched(sources, [taps, taps_b][: len(sources)], frames_only=pool == "frame", most=max_tokens)
    rows, held = common_rows(sources, plan.sides, split, limit)
    left = [number for number, side in enumerate(plan.sides) if side.source == 0]
    right = left if b is None else [number for number in range(len(plan.sides)) if number not in left]
    pairs = list(combinations_with_replacement(left, 2)) if b is None else list(product(left, right))
    pairs += [(number, number) for number in range(len(plan.sides)) if (number, number) not in pairs]
    widths = [sources[side.source].info(side.tap).shape[-1] for side in plan.sides]
    if method == "auto":
        few = product_bytes(widths, pairs) <= LARGE or estimator == "biased"
        method = "features" if few else "minibatch"
    if method == "features":
        hsic, tokens = hsic_of_products(sources, rows, plan, pairs, estimator == "debiased", progress)
    else:
        batches, tokens = hsic_of_batches(sources, rows, _few_tokens(plan), progress)
        hsic = {(i, j): float(batches[i, j]) for i, j in pairs}
    values = np.array([[_ratio(hsic, i, j) for j in right] for i in left])
    names = [side.tap for side in plan.sides]
    return Similarity(
        tuple(names[i] for i in left),
        tuple(names[j] for j in right),
        values,
        len(rows),
        tokens,
        held,
        plan.grid,
        "features" if method == "features" else "minibatch",
        estimator,
    )


def _check_options(pool: str, estimator: str, method: str) -> None:
    for what, got, known in (("pool", pool, POOLS), ("estimator", estimator, ESTIMATORS), ("method", method, METHODS)):
        if got not in known:
            raise StoreError(did_you_mean(what, got, known))
    if method == "minibatch" and estimator == "biased":
        raise StoreError(
            "the bias of an estimator depends on how many tokens there are, so batches are not averaged with it. "
            "Choose the debiased estimator, or method features."
        )


def _opened(store: Readable | str | Path) -> Readable:
    from store.fusion.opening import open_features

    return store if isinstance(store, Readable) else open_features(store)


def _few_tokens(plan: Matched) -> Matched:
    """The plan with as few tokens of a clip as batches have room for."""
    if plan.most is not None and plan.most > MOST_TOKENS:
        raise StoreError(
            f"batches take at most {MOST_TOKENS} tokens of a clip, got {plan.most}. Ask for fewer, or for method "
            "features."
        )
    return replace(plan, most=plan.most or TOKENS)


def _ratio(hsic: Mapping[Pair, float], i: int, j: int) -> float:
    """CKA of a pair; NaN where HSIC with itself is not positive: a constant tap, or noise of very few tokens."""
    pair = (i, j) if (i, j) in hsic else (j, i)
    square = hsic[i, i] * hsic[j, j] if hsic[i, i] > 0 and hsic[j, j] > 0 else 0.0
    return hsic[pair] / math.sqrt(square) if square else math.nan
