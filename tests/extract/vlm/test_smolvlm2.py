"""What is particular to SmolVLM2: its chats, frames of zeros, its kernel of resizing, and random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extract import lanczos
from extract.backbones.base import Options
from extract.backbones.smolvlm2 import SmolVLM2, in_words
from extract.checkpoints.loading import draw
from extract.checkpoints.model_family import MODEL
from extract.errors import ExtractError, WeightsError
from extract.vision_language.backbone import VisionLanguageBackbone
from tests.extract.video.tiny import random_clip
from tests.extract.vlm.test_promises import features
from tests.extract.vlm.tiles import assert_within_rounding, pictures
from tests.extract.vlm.tiny import CPU, Tiny
from tests.extract.vlm.tiny_smolvlm2 import CELLS, SIDE, TINY

IMAGES, VIDEO = TINY
OPEN, CLOSE = "<fake_token_around_image><global-img>", "<fake_token_around_image>"


@pytest.fixture
def backbone(checkpoint: Callable[[Tiny], Path]) -> VisionLanguageBackbone:
    loaded = IMAGES.family(checkpoint(IMAGES)).load(CPU, torch.float32)
    assert isinstance(loaded, VisionLanguageBackbone)
    return loaded


def chat(frames: int, **options: Any) -> str:
    """With one placeholder for every frame."""
    return "<image>".join(SmolVLM2("smolvlm2-2.2b", Options(**options)).texts(frames))


# --- the chat ---------------------------------------------------------------------------------


def test_images_to_the_letter() -> None:
    assert chat(2) == (
        f"<|im_start|>User: Frame1: {OPEN}<image>{CLOSE}\nFrame2: {OPEN}<image>{CLOSE}\n"
        "Describe this video.<end_of_utterance>\nAssistant:"
    )
    assert chat(1, prompt="Where?") == (
        f"<|im_start|>User: Where?\nFrame1: {OPEN}<image>{CLOSE}\nDescribe this video.<end_of_utterance>\nAssistant:"
    )


def test_a_video_to_the_letter() -> None:
    text = chat(75, layout="video")
    assert text.startswith(
        "<|im_start|>User: You are provided the following series of seventy-five frames from a 0:01:15 [H:MM:SS] "
        f"video.\n\nFrame from 00:00:{OPEN}<image>{CLOSE}\nFrame from 00:01:{OPEN}<image>{CLOSE}\nFrame from 00:02:"
    )
    end = "\n\nDescribe this video.<end_of_utterance>\nAssistant:"
    assert text.endswith(f"\nFrame from 01:14:{OPEN}<image>{CLOSE}{end}")
    assert text.count("<image>") == 75
    assert chat(1, layout="video") == (
        "<|im_start|>User: You are provided the following series of one frames from a 0:00:01 [H:MM:SS] video.\n"
        f"\nFrame from 00:00:{OPEN}<image>{CLOSE}{end}"
    )


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1, "one"),
        (12, "twelve"),
        (20, "twenty"),
        (21, "twenty-one"),
        (99, "ninety-nine"),
        (100, "one hundred"),
        (110, "one hundred and ten"),
        (999, "nine hundred and ninety-nine"),
        (1000, "one thousand"),
        (1001, "one thousand and one"),
        (1234, "one thousand, two hundred and thirty-four"),
        (12345, "twelve thousand, three hundred and forty-five"),
    ],
)
def test_numbers_in_words(number: int, words: str) -> None:
    assert in_words(number) == words


def test_a_frame_is_eighty_one_tokens() -> None:
    family = SmolVLM2("smolvlm2-2.2b")
    assert family.vision.grid == (27, 27)
    assert family.merger.grid == family.llm.grid == (9, 9)
    assert family.runs(2) == [81, 81]


@pytest.mark.parametrize("scale_factor", [0, 4])
def test_a_side_is_a_whole_number_of_tokens(
    checkpoint: Callable[[Tiny], Path], tmp_path: Path, scale_factor: int
) -> None:
    config = json.loads((checkpoint(IMAGES) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "scale_factor": scale_factor}))
    with pytest.raises(WeightsError, match=rf"scale_factor is {scale_factor}, which does not divide the 6 patches"):
        IMAGES.family(tmp_path)


# --- frames that the library would take for padding ---------------------------------------------


def test_a_black_frame_is_not_padding(backbone: VisionLanguageBackbone) -> None:
    """Black is -1 to the network. It has features of its own, and the frames after it keep their places."""
    clip = random_clip(3, IMAGES.size)
    clip[1] = 0
    whole = features(backbone, clip)
    assert all(len(grid) == 3 for grid in whole.values())
    alone = features(backbone, torch.zeros_like(clip[:1]))
    for name in ("vision.2", "merger"):
        torch.testing.assert_close(whole[name][1:2], alone[name], atol=1e-5, rtol=1e-4)
        last = features(backbone, clip[2:])[name]
        torch.testing.assert_close(whole[name][2:], last, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_frame_of_zeros_is_not_dropped(backbone: VisionLanguageBackbone, dtype: torch.dtype) -> None:
    """Grey between 127 and 128, which the library's model takes for padding, and drops."""
    images = torch.rand(3, 3, SIDE, SIDE) - 0.5
    images[1] = 0
    seen: list[torch.Tensor] = []
    module: Any = backbone.module.to(dtype)
    module.vision_model.register_forward_pre_hook(
        lambda _, args, named: seen.append(named["pixel_values"]), with_kwargs=True
    )
    text = [backbone.family.placeholder] * (3 * CELLS**2)
    inputs = backbone.family.inputs(images.to(dtype), torch.tensor([text]))
    module(**inputs, use_cache=False)
    (got,) = seen
    assert got.shape == images.shape
    assert torch.equal(got[[0, 2]], images[[0, 2]].to(dtype))
    plain = module.vision_model.embeddings(torch.zeros_like(got[1:2]), torch.ones(1, 6, 6, dtype=torch.bool))
    kept = module.vision_model.embeddings(got[1:2], torch.ones(1, 6, 6, dtype=torch.bool))
    torch.testing.assert_close(kept, plain, atol=1e-4, rtol=0)
    images[1] = 0.25
    assert torch.equal(backbone.family.inputs(images, torch.tensor([text]))["pixel_values"][0], images)


