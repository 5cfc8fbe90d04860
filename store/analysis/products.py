"""HSIC of linear kernels between taps, in feature space: from products of features, whatever the number of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from store.analysis.covariance import panels
from store.analysis.matching import Matched, Rows, size
from store.analysis.passes import over_clips
from store.errors import StoreError
from store.progress import Progress
from store.readable import Readable

_PASS = 1 << 26
"""Bytes of products that are added up in one pass, if one panel is not more."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Panel:
    """Some columns of the product XᵀY of a pair of sides."""

    pair: Pair
    start: int
    stop: int


@dataclass
class Sums:
    """What is added up in one pass.

    Attributes:
        products: XᵀY of the centred tokens, for each panel: (channel of X, some channels of Y).
        norms: Σ ‖x‖² ‖y‖² of the centred tokens, for each pair.
        squares: Σ ‖x‖², for each side.
    """

    products: dict[Panel, NDArray[np.float64]] = field(default_factory=dict)
    norms: dict[Pair, float] = field(default_factory=dict)
    squares: dict[int, float] = field(default_factory=dict)


def product_bytes(widths: Sequence[int], pairs: Sequence[Pair]) -> int:
    """Bytes of the products of all pairs of sides."""
    return sum(8 * widths[i] * widths[j] for i, j in pairs)


def hsic_of_products(
    sources: Sequence[Readable],
    rows: Sequence[Rows],
    plan: Matched,
    pairs: Sequence[Pair],
    debiased: bool,
    progress: Progress | None = None,
) -> tuple[dict[Pair, float], int]:
    """HSIC of each pair of sides, which must contain each side paired with itself; and the number of tokens.

    With X and Y less their column means, K = X Xᵀ and L = Y Yᵀ: biased, tr(KL) = ‖XᵀY‖² (Kornblith et al. 2019,
    arXiv:1905.00414, equation 3), up to a factor that CKA does not see. Debiased, HSIC_1 of Song et al. 2012 (JMLR 13),
    the estimator of Nguyen et al. 2021 (arXiv:2010.15327, equation 3), over all n tokens at once. Rows of centred
    kernels add up to 0, so that for kernels with zeros on the diagonal

        tr(K̃L̃) = ‖XᵀY‖² - Σ‖x‖²‖y‖²,  1ᵀK̃1 = -Σ‖x‖²,  1ᵀK̃L̃1 = Σ‖x‖²‖y‖²,

    and no n x n matrix is ever made. One pass takes the means; the products take as many more as keep them small.

    Raises:
        StoreError: fewer tokens than the estimator needs.
    """
    passes = _passes([sources[side.source].info(side.tap).shape[-1] for side in plan.sides], pairs)
    sizes = [size(sources, [plan.sides[number] for number in _wanted(some)], rows) for some in passes]
    first = size(sources, plan.sides, rows)
    if progress is not None:
        progress.start(first + sum(sizes))
    count, means = over_clips(sources, rows, partial(_fold_means, plan), _merge_means, progress=progress, size=first)
    least = 4 if debiased else 2
    if count < least:
        estimator = "debiased" if debiased else "biased"
        raise StoreError(
            f"{sources[0].name}: {len(rows)} clips have {count} tokens, and the {estimator} estimator needs {least}. "
            "Take more clips or tokens."
        )
    found: dict[Pair, float] = dict.fromkeys(pairs, 0.0)
    norms: dict[Pair, float] = {}
    squares: dict[int, float] = {}
    for some, bytes_read in zip(passes, sizes, strict=True):
        fold = partial(_fold_products, plan, means, some)
        sums = over_clips(sources, rows, fold, _merge_sums, progress=progress, size=bytes_read)
        for panel, product in sums.products.items():
            found[panel.pair] += float(np.vdot(product, product))
        norms |= sums.norms
        squares |= sums.squares
    if debiased:
        for i, j in pairs:
            trace = found[i, j] - count / (count - 2) * norms[i, j]
            trace += squares[i] * squares[j] / ((count - 1) * (count - 2))
            found[i, j] = trace / (count * (count - 3))
    return found, count


def _passes(widths: Sequence[int], pairs: Sequence[Pair]) -> list[list[Panel]]:
    """Panels of all pairs, as many in a pass as fit."""
    passes: list[list[Panel]] = []
    held = 0
    for i, j in pairs:
        for start, stop in panels_of(widths[i], widths[j]):
            more = 8 * widths[i] * (stop - start)
            if not passes or held + more > _PASS:
                passes.append([])
                held = 0
            passes[-1].append(Panel((i, j), start, stop))
            held += more
    return passes


def _wanted(some: Iterable[Panel]) -> list[int]:
    """Sides that are read for the panels."""
    return sorted({number for panel in some for number in panel.pair})


def panels_of(rows: int, columns: int) -> list[tuple[int, int]]:
    """Columns of a product that has so many rows, cut into panels."""
    width = panels(rows)[0][1]
    return [(start, min(start + width, columns)) for start in range(0, columns, width)]


Means = tuple[int, list[NDArray[np.float64]]]


def _fold_means(plan: Matched, sources: Sequence[Readable], rows: Sequence[Rows]) -> Means:
    sides = range(len(plan.sides))
    total: Means | None = None
    for each in rows:
        for tokens in plan.tokens(sources, each, sides):
            here = len(tokens[0]), [tokens[number].mean(0) for number in sides]
            total = here if total is None else _merge_means(total, here)
    assert total is not None
    return total


def _merge_means(a: Means, b: Means) -> Means:
    count = a[0] + b[0]
    return count, [x + (y - x) * (b[0] / count) for x, y in zip(a[1], b[1], strict=True)]


def _fold_products(
    plan: Matched,
    means: Sequence[NDArray[np.float64]],
    some: Sequence[Panel],
    sources: Sequence[Readable],
    rows: Sequence[Rows],
) -> Sums:
    wanted = _wanted(some)
    total = Sums(
        {panel: np.zeros((len(means[panel.pair[0]]), panel.stop - panel.start)) for panel in some},
        {panel.pair: 0.0 for panel in some if panel.start == 0},
        {panel.pair[0]: 0.0 for panel in some if panel.start == 0 and panel.pair[0] == panel.pair[1]},
    )
    for each in rows:
        for tokens in plan.tokens(sources, each, wanted):
            centred = {number: values - means[number] for number, values in tokens.items()}
            lengths = {number: np.einsum("tc,tc->t", values, values) for number, values in centred.items()}
            for panel, product in total.products.items():
                i, j = panel.pair
                product += centred[i].T @ centred[j][:, panel.start : panel.stop]
            for i, j in total.norms:
                total.norms[i, j] += float(lengths[i] @ lengths[j])
            for number in total.squares:
                total.squares[number] += float(lengths[number].sum())
    return total


def _merge_sums(a: Sums, b: Sums) -> Sums:
    return Sums(
        {panel: product + b.products[panel] for panel, product in a.products.items()},
        {pair: value + b.norms[pair] for pair, value in a.norms.items()},
        {number: value + b.squares[number] for number, value in a.squares.items()},
    )
