"""What is particular to the families of Qwen: their chats, how tokens are told, numbers of frames, DeepStack, sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from extract.backbones.base import Options
from extract.errors import ExtractError, WeightsError
from extract.registry import make_family
from extract.taps import listen
from extract.vision_language.backbone import ChatState, VisionLanguageBackbone
from extract.vision_language.qwen import QwenFamily
from tests.extract.video.tiny import random_clip
from tests.extract.vlm import tiny_qwen2_5_vl, tiny_qwen3_vl
from tests.extract.vlm.qwen import QWEN, QWEN3, QWEN25, rendered
from tests.extract.vlm.test_promises import features
from tests.extract.vlm.tiny import CPU, Tiny

Checkpoint = Callable[[Tiny], Path]
ALL = [*tiny_qwen2_5_vl.TINY, *tiny_qwen3_vl.TINY]
WINDOWED, WINDOWED_VIDEO, STACKED, STACKED_VIDEO = ALL
each_tiny = pytest.mark.parametrize("tiny", ALL, ids=lambda tiny: tiny.id)
each_model = pytest.mark.parametrize("model", QWEN)


def loaded(tiny: Tiny, checkpoint: Checkpoint, **options: Any) -> VisionLanguageBackbone:
    backbone = tiny.family(checkpoint(tiny), **options).load(CPU, torch.float32)
    assert isinstance(backbone, VisionLanguageBackbone)
    return backbone


def encoded(backbone: VisionLanguageBackbone, clip: Tensor) -> ChatState:
    return backbone.encode(clip, range(len(clip)), torch.Generator())


def family(model: str, **options: Any) -> QwenFamily:
    found = make_family(model, Options(**options))
    assert isinstance(found, QwenFamily)
    return found


# --- the chat ---------------------------------------------------------------------------------


@each_model
def test_images_are_told_as_the_published_template_tells_them(model: str) -> None:
    content = [{"type": "text", "text": "The following images are consecutive frames from a video.\n"}]
    for k in (1, 2, 3):
        content += [{"type": "text", "text": f"Frame{k}: "}, {"type": "image"}, {"type": "text", "text": "\n"}]
    question = {"type": "text", "text": "Describe this video."}
    for options, said in (({}, []), ({"prompt": "Where?"}, [{"type": "text", "text": "Where?\n"}])):
        expected = rendered(model, [*said, *content, question])
        assert "<|image_pad|>".join(family(model, **options).texts(3)) == expected
    assert expected.startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n") == (model in QWEN25)


@pytest.mark.parametrize("frames", [1, 3])
@each_model
def test_a_video_is_laid_out_as_the_processor_of_the_library_does(model: str, frames: int) -> None:
    """With one token for every frame; bank frames are doubled, and a second apart.

    Of Qwen3-VL, the text of a video stands in place of the template's own start and end of an image, as in the first
    release of its processor (transformers 4.57); later ones leave these around it.
    """
    from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
    from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

    start, pad, end = "<|vision_start|>", "<|video_pad|>", "<|vision_end|>"
    processor: Any = SimpleNamespace(
        video_processor=SimpleNamespace(merge_size=2, temporal_patch_size=2),
        video_token=pad,
        vision_start_token=start,
        vision_end_token=end,
        _calculate_timestamps=lambda *told: Qwen3VLProcessor._calculate_timestamps(processor, *told),
    )
    seconds = [k for k in range(frames) for _ in range(2)]
    video = {"video_grid_thw": torch.tensor([[frames, 2, 2]])}
    video["video_metadata"] = [SimpleNamespace(fps=1.0, frames_indices=seconds)]  # type: ignore[assignment]
    template = rendered(model, [{"type": "video"}, {"type": "text", "text": "Describe this video."}])
    if model in QWEN25:
        expected = template.replace(pad, Qwen2_5_VLProcessor.replace_video_token(processor, video, 0))
    else:
        expected = template.replace(start + pad + end, Qwen3VLProcessor.replace_video_token(processor, video, 0))
    assert pad.join(family(model, layout="video").texts(frames)) == expected


@each_tiny
def test_the_model_is_told_which_tokens_are_of_frames(tiny: Tiny, checkpoint: Checkpoint) -> None:
    """`mm_token_type_ids`: 0 is text, 1 an image, 2 a video; without them there would be no positions in a frame."""
    backbone = loaded(tiny, checkpoint)
    state = encoded(backbone, random_clip(3, tiny.size))
    kinds, ids = state.inputs["mm_token_type_ids"], state.inputs["input_ids"]
    assert kinds.shape == ids.shape == (1, state.tokens)
    cells = backbone.family.llm.grid[0] * backbone.family.llm.grid[1]
    expected = torch.zeros_like(kinds)
    for start in state.starts:
        expected[0, start : start + cells] = 2 if tiny.options.get("layout") == "video" else 1
    assert torch.equal(kinds, expected)
    assert len(state.starts) == 3
    untold = replace(state, inputs={**state.inputs, "mm_token_type_ids": torch.zeros_like(kinds)})
    usual = first_block(backbone, state)
    assert torch.equal(usual, first_block(backbone, state))
    assert (first_block(backbone, untold) - usual).abs().max() > 0.05 * usual.std()


@torch.inference_mode()
def first_block(backbone: VisionLanguageBackbone, state: ChatState) -> Tensor:
    """llm.0 of a chat."""
    site = backbone.family.site("llm.0")
    with listen(backbone.module, [site], stop=True) as heard:
        backbone.forward(state, None)
    return backbone.grid(site, heard[site.name], state)


# --- how many frames --------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 20])
@each_tiny
def test_one_frame_and_many_are_what_the_library_computes(tiny: Tiny, checkpoint: Checkpoint, frames: int) -> None:
    clip = random_clip(frames, tiny.size)
    got, expected = features(loaded(tiny, checkpoint), clip), tiny.straight_line(checkpoint(tiny), clip)
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    assert got["llm.1"].shape[0] == frames


@each_tiny
def test_the_first_frame_does_not_know_how_many_follow(tiny: Tiny, checkpoint: Checkpoint) -> None:
    backbone = loaded(tiny, checkpoint)
    clip = random_clip(5, tiny.size)
    alone, among = features(backbone, clip[:1]), features(backbone, clip)
    for name in alone:
        torch.testing.assert_close(among[name][:1], alone[name], atol=1e-4, rtol=1e-4)


# --- numbers of the language model --------------------------------------------------------------


@each_tiny
@torch.inference_mode()
def test_hidden_states_are_our_sites_one_on(tiny: Tiny, checkpoint: Checkpoint) -> None:
    """`hidden_states[k + 1]` is `llm.k`; the last is after the norm, and so `llm.norm`."""
    backbone = loaded(tiny, checkpoint)
    clip = random_clip(3, tiny.size)
    got, state = features(backbone, clip), encoded(backbone, clip)
    module: Any = backbone.module
    hidden = module(**state.inputs, use_cache=False, output_hidden_states=True).hidden_states
    depth = backbone.family.llm.length
    assert len(hidden) == depth + 1
    ours = {f"llm.{k}": hidden[k + 1] for k in range(depth - 1)} | {"llm.norm": hidden[depth]}
    for name, states in ours.items():
        assert torch.equal(got[name], backbone.grid(backbone.family.site(name), states, state)), name
    assert not torch.allclose(got[f"llm.{depth - 1}"], got["llm.norm"], atol=1e-2)


@pytest.mark.parametrize("tiny", [STACKED, STACKED_VIDEO], ids=lambda tiny: tiny.id)
@torch.inference_mode()
def test_deep_stack_is_added_after_what_is_read_of_the_first_blocks(tiny: Tiny, checkpoint: Checkpoint) -> None:
    """What block k + 1 is given is `llm.k`, and for k < 3 also what the merger k of DeepStack returned."""
    backbone = loaded(tiny, checkpoint)
    clip = random_clip(2, tiny.size)
    module: Any = backbone.module
    blocks, mergers = module.language_model.layers, module.visual.deepstack_merger_list
    given, stacked = [], []
    for block in blocks[1:]:
        block.register_forward_pre_hook(lambda _, args: given.append(args[0].clone()))
    for merger in mergers:
        merger.register_forward_hook(lambda *call: stacked.append(call[2].clone()))
    got, state = features(backbone, clip), encoded(backbone, clip)
    assert (len(given), len(stacked)) == (len(blocks) - 1, 3)
    rows, columns = backbone.family.llm.grid
    for k, states in enumerate(given):
        site = backbone.family.site(f"llm.{k}")
        after = backbone.grid(site, states, state)
        if k < 3:
            added = stacked[k].reshape(2, rows, columns, -1)
            assert torch.equal(after, got[site.name] + added)
            assert not torch.allclose(after, got[site.name], atol=1e-2)
        else:
            assert torch.equal(after, got[site.name])


# --- sizes and the paper ------------------------------------------------------------------------


@each_model
def test_sizes_are_multiples_of_a_token(model: str) -> None:
    side, near = (28, "532x952") if model in QWEN25 else (32, "544x960")
    for size in ((540, 960), (0, 960), (-side, 960)):
        with pytest.raises(ExtractError, match=rf"{model} takes multiples of {side} pixels\. Nearest: \d+x\d+\."):
            family(model, size=size)
    with pytest.raises(ExtractError, match=f"Nearest: {near}"):
        family(model, size=(540, 960))
    with pytest.raises(ExtractError, match=f"Nearest: {side}x{side}"):
        family(model, size=(1, 1))
    assert family(model, size=(side, 3 * side)).llm.grid == (1, 3)


@each_model
def test_the_preset_of_the_paper(model: str) -> None:
    paper, usual = family(model, preset="paper"), family(model)
    assert list(paper.default_sites()) == (["llm.20"] if model in QWEN25 else ["llm.21"])
    assert paper.llm.grid == usual.llm.grid == ((19, 34) if model in QWEN25 else (17, 30))
    assert paper.settings() == usual.settings()
    assert paper.preprocessing().model_dump()["via"] == (540, 960)
    assert paper.site("llm.20").channels == dict(zip(QWEN, (2048, 3584, 2048, 2560, 4096), strict=True))[model]


def test_the_families_are_told_apart(checkpoint: Checkpoint) -> None:
    for model, tiny in ((QWEN3[0], WINDOWED), (QWEN25[0], STACKED)):
        with pytest.raises(WeightsError, match=rf"config\.json is of a 'qwen.*', but {model} is a 'qwen"):
            make_family(model, Options(checkpoint=str(checkpoint(tiny))))
