"""What is particular to InternVL: its chats, its tiles, names of tensors, and limits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from extract.backbones.base import Options
from extract.backbones.internvl import InternVL
from extract.errors import ExtractError, WeightsError
from extract.taps import listen
from extract.vision_language.backbone import VisionLanguageBackbone
from extract.vision_language.chat import lay_out
from tests.extract.video.tiny import random_clip
from tests.extract.vlm.tiny import CPU, Tiny
from tests.extract.vlm.tiny_internvl import MEAN, PAPER_SYSTEM, QWEN2, STD, TINY, network

CONTEXT = "<IMG_CONTEXT>"
QWEN_2, PAPER, QWEN_3 = TINY


@pytest.fixture
def folder(tmp_path: Path, checkpoint: Callable[[Tiny], Path]) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(checkpoint(QWEN_2), tmp_path / "copy"))


def chat(frames: int, **options: Any) -> str:
    """With one placeholder for every frame."""
    return CONTEXT.join(InternVL("internvl3-1b", Options(**options)).texts(frames))


# --- the chat ---------------------------------------------------------------------------------


def test_a_video_is_laid_out_as_the_processor_of_the_library_does() -> None:
    from transformers import InternVLProcessor

    names: Any = SimpleNamespace(
        start_image_token="<img>", end_image_token="</img>", image_token=CONTEXT, image_seq_length=1
    )
    video = {"pixel_values_videos": [torch.zeros(3, 3, 448, 448)]}
    laid_out = InternVLProcessor.replace_video_token(names, video, 0)
    end = "<|im_end|>\n<|im_start|>assistant\n"
    assert chat(3) == f"<|im_start|>user\n{laid_out}\nDescribe this video.{end}"
    assert chat(3, prompt="Where?") == f"<|im_start|>user\nWhere?\n{laid_out}\nDescribe this video.{end}"
    assert chat(1) == f"<|im_start|>user\nFrame1: <img>{CONTEXT}</img>\nDescribe this video.{end}"


def test_images_have_the_labels_of_images() -> None:
    expected = f"Image-1: <img>{CONTEXT}</img>\nImage-2: <img>{CONTEXT}</img>\nDescribe this video.<|im_end|>"
    assert expected in chat(2, layout="images")
    assert chat(2, layout="images").replace("Image-", "Frame") == chat(2)


def test_the_paper_has_the_chat_of_the_originals() -> None:
    frames = f"Frame1: <img>{CONTEXT}</img>\nFrame2: <img>{CONTEXT}</img>"
    end = "<|im_end|>\n<|im_start|>assistant\n"
    assert chat(2, preset="paper") == f"{PAPER_SYSTEM}<|im_start|>user\n{frames}{end}"
    assert chat(2, preset="paper", prompt="Where?") == f"{PAPER_SYSTEM}<|im_start|>user\nWhere?\n{frames}{end}"


@pytest.mark.parametrize("model", InternVL.models)
def test_the_paper_counts_layers_from_one(model: str) -> None:
    site = "llm.21" if "3.5" in model else "llm.17"
    assert InternVL(model, Options(preset="paper")).default_sites() == (site,)


@pytest.mark.parametrize(("model", "longest"), [("internvl3-1b", 32768), ("internvl3.5-4b", 40960)])
def test_the_longest_chat_is_that_of_which_positions_are_told_apart(model: str, longest: int) -> None:
    family = InternVL(model)
    assert family.text_limits[1] == longest
    with pytest.raises(ExtractError, match=rf"the model reads {longest}"):
        lay_out(family, lambda text: list(text.encode()), longest // 256)


def test_dynamic_positions_are_the_plain_ones_up_to_the_limit() -> None:
    from transformers import AutoConfig
    from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

    family = InternVL("internvl3-1b")
    config = AutoConfig.from_pretrained(family.published_configs / "internvl3-1b").text_config
    assert config.rope_parameters["rope_type"] == "dynamic"

    def angles(last: int, **changed: Any) -> Tensor:
        config.rope_parameters = {**config.rope_parameters, **changed}
        cosines: Tensor = Qwen2RotaryEmbedding(config)(torch.zeros(1, 1, 1), torch.tensor([[last]]))[0]
        return cosines

    limit = family.text_limits[1]
    dynamic = angles(limit - 1), angles(limit)
    plain = angles(limit - 1, rope_type="default"), angles(limit, rope_type="default")
    assert torch.equal(dynamic[0], plain[0])
    assert not torch.allclose(dynamic[1], plain[1], atol=1e-2)


# --- tiles ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cells", "contrast"), [((6, 8), 1.0), (None, 0.5)], ids=["smooth", "noise"])
@pytest.mark.parametrize("size", [(360, 640), (448, 448), (768, 1024)])
def test_frames_become_what_the_processor_of_the_library_makes_of_them(
    size: tuple[int, int], cells: tuple[int, int] | None, contrast: float
) -> None:
    """Within the rounding of its resize. Noise is of half the contrast, since the library clips between two passes."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    processor = GotOcr2ImageProcessorPil(
        size={"height": 448, "width": 448}, image_mean=MEAN, image_std=STD, resample=3, crop_to_patches=False
    )
    coarse = torch.rand(1, 3, *(cells or size), generator=torch.Generator().manual_seed(1))
    values = 0.5 + contrast * (torch.nn.functional.interpolate(coarse, size, mode="bilinear") - 0.5)
    frame = values.mul(255).round().byte()[0].permute(1, 2, 0)
    expected = torch.as_tensor(processor(frame.numpy(), return_tensors="pt")["pixel_values"])
    got = InternVL("internvl3-8b").preprocessing()(frame[None])
    assert got.shape == expected.shape == (1, 3, 448, 448)
    difference = (got - expected).abs()
    assert difference.max() <= 1.5 / 255 / min(STD)
    assert difference.mean() <= 0.4 / 255 / min(STD)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((448, 450), r"takes multiples of 28 pixels\. Nearest: 448x448"),
        ((10, 10), r"takes multiples of 28 pixels\. Nearest: 28x28"),
        ((392, 504), r"takes squares\. Nearest: 448x448"),
        ((28, 112), r"takes squares\. Nearest: 56x56"),
    ],
)
def test_other_sizes_are_squares_of_whole_tokens(size: tuple[int, int], message: str) -> None:
    with pytest.raises(ExtractError, match=message):
        InternVL("internvl3-1b", Options(size=size))
    larger = InternVL("internvl3-1b", Options(size=(560, 560)))
    assert (larger.site("vision.0").grid, larger.site("llm.0").grid) == ((40, 40), (20, 20))


