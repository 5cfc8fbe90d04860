"""Which frames of a clip are seen together: at random in training, in fixed windows in evaluation."""

from __future__ import annotations

import numpy as np
from jaxtyping import Integer

from probes.errors import SplitError
from probes.seeding import generator


def windows(frames: int, views: int) -> Integer[np.ndarray, "window view"]:
    """Evaluation windows: every bank position in exactly one (up to a remainder), views as far apart as possible.

    20 frames and 4 views give [0, 5, 10, 15], [1, 6, 11, 16] … [4, 9, 14, 19].
    """
    count = frames // views
    if count == 0:
        raise SplitError(f"a clip of {frames} bank frames cannot be seen in {views} views; lower --views")
    return np.arange(count)[:, None] + count * np.arange(views)[None, :]


def random_views(bank: int, views: int, *key: int | str) -> Integer[np.ndarray, " view"]:
    """Different bank positions of one sample, in the order of time; they depend on the key alone."""
    return np.sort(generator(*key).choice(bank, size=views, replace=False))
