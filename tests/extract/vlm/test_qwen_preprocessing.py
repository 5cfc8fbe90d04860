"""Sizes, pixel values and order of patches of both Qwen families, against the processors of transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from extract.backbones.base import Options
from extract.errors import ExtractError
from extract.registry import make_family
from extract.vision_language.qwen import PAPER_FRAME, QwenFamily
from tests.extract.video.tiny import random_clip
from tests.extract.vlm.qwen import (
    PROCESSOR,
    QWEN,
    QWEN25,
    VIDEO_PIXELS,
    image_processor,
    image_size,
    of_video_processor,
)
from tests.extract.vlm.tiles import assert_within_rounding, pictures

BANK = 20
SOURCES = [(480, 640), (540, 960), (968, 1296), (270, 480)]


def family(model: str, **options: Any) -> QwenFamily:
    found = make_family(model, Options(**options))
    assert isinstance(found, QwenFamily)
    return found


def told(of: QwenFamily, frames: Tensor) -> dict[str, Tensor]:
    """What the model is given for some frames."""
    given: dict[str, Tensor] = of.inputs(of.preprocessing()(frames), torch.zeros(1, 1, dtype=torch.long))
    return given


def rows(of: QwenFamily, frame: Tensor) -> Tensor:
    """Its patches, for one frame."""
    return told(of, frame[None])["pixel_values"]


def in_units(model: str, patches: Tensor) -> Tensor:
    """Rows of patches, whose values begin with colour, in units of [0, 1] but for the mean."""
    std = torch.tensor(PROCESSOR[model]["image_std"])
    return patches * std.repeat_interleave(patches.shape[1] // 3)


# --- sizes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", QWEN)
def test_the_usual_size_is_what_the_processor_makes_of_the_paper_frame(model: str) -> None:
    for preset in ("standard", "paper"):
        preprocessing = family(model, preset=preset).preprocessing()
        assert (preprocessing.height, preprocessing.width) == image_size(model, *PAPER_FRAME)
    assert family(model).llm.grid == ((19, 34) if model in QWEN25 else (17, 30))


@pytest.mark.parametrize("model", QWEN)
def test_other_sizes_are_refused_with_that_which_the_processor_would_take(model: str) -> None:
    step = family(model).side
    # Halves, odd and even, are rounded as Python does.
    sizes = [*SOURCES, (9 * step + step // 2, 12 * step + step // 2), (1080, 1920), (300, 1000)]
    assert any(size != image_size(model, *size) for size in sizes)
    for height, width in sizes:
        near = image_size(model, height, width)
        if near == (height, width):
            assert family(model, size=near).llm.grid == (height // step, width // step)
            continue
        with pytest.raises(
            ExtractError, match=rf"^size {height}x{width}: .* multiples of {step} .*Nearest: {near[0]}x{near[1]}\."
        ):
            family(model, size=(height, width))
        preprocessing = family(model, size=near).preprocessing()
        assert (preprocessing.height, preprocessing.width) == near == image_size(model, *near)


@pytest.mark.parametrize("model", QWEN)
def test_a_video_of_the_bank_would_have_the_same_size(model: str) -> None:
    smart_resize = of_video_processor(model, "smart_resize")
    least, most = VIDEO_PIXELS[model]
    preprocessing = family(model, layout="video").preprocessing()
    height, width = PAPER_FRAME
    facts = {"height": height, "width": width, "factor": family(model).side, "min_pixels": least, "max_pixels": most}
    facts |= {} if model in QWEN25 else {"num_frames": 2 * BANK}
    assert smart_resize(**facts) == (preprocessing.height, preprocessing.width)


@pytest.mark.parametrize("model", QWEN)
def test_the_limits_that_the_paper_sets_do_not_change_a_size(model: str) -> None:
    """Its code divides the limits of a video by the number of frames, and gives them to the image processor."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    least, most = (each // BANK for each in VIDEO_PIXELS[model])
    preprocessing = family(model, preset="paper").preprocessing()
    found = smart_resize(*PAPER_FRAME, family(model).side, least, most)
    assert found == (preprocessing.height, preprocessing.width)


