"""Checkpoints of encoders: which tensors must be there, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from extract.backbones.base import Options
from extract.checkpoints.folder import tensors_in
from extract.errors import ExtractError, WeightsError
from extract.registry import make_family
from tests.extract.encoders import tiny_clip, tiny_dinov2, tiny_siglip2, tiny_vjepa2
from tests.extract.encoders.tiny import Tiny, features
from tests.extract.video.tiny import random_clip


@pytest.fixture
def copy(tmp_path: Path, folder: Path) -> Path:
    """A checkpoint that may be changed."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture
def copy_of(tmp_path: Path, checkpoint: Callable[[Tiny], Path]) -> Callable[[Tiny], Path]:
    return lambda tiny: Path(shutil.copytree(checkpoint(tiny), tmp_path / "copy"))


def change(folder: Path, place: str | None, **entries: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (config if place is None else config[place]).update(entries)
    (folder / "config.json").write_text(json.dumps(config))


def keep(folder: Path, wanted: Callable[[str], bool]) -> int:
    """Leave some tensors out of the weight file. Returns how many are left out."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if wanted(name)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return len(tensors) - len(kept)


def test_tensors_of_what_is_not_run_may_be_missing(tiny: Tiny, folder: Path, copy: Path) -> None:
    left_out = keep(copy, lambda name: not name.startswith(tiny.others))
    assert (left_out > 0) == bool(tiny.others)
    found, expected = (dict(tiny.load(where).module.named_parameters()) for where in (copy, folder))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_every_tensor_of_the_encoder_must_be_there(tiny: Tiny, copy: Path) -> None:
    names = [name for name in tensors_in(copy / "model.safetensors") if not name.startswith(tiny.others)]
    whole = (copy / "model.safetensors").read_bytes()
    for missing in names[:: max(1, len(names) // 5)]:
        assert keep(copy, lambda name, missing=missing: name != missing) == 1
        with pytest.raises(WeightsError, match=r"the weights of model do not fill its network: "):
            tiny.load(copy)
        (copy / "model.safetensors").write_bytes(whole)


def test_a_tensor_of_another_shape_is_refused(tiny: Tiny, copy: Path) -> None:
    change(copy, "vision_config" if tiny.family(copy).whole else None, hidden_size=64)
    with pytest.raises(WeightsError, match=r"the weights of model do not fill its network: "):
        tiny.load(copy)


def test_a_model_of_another_kind_is_refused(tiny: Tiny, copy: Path) -> None:
    change(copy, None, model_type="vit")
    with pytest.raises(WeightsError, match=rf"config\.json is of a 'vit', but {tiny.model} is a '"):
        tiny.family(copy)


@pytest.mark.parametrize(
    ("of", "place", "entries", "message"),
    [
        (tiny_dinov2, None, {"image_size": [40, 32]}, r"image_size is \[40, 32\], expected a number such as 518"),
        (tiny_dinov2, None, {"image_size": 7}, r"a side of 7 and patch_size 8 make no square of patches"),
        (tiny_dinov2, None, {"patch_size": 0}, r"patch_size is 0, where a whole number above zero is needed"),
        (tiny_dinov2, None, {"hidden_size": None}, r"config\.json lacks hidden_size"),
        (tiny_clip, None, {"vision_config": None}, r"config\.json lacks vision_config"),
        (tiny_clip, None, {"vision_config": 3}, r"vision_config is 3, expected an object"),
        (tiny_clip, "vision_config", {"hidden_size": "wide"}, r"none that CLIPConfig of transformers can read"),
        (tiny_siglip2, "vision_config", {"image_size": [40, 40]}, r"a side of \[40, 40\] and patch_size 8"),
        (tiny_vjepa2, None, {"crop_size": "large"}, r"crop_size is 'large', expected a number such as 256"),
        (tiny_vjepa2, None, {"frames_per_clip": None}, r"config\.json lacks frames_per_clip"),
    ],
)
def test_what_the_code_does_not_fit_is_named(
    copy_of: Callable[[Tiny], Path], of: Any, place: str | None, entries: dict[str, Any], message: str
) -> None:
    tiny: Tiny = of.TINY[0]
    folder = copy_of(tiny)
    change(folder, place, **entries)
    with pytest.raises(WeightsError, match=message):
        tiny.family(folder)


def test_the_folder_of_another_model_of_the_family_is_refused(tmp_path: Path) -> None:
    for model, other in (("dinov2-base", "dinov2-large"), ("siglip2-so400m", "siglip2-base")):
        family: Any = make_family(other)
        folder = shutil.copytree(family.published_configs / other, tmp_path / other)
        with pytest.raises(WeightsError, match=rf"is that of {other}, and not of {model}.*--model {other}"):
            make_family(model, Options(checkpoint=str(folder)))


def test_more_frames_than_in_training_are_refused(checkpoint: Callable[[Tiny], Path]) -> None:
    """V-JEPA 2 counts frames, and was trained on so many."""
    tiny = tiny_vjepa2.TINY[0]
    family = tiny.family(checkpoint(tiny))
    assert family.window(99, range(10)) == (list(range(10)), list(range(10)))
    with pytest.raises(ExtractError, match=r"11 bank frames, each 2 times, are more than the 20 frames of a clip"):
        family.window(99, range(11))
    assert features(tiny.load(checkpoint(tiny)), random_clip(10, tiny.size))["norm"].isfinite().all()


def test_a_clip_of_one_frame_is_a_clip(tiny: Tiny, folder: Path) -> None:
    clip = random_clip(1, tiny.size)
    expected = tiny.straight_line(folder, clip)
    for name, grid in features(tiny.load(folder), clip).items():
        assert torch.equal(grid, expected[name]), name
