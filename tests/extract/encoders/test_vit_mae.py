"""What is particular to ViT-MAE: nothing is hidden, and patches stay in their order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from tests.extract.encoders.tiny import IMAGENET, Tiny, features, in_rows, normalised
from tests.extract.encoders.tiny_vit_mae import TINY
from tests.extract.video.tiny import random_clip

MAE = TINY[0]


@torch.no_grad()
def test_patches_are_those_that_the_library_shuffles_and_puts_back(checkpoint: Callable[[Tiny], Path]) -> None:
    """In a random order each, of which the library tells how to restore it."""
    from transformers import ViTMAEModel

    clip = random_clip(2, MAE.size)
    model = ViTMAEModel.from_pretrained(checkpoint(MAE), mask_ratio=0.0).eval()
    torch.manual_seed(1)
    output = model(normalised(clip, *IMAGENET))
    assert (output.ids_restore != torch.arange(25)).any()
    back = output.ids_restore[..., None].expand(-1, -1, 32)
    expected = in_rows(output.last_hidden_state[:, 1:].gather(1, back), 5)
    got = features(MAE.load(checkpoint(MAE)), clip)["norm"]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(got, in_rows(output.last_hidden_state[:, 1:], 5), atol=1e-2)


def test_weights_may_be_pickled_as_older_files_are(checkpoint: Callable[[Tiny], Path], tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file

    folder = Path(shutil.copytree(checkpoint(MAE), tmp_path / "old"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    clip = random_clip(1, MAE.size)
    a, b = (features(MAE.load(root), clip) for root in (checkpoint(MAE), folder))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_no_random_numbers_are_drawn(checkpoint: Callable[[Tiny], Path]) -> None:
    clip = random_clip(1, MAE.size)
    backbone = MAE.load(checkpoint(MAE))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    features(backbone, clip)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_published_configuration_would_hide_patches(checkpoint: Callable[[Tiny], Path]) -> None:
    family = MAE.family(checkpoint(MAE))
    assert family.config["mask_ratio"] == 0.75
    assert family.settings() == {"mask_ratio": 0.0}