@pytest.mark.parametrize("tiny", [QWEN_2, QWEN_3], ids=["56", "84"])
def test_a_token_sees_most_of_its_own_pixels(tiny: Tiny, checkpoint: Callable[[Tiny], Path]) -> None:
    backbone = tiny.family(checkpoint(tiny)).load(CPU, torch.float32)
    assert isinstance(backbone, VisionLanguageBackbone)
    site = backbone.family.site("merger")
    rows, columns = site.grid
    clip = random_clip(1, tiny.size)

    def merged(frames: Tensor) -> Tensor:
        state = backbone.encode(frames, [0], torch.Generator())
        with listen(backbone.module, [site], stop=True) as heard:
            backbone.forward(state, None)
        return backbone.grid(site, heard["merger"], state)[0]

    for y, x in ((0, 1), (rows - 1, 0)):
        other = clip.clone()
        other[0, 28 * y : 28 * (y + 1), 28 * x : 28 * (x + 1)] ^= 255
        moved = (merged(other) - merged(clip)).abs().sum(-1)
        assert divmod(int(moved.argmax()), columns) == (y, x)


# --- checkpoints ------------------------------------------------------------------------------


def parameters(folder: Path) -> dict[str, Tensor]:
    module = QWEN_2.family(folder).load(CPU, torch.float32).module
    return dict(module.named_parameters())


