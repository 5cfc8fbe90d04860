"""Frames are resized and normalised as the image processors of the library do, within the rounding of 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from extract.registry import make_family
from tests.extract.vlm.tiles import assert_within_rounding, pictures

BILINEAR, BICUBIC = 2, 3
"""As `preprocessor_config.json` has them: numbers of PIL."""
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CLIP = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
HALF = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]
PUBLISHED = {
    "clip-vit-l14": ("CLIPImageProcessorPil", BICUBIC, *CLIP),
    "dinov2-base": ("BitImageProcessorPil", BICUBIC, *IMAGENET),
    "dinov2-large": ("BitImageProcessorPil", BICUBIC, *IMAGENET),
    "siglip2-base": ("SiglipImageProcessorPil", BILINEAR, *HALF),
    "siglip2-so400m": ("SiglipImageProcessorPil", BILINEAR, *HALF),
    "vit-mae-base": ("ViTImageProcessorPil", BILINEAR, *IMAGENET),
    # Theirs need torchvision, and do the same: bilinear with anti-aliasing, then the constants of ImageNet.
    "dinov3-vitl16": ("ViTImageProcessorPil", BILINEAR, *IMAGENET),
    "vjepa2-vitl": ("ViTImageProcessorPil", BILINEAR, *IMAGENET),
}
"""model -> image processor, kernel, mean and standard deviation of the published file."""


@pytest.mark.parametrize("frame", ["smooth", "noise"])
@pytest.mark.parametrize("source", [(480, 640), (100, 130)], ids=["shrunk", "grown"])
@pytest.mark.parametrize("model", PUBLISHED)
def test_frames_become_what_the_processor_makes_of_them(model: str, source: tuple[int, int], frame: str) -> None:
    """The processor is told our size, and not to crop."""
    name, kernel, mean, std = PUBLISHED[model]
    ours = make_family(model).preprocessing()
    picture = pictures(*source)[frame]
    if frame == "noise" and kernel == BICUBIC:
        picture = picture // 2 + 64  # less contrast: PIL clips what overshoots between its two passes
    processor: Any = getattr(transformers, name)(
        size={"height": ours.height, "width": ours.width},
        resample=kernel,
        do_center_crop=False,
        image_mean=mean,
        image_std=std,
    )
    theirs = processor(picture.numpy(), return_tensors="np")["pixel_values"][0]
    assert theirs.shape == (3, ours.height, ours.width)
    assert_within_rounding(ours(picture[None])[0], theirs, min(std))


@pytest.mark.parametrize("model", PUBLISHED)
def test_frames_of_the_size_of_the_network_are_only_normalised(model: str) -> None:
    _, _, mean, std = PUBLISHED[model]
    ours = make_family(model).preprocessing()
    frames = pictures(ours.height, ours.width)["noise"][None]
    expected = (frames.numpy().astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    torch.testing.assert_close(ours(frames), torch.from_numpy(expected).permute(0, 3, 1, 2), atol=1e-6, rtol=1e-6)
