"""What readers of pictures share: decoding without forgiveness, and labels at another size."""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped

from extract.errors import DataError


def check_unforgiving(where: object) -> None:
    """Raise `DataError` if Pillow was told to fill pixels that are missing. `where` names the picture."""
    from PIL import ImageFile

    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise DataError(
            f"{where}: PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, so that missing pixels would be filled silently. "
            "Remedy: do not set it."
        )


def nearest(picture: Shaped[np.ndarray, "y x"], size: tuple[int, int]) -> Shaped[np.ndarray, "height width"]:
    """The picture stretched to `size` (height, width): each pixel is the one that its centre lies in."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for old, new in zip(picture.shape, size, strict=True)
    )
    stretched: Shaped[np.ndarray, "height width"] = picture[rows[:, None], columns]
    return stretched