# --- pixel values and order of patches ----------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("model", [QWEN[0], QWEN[-1]])
def test_what_the_model_is_given_is_what_the_processor_gives_it(model: str, source: tuple[int, int]) -> None:
    processor, shown = image_processor(model), pictures(*source)
    ours = family(model, size=image_size(model, *source))
    # Its middle half only: PIL clips between its two passes, which counts in noise that reaches black or white.
    for frame in (shown["smooth"], shown["noise"] // 2 + 64):
        theirs = processor(Image.fromarray(frame.numpy()), return_tensors="pt")
        given = told(ours, frame[None])
        assert given["image_grid_thw"].tolist() == theirs["image_grid_thw"].tolist()
        a, b = (in_units(model, each["pixel_values"]) for each in (given, theirs))
        assert_within_rounding(a, b, std=1)


@pytest.mark.parametrize("model", [QWEN[0], QWEN[-1]])
def test_a_frame_of_the_right_size_is_not_resized(model: str) -> None:
    size = image_size(model, *PAPER_FRAME)
    (frame,) = random_clip(1, size)
    theirs = image_processor(model)(Image.fromarray(frame.numpy()), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(rows(family(model), frame), theirs, atol=2e-6, rtol=0)


@pytest.mark.parametrize("model", [QWEN[0], QWEN[-1]])
def test_noise_from_black_to_white_is_resized_the_same_on_average(model: str) -> None:
    source = (968, 1296)
    frame = pictures(*source)["noise"]
    theirs = image_processor(model)(Image.fromarray(frame.numpy()), return_tensors="pt")["pixel_values"]
    ours = rows(family(model, size=image_size(model, *source)), frame)
    difference = in_units(model, ours - theirs).abs() * 255
    assert difference.mean() < 0.5
    assert (difference > 1.5).float().mean() < 0.02


@pytest.mark.parametrize("source", [(480, 640), (968, 1296)])
@pytest.mark.parametrize("model", [QWEN[0], QWEN[-1]])
def test_the_paper_resizes_twice(model: str, source: tuple[int, int]) -> None:
    height, width = PAPER_FRAME
    processor, shown = image_processor(model), pictures(*source)
    for name, frame in (("smooth", shown["smooth"]), ("noise", shown["noise"] // 2 + 64)):
        between = Image.fromarray(frame.numpy()).resize((width, height), Image.Resampling.BICUBIC)
        theirs = processor(between, return_tensors="pt")["pixel_values"]
        twice, once = (
            in_units(model, rows(family(model, preset=preset), frame) - theirs).abs() * 255
            for preset in ("paper", "standard")
        )
        assert twice.max() <= 3, "two resizes, each rounded twice by PIL"
        assert twice.mean() < 0.5
        if name == "noise":
            assert once.mean() > 5 * twice.mean(), "one resize would be seen"


@pytest.mark.parametrize("model", [QWEN[0], QWEN[-1]])
def test_patches_of_a_video_are_those_of_its_frames_doubled(model: str) -> None:
    ours = family(model, layout="video", size=image_size(model, 270, 480))
    frames = torch.stack([*pictures(270, 480).values(), pictures(270, 480)["noise"].flip(0)])
    images = ours.preprocessing()(frames)
    patch, merge = int(ours.tower["patch_size"]), ours.merge
    patchify = of_video_processor(model, "patchify")
    theirs, *grid = patchify(
        None, images.repeat_interleave(2, 0)[None], patch_size=patch, merge_size=merge, temporal_patch_size=2
    )
    given = told(ours, frames)
    assert given["video_grid_thw"].tolist() == [grid]
    assert torch.equal(given["pixel_values_videos"], theirs[0])