# --- preprocessing ------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(864, 1536), (1536, 1152)])
def test_frames_are_resized_as_the_processor_of_the_library_does(height: int, width: int) -> None:
    """Of this size it resizes a frame but once, like us: its first resize is to a longest side of 1536."""
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    half = [0.5, 0.5, 0.5]
    sizes: dict[str, Any] = {"size": {"longest_edge": 1536}, "max_image_size": {"longest_edge": 384}}
    processor = SmolVLMImageProcessorPil(**sizes, resample=1, image_mean=half, image_std=half, do_image_splitting=False)
    for frame in pictures(height, width).values():
        theirs = processor(frame.numpy(), return_tensors="np")["pixel_values"][0][0]
        assert_within_rounding(SmolVLM2("smolvlm2-2.2b").preprocessing()(frame[None])[0], theirs, std=0.5)


def test_the_kernel_is_that_of_pil_when_frames_grow_too() -> None:
    from PIL import Image

    frame = pictures(90, 160)["smooth"]
    theirs = Image.fromarray(frame.numpy()).resize((384, 384), Image.Resampling.LANCZOS)
    ours = lanczos.resize(frame.permute(2, 0, 1).float() / 255, 384, 384)
    assert_within_rounding(ours, np.asarray(theirs).transpose(2, 0, 1) / np.float32(255), std=1)
    torch.testing.assert_close(lanczos.resize(torch.ones(1, 7, 5), 20, 3), torch.ones(1, 20, 3))


def test_there_is_one_size() -> None:
    with pytest.raises(ExtractError, match=r"smolvlm2-2\.2b has one size"):
        SmolVLM2("smolvlm2-2.2b", Options(size=(378, 378)))


def test_the_grid_ends_where_the_patches_end() -> None:
    assert SmolVLM2("smolvlm2-2.2b").preprocessing().grid_to_image(480, 640) == ((378 / 384, 0, 0), (0, 378 / 384, 0))


# --- random weights -----------------------------------------------------------------------------


def test_random_weights_do_not_depend_on_the_type_of_the_trained_ones(checkpoint: Callable[[Tiny], Path]) -> None:
    """The library would draw the language model in the type that its part of the configuration names."""
    family = IMAGES.family(checkpoint(IMAGES), untrained=0)
    usual = dict(family.configs[MODEL])
    short = {**usual, "text_config": {**usual["text_config"], "dtype": "bfloat16"}}
    a, b = (
        draw({MODEL: config}, family.networks, 0, lambda part: torch.float32)[MODEL].state_dict()
        for config in (usual, short)
    )
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
