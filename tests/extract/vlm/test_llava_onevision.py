"""What is particular to LLaVA-OneVision: its chats, its tiles, what the projector reads, and its preprocessing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from extract.backbones.base import Options
from extract.backbones.llava_onevision import LlavaOnevision
from extract.errors import ExtractError, WeightsError
from extract.preprocess import Preprocessing
from extract.vision_language.backbone import VisionLanguageBackbone
from extract.vision_language.chat import lay_out
from tests.extract.video.tiny import random_clip
from tests.extract.vlm.test_promises import features
from tests.extract.vlm.tiles import assert_within_rounding, pictures
from tests.extract.vlm.tiny import CPU, Tiny
from tests.extract.vlm.tiny_llava_onevision import PATCHES, POOLED, TINY

MODEL = "llava-onevision-7b"
IMAGES, VIDEO = TINY


def loaded(tiny: Tiny, checkpoint: Callable[[Tiny], Path]) -> VisionLanguageBackbone:
    backbone = tiny.family(checkpoint(tiny)).load(CPU, torch.float32)
    assert isinstance(backbone, VisionLanguageBackbone)
    return backbone


def family(**options: Any) -> LlavaOnevision:
    return LlavaOnevision(MODEL, Options(**options))


def test_the_chats_to_the_letter() -> None:
    end = "<|im_end|>\n<|im_start|>assistant\n"
    assert "<image>".join(family().texts(2)) == (
        f"<|im_start|>user\nFrame1: <image>\nFrame2: <image>\nDescribe this video.{end}"
    )
    asked = "<image>".join(family(prompt="Where?").texts(1))
    assert asked == f"<|im_start|>user\nWhere?\nFrame1: <image>\nDescribe this video.{end}"
    for frames in (1, 3):
        texts = family(layout="video").texts(frames)
        assert len(texts) == frames + 1
        assert "".join([texts[0], "<video>", *texts[1:]]) == f"<|im_start|>user\n<video>\nDescribe this video.{end}"


def test_the_end_of_a_line_is_no_cell() -> None:
    """27 x 27 tokens and one per image; 14 x 14 per frame of a video and one after all."""
    for layout, runs, starts in (("images", [730, 730], [0, 730]), ("video", [196, 197], [0, 196])):
        each = family(layout=layout, untrained=0)
        assert each.runs(2) == runs
        tokens = lay_out(each, lambda text: list(text.encode()), 2)
        between = len(each.texts(2)[1])
        assert [start - tokens.starts[0] for start in tokens.starts] == [0, starts[1] + between]
        assert tokens.ids.count(each.placeholder) == sum(runs)


def test_one_frame_alone_is_one_tile(checkpoint: Callable[[Tiny], Path]) -> None:
    """The library's processor would cut it into several; alone it has the features that it has before others."""
    backbone = loaded(IMAGES, checkpoint)
    clip = random_clip(3, IMAGES.size)
    alone, among = features(backbone, clip[:1]), features(backbone, clip)
    for name, grid in alone.items():
        torch.testing.assert_close(grid, among[name][:1], atol=1e-4, rtol=1e-4)
        assert not torch.allclose(grid[0], among[name][1], atol=1e-2)
    state = backbone.encode(clip[:1], [0], torch.Generator())
    assert int((state.inputs["input_ids"] == backbone.family.placeholder).sum()) == PATCHES**2 + 1


def test_the_projector_reads_the_last_block_before_the_norm_of_the_tower(checkpoint: Callable[[Tiny], Path]) -> None:
    backbone = loaded(IMAGES, checkpoint)
    clip = random_clip(1, IMAGES.size)
    usual = features(backbone, clip)
    module: Any = backbone.module
    projected = module.multi_modal_projector(usual["vision.2"])
    assert torch.equal(projected, usual["merger"])
    module.vision_tower.post_layernorm.weight.data.zero_()
    assert torch.equal(features(backbone, clip)["merger"], usual["merger"])


def test_frames_of_a_video_are_pooled_after_the_projector(checkpoint: Callable[[Tiny], Path]) -> None:
    """A cell of the pooled grid is the mean of the projected patches under it, weighted by distance."""
    backbone = loaded(VIDEO, checkpoint)
    assert backbone.family.merger.grid == (PATCHES, PATCHES)
    assert backbone.family.llm.grid == (POOLED, POOLED)
    read: list[torch.Tensor] = []
    module: Any = backbone.module
    module.language_model.register_forward_pre_hook(
        lambda _, args, named: read.append(named["inputs_embeds"]), with_kwargs=True
    )
    clip = random_clip(2, VIDEO.size)
    merged = features(backbone, clip)["merger"]
    state: Any = backbone.encode(clip, [0, 1], torch.Generator())
    scale = PATCHES / POOLED
    for frame, start in enumerate(state.starts):
        cells = read[0][0, start : start + POOLED**2].reshape(POOLED, POOLED, -1)
        for y in range(POOLED):
            for x in range(POOLED):
                (top, down), (left, right) = (divmod((k + 0.5) * scale - 0.5, 1) for k in (y, x))
                expected = sum(
                    wy * wx * merged[frame, min(int(top) + dy, PATCHES - 1), min(int(left) + dx, PATCHES - 1)]
                    for dy, wy in enumerate((1 - down, down))
                    for dx, wx in enumerate((1 - right, right))
                )
                torch.testing.assert_close(cells[y, x], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("part", "entries", "message"),
    [
        (None, {"vision_feature_select_strategy": "default"}, r"is 'default' and not 'full'.*Fetch the published file"),
        ("vision_config", {"patch_size": 0}, r"vision_config\.patch_size is 0, where a whole number"),
        ("vision_config", {"image_size": [22, 44]}, r"image_size \[22, 44\] and patch_size 4 .* make no square"),
    ],
)
def test_configurations_that_the_library_does_not_fit_are_refused(
    checkpoint: Callable[[Tiny], Path], tmp_path: Path, part: str | None, entries: dict[str, Any], message: str
) -> None:
    folder = Path(shutil.copytree(checkpoint(IMAGES), tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    (config if part is None else config[part]).update(entries)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=message):
        IMAGES.family(folder)


def test_there_is_one_size() -> None:
    with pytest.raises(ExtractError, match=r"--size 768x768: llava-onevision-7b has one size\. Leave it out"):
        family(size=(768, 768))


def test_frames_are_stretched_as_the_processor_of_the_library_stretches_its_base_tile() -> None:
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

    half = [0.5, 0.5, 0.5]
    processor = LlavaOnevisionImageProcessorPil(size={"height": 384, "width": 384}, image_mean=half, image_std=half)
    # PIL clips between its two passes, which counts in noise that hardly shrinks.
    for frame in (pictures(480, 640)["smooth"], *pictures(1440, 1920).values()):
        theirs = processor(frame.numpy(), return_tensors="np")["pixel_values"][0][0]
        assert_within_rounding(family().preprocessing()(frame[None])[0], theirs, std=0.5)


def test_the_grid_ends_where_the_patches_end() -> None:
    preprocessing = family().preprocessing()
    assert preprocessing.grid_to_image(480, 640) == ((378 / 384, 0, 0), (0, 378 / 384, 0))
    assert isinstance(preprocessing, Preprocessing)
    assert preprocessing.model_dump()["covered"] == 378
