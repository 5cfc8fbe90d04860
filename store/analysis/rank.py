"""How many directions features use: RankMe, and the participation ratio."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-7
"""Of RankMe, as published."""


def singular_values(gram: NDArray[np.float64], tokens: int) -> NDArray[np.float64]:
    """Singular values of Z (token, channel) from its Gram matrix ZᵀZ: the roots of the eigenvalues, largest first.

    The matrix is overwritten: a second one of 9216 channels would be 0.7 GB more.

    There are min(tokens, channels), as in a decomposition of Z itself. Eigenvalues are known to channels · 2⁻⁵² of the
    largest; those that are not larger than that are 0 here. So a singular value below about 1e-8 · √channels of the
    largest is taken for 0, where a decomposition of Z would see it down to 1e-16.
    """
    from scipy.linalg import eigvalsh

    # Overwritten where it lies, as Fortran sees it: the matrix is its own transpose.
    values = eigvalsh(gram.T, overwrite_a=True, check_finite=False)[::-1][: min(tokens, len(gram))]
    known = len(gram) * np.finfo(np.float64).eps * max(float(values[0]), 0.0)
    return np.sqrt(np.where(values > known, values, 0.0))


def rankme(singular: NDArray[np.float64]) -> float:
    """RankMe (Garrido et al. 2023, arXiv:2210.02885, equation 1): exp(-Σ p_k log p_k), p_k = σ_k / Σ_j σ_j + 1e-7.

    Between 1 and the number of singular values. 0 if all are 0: then there are no features.
    """
    total = float(singular.sum())
    if total == 0:
        return 0.0
    shares = singular / total + EPSILON
    return float(np.exp(-(shares * np.log(shares)).sum()))


def participation_ratio(scatter: NDArray[np.float64]) -> float:
    """(Σ λ)² / Σ λ² of the eigenvalues of a covariance (Gao et al. 2017, bioRxiv 214262): trace² / Frobenius norm².

    r for r directions of equal variance; of unequal ones it counts the large ones. 0 if nothing varies.
    """
    square = float(np.vdot(scatter, scatter))
    return float(np.trace(scatter)) ** 2 / square if square else 0.0
