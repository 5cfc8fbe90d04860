"""What the geometry rules of arXiv 2605.28132 share: pixels are picked by how sure the maker of the targets was."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from evaluate.errors import InputError
from evaluate.metrics.base import Arrays, same_shape, take

PERCENTILE = 75


def take_confidence(target: Arrays, valid: Bool[np.ndarray, "window view y x"]) -> Float[np.ndarray, "window view y x"]:
    """Return `confidence` of the target in float64.

    Raises:
        InputError: it is missing, of another shape than `valid`, or negative or not finite at a valid pixel.
    """
    confidence = take(target, "confidence", "window view y x", "target").astype(np.float64)
    same_shape(confidence, valid, "confidence")
    known = confidence[valid]
    if known.size and not (known.min() >= 0 and known.max() < np.inf):  # also catches NaN, which compares as false
        raise InputError(
            f"'confidence' must be finite and not negative at valid pixels; got {known.min()} .. {known.max()}"
        )
    return confidence


def most_confident(
    confidence: Float[np.ndarray, "view y x"], valid: Bool[np.ndarray, "view y x"]
) -> Bool[np.ndarray, "view y x"]:
    """Return the valid pixels whose confidence reaches the 75th percentile over the valid pixels of all views.

    All of them where all are equally sure. (The paper's targets are valid everywhere.)
    """
    if not valid.any():
        return valid
    chosen: NDArray[np.bool_] = valid & (confidence >= np.percentile(confidence[valid], PERCENTILE))
    return chosen