def test_old_and_new_names_of_tensors_give_the_same_network(folder: Path) -> None:
    from extract.checkpoints.folder import tensors_in

    expected = dict(network(QWEN2).model.named_parameters())
    old = parameters(folder)
    save_as_named(folder, network(QWEN2).state_dict())
    assert "model.language_model.layers.0.mlp.up_proj.weight" in tensors_in(folder / "model.safetensors")
    for found in (old, parameters(folder)):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_the_library_saves_loads(folder: Path) -> None:
    from transformers import AutoModelForImageTextToText

    old = parameters(folder)
    AutoModelForImageTextToText.from_pretrained(folder).save_pretrained(folder)
    new = parameters(folder)
    assert all(torch.equal(new[name], old[name]) for name in old)


def save_as_named(folder: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / "model.safetensors")


@pytest.mark.parametrize("tied", [True, False, None])
def test_whether_a_file_says_that_the_head_is_tied_does_not_matter(
    folder: Path, tied: bool | None, caplog: pytest.LogCaptureFixture
) -> None:
    old = parameters(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {} if tied is None else {"tie_word_embeddings": tied}
    (folder / "config.json").write_text(json.dumps(config))
    new = parameters(folder)
    assert all(torch.equal(new[name], old[name]) for name in old)
    assert not [record for record in caplog.records if "tie_word_embeddings = " in record.getMessage()]


@pytest.mark.parametrize(
    ("place", "entries", "message"),
    [
        (None, {"vision_feature_select_strategy": "full"}, r"vision_feature_select_strategy is 'full'.*class tokens"),
        (None, {"downsample_ratio": 0.4}, r"downsample_ratio is 0\.4, which is not one part of a whole number"),
        (None, {"downsample_ratio": 0.0}, r"downsample_ratio is 0\.0"),
        ("vision_config", {"image_size": [56, 84]}, r"image_size \[56, 84\] and patch_size \[14, 14\].*no square"),
        ("vision_config", {"image_size": [70, 70]}, r"no square of whole tokens"),
        ("vision_config", {"patch_size": [14, 7]}, r"patch_size \[14, 7\]"),
    ],
)
def test_what_the_code_of_the_library_does_not_fit_is_refused(
    folder: Path, place: str | None, entries: dict[str, Any], message: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (config if place is None else config[place]).update(entries)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=message):
        QWEN_2.family(folder)


def test_a_random_vision_tower_leaves_something_of_a_frame(folder: Path) -> None:
    """The published initializer_range would not."""
    family = InternVL("internvl3-1b", Options(untrained=0))
    assert family.config["vision_config"]["initializer_range"] == 1e-10
    drawn = QWEN_2.family(folder, untrained=0).load(CPU, torch.float32)
    weights = dict(drawn.module.named_parameters())["vision_tower.encoder.layer.0.mlp.fc1.weight"]
    assert 0.015 < float(weights.std()) < 0.025


def test_the_folders_of_other_models_are_told_apart(tmp_path: Path) -> None:
    published = InternVL("internvl3-8b").published_configs
    shutil.copytree(published / "internvl3-8b", tmp_path / "8b")
    with pytest.raises(WeightsError, match=r"is that of internvl3-8b, and not of internvl3-1b"):
        InternVL("internvl3-1b", Options(checkpoint=str(tmp_path / "8b"))).sites()
    shutil.copytree(published / "internvl3.5-8b", tmp_path / "3.5")
    with pytest.raises(WeightsError, match=r"is that of internvl3\.5-8b, and not of internvl3-8b"):
        InternVL("internvl3-8b", Options(checkpoint=str(tmp_path / "3.5"))).sites()
