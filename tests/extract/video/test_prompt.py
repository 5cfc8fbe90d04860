"""The embedding of the prompt: that of the library's pipeline, computed once, kept, and never in the way."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from extract.diffusion import prompt
from extract.diffusion.prompt import prompt_embedding, text_pipeline
from extract.errors import WeightsError
from tests.extract.video.tiny import CPU, Tiny, all_tiny, t5_encoder

WAN = next(tiny for tiny in all_tiny() if tiny.model == "wan2.1-t2v-1.3b")
ONCE = list({tiny.model: tiny for tiny in all_tiny()}.values())
Embedding = dict[str, Tensor]


@pytest.fixture
def folder(checkpoint: Callable[[Tiny], Path], tmp_path: Path) -> Path:
    """A copy of a Wan checkpoint that a test may damage."""
    return Path(shutil.copytree(checkpoint(WAN), tmp_path / "wan"))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Text encoders that were loaded, in order."""
    loaded: list[str] = []
    original = prompt.load_trained

    def load(root: Path, variant: str | None, parts: Sequence[Any], dtype_of: Any) -> Any:
        loaded.extend(part.name for part in parts)
        return original(root, variant, parts, dtype_of)

    monkeypatch.setattr(prompt, "load_trained", load)
    return loaded


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "spatial-probing" / "prompts").iterdir())


def embed(folder: Path, dtype: torch.dtype = torch.float32, **options: Any) -> Embedding:
    return prompt_embedding(WAN.family(folder, **options), CPU, dtype)


def same(a: Embedding, b: Embedding) -> bool:
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


# --- what it is -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_what_the_pipeline_embeds(folder: Path, dtype: torch.dtype) -> None:
    pipeline = diffusers.WanPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True)
    with torch.no_grad():
        expected, _ = pipeline.encode_prompt("", do_classifier_free_guidance=False, max_sequence_length=512)
    got = embed(folder, dtype)
    assert same(got, {"text": expected})
    assert float(got["text"].abs().max()) > 0
    assert same(embed(folder, dtype), got)  # and from the cache


@pytest.mark.parametrize("tiny", ONCE, ids=lambda tiny: tiny.model)
def test_its_shapes_are_known_without_a_text_encoder(tiny: Tiny, checkpoint: Callable[[Tiny], Path]) -> None:
    family = tiny.family(checkpoint(tiny))
    embedding = prompt_embedding(family, CPU, torch.bfloat16)
    assert {name: tuple(tensor.shape) for name, tensor in embedding.items()} == dict(family.prompt_shapes())
    drawn = prompt_embedding(tiny.family(checkpoint(tiny), untrained=0), CPU, torch.bfloat16)
    assert {name: (each.shape, each.dtype) for name, each in drawn.items()} == {
        name: (each.shape, each.dtype) for name, each in embedding.items()
    }


def test_a_pipeline_of_text_holds_nothing_else(folder: Path) -> None:
    pipeline = text_pipeline("WanPipeline", {"text_encoder": t5_encoder()})
    present = {name for name, part in pipeline.components.items() if part is not None}
    assert present == {"text_encoder"}


# --- computed once ----------------------------------------------------------------------------------


