"""Checkpoints of one folder: what is refused, which bytes are the identity, and what is known before a fetch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from extract.backbones.base import Options
from extract.checkpoints import family as checkpoints
from extract.errors import ExtractError, WeightsError
from extract.registry import make_family
from extract.vision_language.family import VisionLanguageFamily
from tests.extract.vlm.tiny import CPU, Tiny, byte_tokenizer, numbered
from tests.extract.vlm.tiny_qwen3_vl import SPECIALS, TINY

QWEN = TINY[0]


@pytest.fixture
def folder(tmp_path: Path, checkpoint: Callable[[Tiny], Path]) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(checkpoint(QWEN), tmp_path / "copy"))


def change(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_the_identity_is_of_weights_configuration_and_tokenizer(folder: Path) -> None:
    digest = QWEN.family(folder).weights().digest
    (folder / "README.md").write_text("hello")
    (folder / ".hidden").write_text("hello")
    assert QWEN.family(folder).weights().digest == digest
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        content = (folder / name).read_bytes()
        if name == "config.json":
            change(folder / name, image_token_id=7)
        elif name == "model.safetensors":
            (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        else:
            (folder / name).write_bytes(content + b" ")
        assert QWEN.family(folder).weights().digest != digest, name
        (folder / name).write_bytes(content)
    assert QWEN.family(folder).weights().digest == digest


def test_shards_load_as_the_whole_file(folder: Path, checkpoint: Callable[[Tiny], Path]) -> None:
    from transformers import AutoModelForImageTextToText

    whole = AutoModelForImageTextToText.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    whole.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    a, b = (QWEN.family(root).load(CPU, torch.float32) for root in (checkpoint(QWEN), folder))
    for p, q in zip(a.module.parameters(), b.module.parameters(), strict=True):
        assert torch.equal(p, q)
    next(iter(sorted(folder.glob("model-*.safetensors")))).unlink()
    with pytest.raises(WeightsError, match=r"model-00001-of-\d+\.safetensors is missing"):
        QWEN.family(folder).weights()


def test_a_truncated_file_is_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(WeightsError, match=r"model\.safetensors.*cut short.*Fetch it again"):
        QWEN.family(folder).weights()


def test_weights_that_lack_a_tensor_are_refused(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.visual.blocks.0.attn.qkv.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"do not fill its network: .*visual\.blocks\.0\.attn\.qkv\.weight"):
        QWEN.family(folder).load(CPU, torch.float32)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"model_type": "llava"}, r"config\.json is of a 'llava', but qwen3-vl-2b is a 'qwen3_vl'"),
        ({"model_type": None}, r"config\.json lacks model_type"),
        ({"vision_config": None}, r"config\.json lacks vision_config"),
        ({"vision_config": 3}, r"vision_config is 3, expected an object"),
        ({"image_token_id": "many"}, r"image_token_id is 'many', expected a number"),
        ({"quantization_config": {"quant_method": "fp8"}}, r"has a quantization_config"),
        ({"vision_config": {"patch_size": 0}}, r"vision_config\.patch_size is 0, where a whole number above zero"),
        ({"vision_config": {"spatial_merge_size": -2}}, r"vision_config\.spatial_merge_size is -2, where a whole"),
        ({"text_config": {"hidden_size": 0}}, r"text_config\.hidden_size is 0, where a whole number"),
        ({"text_config": {"hidden_size": "wide"}}, r"none that Qwen3VLConfig of transformers can read"),
    ],
)
def test_what_is_wrong_in_a_configuration_is_named(folder: Path, entries: dict[str, Any], message: str) -> None:
    change(folder / "config.json", **entries)
    with pytest.raises(WeightsError, match=message):
        QWEN.family(folder).sites()


def test_the_published_folder_of_another_size_is_refused(tmp_path: Path) -> None:
    published = make_family("qwen3-vl-4b")
    assert isinstance(published, VisionLanguageFamily)
    shutil.copytree(published.published_configs / "qwen3-vl-4b", tmp_path / "4b")
    with pytest.raises(WeightsError, match=r"is that of qwen3-vl-4b, and not of qwen3-vl-2b.*--model qwen3-vl-4b"):
        make_family("qwen3-vl-2b", Options(checkpoint=str(tmp_path / "4b"))).sites()


def test_what_a_library_leaves_out_of_a_file_is_its_default(tmp_path: Path) -> None:
    """The published file and the one that the library writes of it are the same configuration."""
    from transformers import AutoConfig

    published = make_family("qwen3-vl-2b")
    assert isinstance(published, VisionLanguageFamily)
    AutoConfig.from_pretrained(published.published_configs / "qwen3-vl-2b").save_pretrained(tmp_path / "saved")
    again = make_family("qwen3-vl-2b", Options(checkpoint=str(tmp_path / "saved")))
    assert list(again.sites()) == list(published.sites())
    with pytest.raises(WeightsError, match="not of qwen3-vl-8b"):
        make_family("qwen3-vl-8b", Options(checkpoint=str(tmp_path / "saved"))).sites()


def test_a_tokenizer_that_is_missing_or_of_another_model_is_refused(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match="lacks the files of a tokenizer"):
        QWEN.family(folder).weights()
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(WeightsError, match="no tokenizer that transformers can load"):
        QWEN.family(folder).load(CPU, torch.float32)
    (folder / "tokenizer.json").write_text(text.replace("<|im_start|>", "<|other|>"))
    with pytest.raises(WeightsError, match=r"does not know '<\|im_start\|>' as single tokens"):
        QWEN.family(folder).load(CPU, torch.float32)


def test_a_tokenizer_that_has_another_token_for_images_is_refused(folder: Path) -> None:
    swapped = [
        {"<|image_pad|>": "<|video_pad|>", "<|video_pad|>": "<|image_pad|>"}.get(name, name) for name in SPECIALS
    ]
    byte_tokenizer(numbered(swapped)).save_pretrained(folder)
    with pytest.raises(WeightsError, match=r"'<\|image_pad\|>' is \[261\] to its tokenizer and 260 in config\.json"):
        QWEN.family(folder).load(CPU, torch.float32)


def test_a_tokenizer_with_more_tokens_than_the_network_is_refused(folder: Path) -> None:
    names = sorted(SPECIALS, key=lambda name: SPECIALS[name])
    more = numbered(
        [*[name.replace("<|im_start|>", "<first>") for name in names], *map(str, range(20)), "<|im_start|>"]
    )
    byte_tokenizer(more).save_pretrained(folder)
    backbone = QWEN.family(folder).load(CPU, torch.float32)
    with pytest.raises(WeightsError, match=r"gives token \d+, but the network knows 272"):
        backbone.encode(torch.zeros(1, 64, 96, 3, dtype=torch.uint8), [0], torch.Generator())


def test_an_untrained_network_needs_no_files_but_a_configuration(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "config.json":
            path.unlink()
    backbone = QWEN.family(folder, untrained=0).load(CPU, torch.float32)
    assert sum(parameter.numel() for parameter in backbone.module.parameters())
    make_family("qwen3-vl-2b", Options(untrained=3)).weights()


@pytest.mark.parametrize("size", [(64, 100), (63, 96), (70, 90)])
def test_sizes_are_multiples_of_a_token(folder: Path, size: tuple[int, int]) -> None:
    with pytest.raises(ExtractError, match=r"takes multiples of 32 pixels\. Nearest: 64x96"):
        QWEN.family(folder, size=size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "  "}, "--prompt: is empty"),
        ({"prompt": "a\udcff"}, "is no text in UTF-8"),
        ({"untrained": 0, "checkpoint": "someone/else"}, r"--checkpoint someone/else: random weights need"),
        ({"untrained": 0, "revision": "abc"}, r"--revision abc: random weights need a configuration alone"),
    ],
)
def test_what_would_change_nothing_or_break_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExtractError, match=message):
        make_family("qwen3-vl-2b", Options(**options))


# --- the hub ----------------------------------------------------------------------------------


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the hub is asked for; it answers with the tiny checkpoint."""
    asked: list[tuple[Any, ...]] = []

    def download(*what: Any) -> Path:
        asked.append(what)
        return folder

    monkeypatch.setattr(checkpoints, "download", download)
    return asked


def test_a_checkpoint_of_the_hub_must_be_what_was_planned(hub: list[Any], folder: Path) -> None:
    family = make_family("qwen3-vl-2b", Options(checkpoint="someone/else", revision="abc"))
    with pytest.raises(WeightsError, match=rf"someone/else: config\.json differs.*--checkpoint {folder}"):
        family.weights()
    (repository, revision, names, _), *_ = hub
    assert (repository, revision) == ("someone/else", "abc")
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= set(names)


def test_facts_that_change_nothing_may_differ(hub: list[Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub's file may say the same in other words; its bytes are then the identity, as they are of a copy."""
    local = QWEN.family(folder).weights()
    tiny = Path(shutil.copytree(folder, folder.parent / "published" / "qwen3-vl-2b"))
    change(tiny / "config.json", bos_token_id=5)
    monkeypatch.setattr(type(QWEN.family(folder)), "published_configs", tiny.parent)
    family = make_family("qwen3-vl-2b", Options(size=QWEN.size))
    assert family.weights().digest == local.digest
    assert family.weights().id == "Qwen/Qwen3-VL-2B-Instruct"
    assert family.load(CPU, torch.float32).module is not None
