"""Pictures as VGGT sees them, which are also the pictures that its labels are of.

Source: `load_and_preprocess_images` in mode "crop" of github.com/facebookresearch/vggt: the width becomes 518 and the
height the nearest multiple of 14, by Pillow's bicubic filter (960x540 becomes 518x294, a hundredth taller than it was);
a height above 518 is cut off at both ends.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

WIDTH, PATCH = 518, 14


def vggt_pictures(frames: UInt8[np.ndarray, "frame y x 3"]) -> UInt8[np.ndarray, "frame height width 3"]:
    """The pictures, resized and cropped."""
    from PIL import Image

    height = max(round(frames.shape[1] * (WIDTH / frames.shape[2]) / PATCH), 1) * PATCH
    seen = [np.asarray(Image.fromarray(each).resize((WIDTH, height), Image.Resampling.BICUBIC)) for each in frames]
    top = max(height - WIDTH, 0) // 2
    return np.stack(seen)[:, top : top + WIDTH]