def test_the_text_encoder_is_loaded_once(folder: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = embed(folder)
    assert loads == ["text_encoder"]
    monkeypatch.setattr(prompt, "load_trained", lambda *_: pytest.fail("loaded"))
    monkeypatch.setattr(prompt, "_tokenizer", lambda *_: pytest.fail("loaded"))
    assert same(embed(folder), first)


def test_a_backbone_holds_no_text_encoder(folder: Path) -> None:
    assert set(WAN.family(folder).load(CPU, torch.float32).networks) == {"transformer", "vae", "latent"}


def test_each_type_of_computation_has_its_own(folder: Path, loads: list[str], tmp_path: Path) -> None:
    embedded = [embed(folder, dtype) for dtype in (torch.float32, torch.bfloat16)]
    assert loads == ["text_encoder"] * 2
    assert len(kept(tmp_path)) == 2
    assert [each["text"].dtype for each in embedded] == [torch.float32, torch.bfloat16]


def test_a_moved_checkpoint_is_the_same(folder: Path, loads: list[str], tmp_path: Path) -> None:
    first = embed(folder)
    assert same(embed(folder.rename(tmp_path / "elsewhere")), first)
    assert loads == ["text_encoder"]


def test_other_networks_do_not_matter(folder: Path, loads: list[str]) -> None:
    embed(folder)
    change_weights(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    embed(folder)
    assert loads == ["text_encoder"]


@pytest.mark.parametrize("change", ["weights", "tokenizer", "prompt", "version"])
def test_another_origin_is_another_embedding(
    folder: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    first = embed(folder)
    if change == "weights":
        change_weights(folder / "text_encoder" / "model.safetensors")
    elif change == "tokenizer":
        file = folder / "tokenizer" / "tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"a": 1}))
    elif change == "prompt":
        monkeypatch.setattr(prompt, "PROMPT", "a b")
    else:
        monkeypatch.setattr(type(WAN.family(folder)), "version", 99)
    second = embed(folder)
    assert loads == ["text_encoder"] * 2
    assert len(kept(tmp_path)) == 2
    assert same(first, second) == (change in ("tokenizer", "version"))  # which changed no number here


def change_weights(path: Path) -> None:
    save_file({name: 1.1 * tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})


# --- never in the way ---------------------------------------------------------------------------


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "extract.diffusion.prompt"]


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"half", b"flipped", b"renamed", b"not finite"])
def test_a_damaged_file_is_made_again_with_a_warning(
    folder: Path, loads: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    first = embed(folder)
    (file,) = kept(tmp_path)
    sound = file.read_bytes()
    if content == b"flipped":
        content = sound[:-5] + bytes([sound[-5] ^ 1]) + sound[-4:]
    elif content == b"renamed":
        content = sound.replace(b'"text"', b'"tekt"')
    elif content == b"not finite":
        content = save({"text": torch.full_like(first["text"], torch.nan)})
    file.write_bytes(sound[: len(sound) // 2] if content == b"half" else content)
    with caplog.at_level(logging.WARNING):
        assert same(embed(folder), first)
    (record,) = told(caplog)
    assert "cannot be read" in record.message
    assert str(file) in record.message
    assert file.read_bytes() == sound
    assert loads == ["text_encoder"] * 2


def test_a_cache_that_cannot_be_written_costs_only_time(
    folder: Path, loads: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the cache should be")
    with caplog.at_level(logging.WARNING):
        assert same(embed(folder), embed(folder))
    assert loads == ["text_encoder"] * 2
    assert all("cannot be kept, so the next run computes it again" in record.message for record in told(caplog))
    assert len(told(caplog)) == 2


def test_an_untrained_network_needs_neither_text_encoder_nor_tokenizer(folder: Path, tmp_path: Path) -> None:
    (folder / "text_encoder" / "model.safetensors").unlink()
    shutil.rmtree(folder / "tokenizer")
    drawn = embed(folder, untrained=3)
    generator = torch.Generator().manual_seed(3)
    assert same(drawn, {"text": torch.randn(1, 512, 16, generator=generator)})
    assert not same(drawn, embed(folder, untrained=4))
    WAN.family(folder, untrained=3).load(CPU, torch.float32)
    WAN.family(folder, untrained=3).weights()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("left", [(), ("special_tokens_map.json",)])
def test_a_missing_tokenizer_is_named(folder: Path, left: tuple[str, ...]) -> None:
    for path in (folder / "tokenizer").iterdir():
        path.unlink()
    for name in left:
        (folder / "tokenizer" / name).write_text("{}")
    with pytest.raises(WeightsError, match=r"tokenizer.*(lacks the files|no tokenizer that transformers can load)"):
        embed(folder)


def test_a_missing_text_encoder_is_named(folder: Path) -> None:
    (folder / "text_encoder" / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"text_encoder/model\.safetensors is missing"):
        embed(folder)


def test_a_text_encoder_of_other_shapes_is_named(folder: Path) -> None:
    t5_encoder(width=24).save_pretrained(folder / "other")
    shutil.move(folder / "other" / "model.safetensors", folder / "text_encoder" / "model.safetensors")
    with pytest.raises(WeightsError, match="weights of text_encoder do not fill its network"):
        embed(folder)
