"""The resize before the CLIP image encoder, against diffusers and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from extract.backbones._svd_backbone import _blur, antialiased_resize


@pytest.mark.parametrize("size", [(224, 224), (100, 300), (576, 1024), (225, 448)])
def test_resize_is_the_pipelines(size: tuple[int, int]) -> None:
    from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as reference

    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = reference._resize_with_antialiasing(image, (224, 224))
    torch.testing.assert_close(antialiased_resize(image, (224, 224)), expected, atol=2e-6, rtol=0)


def test_blur_is_the_gaussian_filter_of_scipy() -> None:
    image = torch.rand(1, 2, 20, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for axis in (-1, -2):
        expected = gaussian_filter1d(image.numpy(), 1.5, axis=axis, mode="mirror", radius=3)
        np.testing.assert_allclose(_blur(image, axis, 1.5).numpy(), expected, atol=1e-12)
