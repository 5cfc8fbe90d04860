"""Pictures of a scan, decoded without forgiveness."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Shaped

from extract.datasets import _pictures
from extract.datasets.scannet_files.errors import FAULTS


def decode(
    content: bytes, form: Literal["JPEG", "PNG"], mode: str, where: object, size: tuple[int, int] | None = None
) -> Shaped[np.ndarray, "y x *channel"]:
    """The picture, which has to have Pillow's `mode` and, if given, the `size` (height, width). Raises `DataError`."""
    return _pictures.decode(content, form, mode, where, size, FAULTS)
