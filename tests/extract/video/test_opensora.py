"""Open-Sora 2: its files, what its network is told, its noise, and the preset of the paper."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from extract.backbones.base import Options
from extract.backbones.opensora import OpenSora, time_shift
from extract.diffusion.backbone import LatentVideoBackbone
from extract.diffusion.prompt import prompt_embedding
from extract.errors import ExtractError, WeightsError
from tests.extract.video.hunyuan_vae import without_statistics
from tests.extract.video.spans import check_spans
from tests.extract.video.test_folder import COMMIT, Hub
from tests.extract.video.test_promises import encode, features
from tests.extract.video.tiny import CPU, Tiny, in_range, random_clip, t5_encoder
from tests.extract.video.tiny_opensora import CLIP_FOLDER, T5_FOLDER, TINY, embedding, load_vae, straight_line

TINY_MODEL = TINY[0]
TRANSFORMER = "Open_Sora_v2.safetensors"
PAPER_BANK = [0, *range(1, 76, 4)]


@pytest.fixture
def folder(checkpoint: Callable[[Tiny], Path]) -> Path:
    return checkpoint(TINY_MODEL)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may damage."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def load(folder: Path, **options: Any) -> LatentVideoBackbone:
    return TINY_MODEL.family(folder, **options).load(CPU, torch.float32)


def family(**options: Any) -> OpenSora:
    return OpenSora("opensora-2", Options(**options))


# --- noise and the preset of the paper ----------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "tokens", "latents", "expected"),
    [
        (0.25, 1590, 33, 0.764444),  # 129 frames of 480 x 848
        (0.5, 1590, 33, 0.906854),
        (0.6, 1590, 33, 0.935913),
        (0.25, 252, 33, 0.656459),  # 129 frames of 192 x 336
        (0.25, 256, 1, 0.25),  # an image of 256 x 256 is not shifted
        (0.0, 1590, 33, 0.0),
        (1.0, 1590, 33, 1.0),
    ],
)
def test_the_shift_of_the_published_sampler(time: float, tokens: int, latents: int, expected: float) -> None:
    assert time_shift(time, tokens, latents) == pytest.approx(expected, abs=1e-6)


def test_the_paper_is_its_time_shifted_and_its_layers() -> None:
    paper = family(preset="paper")
    assert paper.default_levels() == ["sigma=0.7644"]
    assert paper.noise_level("sigma=0.7644").name == "sigma0.7644"
    assert paper.default_sites() == ("single_blocks.18", "single_blocks.20")
    assert paper.condition_frame == "first"
    assert family(preset="paper", size=(192, 336)).default_levels() == ["sigma=0.6565"]
    assert family().default_levels() == ("t=200", "t=500", "t=800")


def test_the_papers_bank_is_the_first_latents_of_the_plain_clip_held_at_its_end() -> None:
    paper = family(preset="paper")
    numbers, positions = paper.window(81, PAPER_BANK)
    assert numbers == [*range(81), *[80] * 48]
    assert positions == tuple(PAPER_BANK)
    assert [-(-p // 4) for p in positions] == list(range(20))
    assert paper.latent_shape == (16, 33, 60, 106)


def test_noise_is_that_of_the_published_training(folder: Path) -> None:
    """It leaves 1e-5 of the noise at sigma = 0; we do not."""
    latents, noise = torch.randn(2, 1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    for sigma in (0.1, 0.7644, 0.99):
        level = family().noise_level(f"sigma={sigma}")
        published = (1 - sigma) * latents + (1 - (1 - 1e-5) * (1 - sigma)) * noise
        torch.testing.assert_close(family().schedule.mix(latents, noise, level), published, atol=1e-4, rtol=0)
    backbone = load(folder)
    told: list[Tensor] = []
    network = backbone.networks["transformer"]
    network.register_forward_pre_hook(lambda _, __, named: told.append(named["time"]), with_kwargs=True)
    state = encode(backbone, random_clip(9, TINY_MODEL.size), [0])
    features(backbone, state, "sigma=0.7644")
    assert torch.cat(told).tolist() == pytest.approx([0.7644], abs=1e-7)  # not 764.4: it multiplies itself


@pytest.mark.parametrize("options", [{}, {"preset": "paper"}])
def test_a_time_of_the_published_code_is_not_taken_for_a_timestep(options: dict[str, Any]) -> None:
    with pytest.raises(ExtractError, match=r"t=0\.25.*sigma=0\.7644.*129 frames of 480x848"):
        family(**options).noise_level("t=0.25")
    assert family(**options).noise_level("t=250").sigma == 0.25
    assert family(**options).noise_level("sigma=0.25").sigma == 0.25


@pytest.mark.parametrize("text", ["t=1000", "sigma=0", "sigma=1", "0.25"])
def test_noise_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ExtractError, match="noise level"):
        family().noise_level(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (480, 850)}, r"size 480x850: opensora-2 takes multiples of 16 pixels\. Nearest: 480x848\."),
        ({"frames": 128}, r"window of 128 frames: .* 4 n \+ 1 frames\. Nearest: 129\."),
    ],
)
def test_sizes_and_lengths_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExtractError, match=message):
        family(**options).sites()


# --- what the network is told -------------------------------------------------------------------


def test_without_a_condition_it_is_told_zeros(folder: Path) -> None:
    backbone = load(folder, condition="none")
    clip = random_clip(9, TINY_MODEL.size)
    state = encode(backbone, clip, [0, 1, 5])
    got = features(backbone, state, "sigma=0.3")
    noise = torch.randn(1, *backbone.family.latent_shape, generator=torch.Generator().manual_seed(0))
    expected = straight_line(folder, in_range(clip), noise, backbone.family.noise_level("sigma=0.3"))
    assert all(torch.equal(got[name], expected[name]) for name in got)
    assert not state.told[0]["condition"].any()


@pytest.mark.parametrize(("choice", "at"), [("first", 0), ("last", 2)])
def test_a_condition_is_a_mask_and_the_latent_of_its_frame_alone(folder: Path, choice: str, at: int) -> None:
    backbone = load(folder, condition=choice)
    clip = random_clip(9, TINY_MODEL.size)
    state = encode(backbone, clip, [0])
    told = state.told[0]["condition"][0]
    frame = in_range(clip)[0 if choice == "first" else -1]
    with torch.no_grad():
        alone = load_vae(folder).encode(frame[None, :, None]).latent_dist.mode() * 0.476986
    assert torch.equal(told[1:, at], alone[0, :, 0])
    assert (told[0, at] == 1).all()
    others = [t for t in range(3) if t != at]
    assert not told[:, others].any()
    assert float((told[1:, at] - state.latents[0, :, at]).abs().max()) > 1e-3  # not the latent that the clip gives it


def test_conditions_differ_in_every_block(folder: Path) -> None:
    clip = random_clip(9, TINY_MODEL.size)
    found = []
    for choice in ("first", "last", "none"):
        backbone = load(folder, condition=choice)
        found.append(features(backbone, encode(backbone, clip, [0, 5]), "sigma=0.5"))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        for name in found[0]:
            assert float((found[a][name] - found[b][name]).abs().max()) > 1e-3, name
    assert family().conditions == ("first", "last", "none")
    assert family().settings()["condition"] == "first"


def test_the_prompt_is_t5_with_its_padding_and_clips_pooled_state(folder: Path) -> None:
    from transformers import CLIPModel

    text, pooled = embedding(folder)
    got = prompt_embedding(TINY_MODEL.family(folder), CPU, torch.float32)
    assert torch.equal(got["text"], text)
    assert torch.equal(got["pooled"], pooled)
    assert tuple(text.shape) == (1, 512, 16)
    clip = CLIPModel.from_pretrained(folder / CLIP_FOLDER, attn_implementation="eager", local_files_only=True)
    with torch.no_grad():
        whole = clip.text_model(torch.tensor([[4] + [5] * 76]))
    torch.testing.assert_close(pooled, whole.pooler_output)
    torch.testing.assert_close(pooled, whole.last_hidden_state[:, 1])  # at the first end of text
    assert pooled.shape[-1] != clip.config.projection_dim
    with torch.no_grad():
        t5 = t5_encoder(16)
        loaded = {**torch.load(folder / T5_FOLDER / "pytorch_model-00001-of-00002.bin", weights_only=True)}
        loaded |= torch.load(folder / T5_FOLDER / "pytorch_model-00002-of-00002.bin", weights_only=True)
        t5.load_state_dict(loaded)
        torch.testing.assert_close(t5.eval()(torch.tensor([[1] + [0] * 511])).last_hidden_state, text)
        alone = t5(torch.tensor([[1] + [0] * 511]), attention_mask=torch.tensor([[1] + [0] * 511])).last_hidden_state
    assert not torch.allclose(alone, text, atol=1e-3)


def test_padding_of_the_text_is_attended_to(folder: Path) -> None:
    backbone = load(folder)
    clip = random_clip(9, TINY_MODEL.size)
    state = encode(backbone, clip, [0])
    before = features(backbone, state, "sigma=0.5")
    backbone.prompt["text"] = backbone.prompt["text"].clone()
    backbone.prompt["text"][:, 1:] *= -1
    after = features(backbone, state, "sigma=0.5")
    assert all(float((before[name] - after[name]).abs().max()) > 1e-3 for name in before)


def test_the_latents_of_a_bank_frame_are_those_its_span_names(folder: Path) -> None:
    backbone = load(folder)
    without_statistics(backbone.networks["vae"])
    check_spans(backbone)


# --- files --------------------------------------------------------------------------------------


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], None], file: str = TRANSFORMER) -> None:
    tensors = load_file(folder / file)
    change(tensors)
    save_file(tensors, folder / file)


@pytest.mark.parametrize(
    ("name", "tensor", "problem"),
    [
        ("single_blocks.2.v_mlp.bias", None, r"1 of \d+ tensors differ: single_blocks\.2\.v_mlp\.bias is missing"),
        ("guidance_in.in_layer.bias", torch.zeros(3), r"guidance_in\.in_layer\.bias is unknown"),
        ("cond_in.weight", torch.zeros(32, 16), r"cond_in\.weight is 32x16 and not 32x20"),
        ("txt_in.bias", torch.zeros(32, dtype=torch.int8), r"txt_in\.bias is of type I8, and not of BF16, F16, F32"),
        ("txt_in.bias", torch.zeros(32).to(torch.float8_e4m3fn), r"txt_in\.bias is of type F8_E4M3"),
    ],
)
def test_a_file_that_does_not_fill_the_network_exactly_is_refused(
    copy: Path, name: str, tensor: Tensor | None, problem: str
) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor

    rewrite(copy, change)
    with pytest.raises(WeightsError, match=rf"{TRANSFORMER}: not those of the transformer.*{problem}"):
        load(copy)


def test_weights_of_its_relatives_are_told_apart(copy: Path) -> None:
    original = (copy / TRANSFORMER).read_bytes()
    qkv = "double_blocks.0.img_attn.qkv.weight"
    rewrite(copy, lambda tensors: tensors.update({qkv: torch.zeros(96, 32)}))
    for ask in (lambda: TINY_MODEL.family(copy).weights(), lambda: load(copy)):
        with pytest.raises(WeightsError, match=r"as in FLUX\.1, and then rotary positions mean other components"):
            ask()
    (copy / TRANSFORMER).write_bytes(original)
    rewrite(copy, lambda tensors: tensors.update({"img_in.weight": torch.zeros(32, 8)}))
    with pytest.raises(WeightsError, match=r"8 features instead of 16.*Open-Sora-v2-Video-DC-AE"):
        TINY_MODEL.family(copy).weights()


@pytest.mark.parametrize("file", [TRANSFORMER, "hunyuan_vae.safetensors"])
def test_a_missing_or_short_file_is_named(copy: Path, file: str) -> None:
    content = (copy / file).read_bytes()
    (copy / file).write_bytes(content[:-4])
    for ask in (lambda: TINY_MODEL.family(copy).weights(), lambda: load(copy)):
        with pytest.raises(WeightsError, match=rf"{file}.*cut short"):
            ask()
    (copy / file).unlink()
    for ask in (lambda: TINY_MODEL.family(copy).weights(), lambda: load(copy)):
        with pytest.raises(WeightsError, match=rf"{file} is missing"):
            ask()


def test_without_a_configuration_the_published_one_is_meant(copy: Path) -> None:
    (copy / "transformer" / "config.json").unlink()
    (copy / "vae" / "config.json").unlink()
    made = TINY_MODEL.family(copy)
    assert made.configs["transformer"]["depth"] == 19
    with pytest.raises(WeightsError, match=r"features instead of 64"):
        made.weights()


def test_weights_in_short_types_load_into_longer_ones(folder: Path, copy: Path) -> None:
    def shorten(tensors: dict[str, Tensor]) -> None:
        tensors.update({name: each.to(torch.bfloat16) for name, each in tensors.items()})

    rewrite(copy, shorten)
    long, short = load(folder).networks["transformer"], load(copy).networks["transformer"]
    for p, q in zip(long.parameters(), short.parameters(), strict=True):
        assert q.dtype == torch.float32
        assert torch.equal(p.to(torch.bfloat16).float(), q)


def test_axes_that_do_not_fill_a_head_are_refused(copy: Path) -> None:
    path = copy / "transformer" / "config.json"
    facts = json.loads(path.read_text())
    for change in ({"axes_dim": [4, 6, 8]}, {"axes_dim": [3, 6, 7]}, {"axes_dim": [8, 8]}, {"in_channels": 17}):
        path.write_text(json.dumps(facts | change))
        with pytest.raises(WeightsError, match=r"transformer/config\.json has heads of 16 components"):
            TINY_MODEL.family(copy).sites()


@pytest.mark.parametrize(
    "file",
    [
        TRANSFORMER,
        "hunyuan_vae.safetensors",
        f"{T5_FOLDER}/pytorch_model-00002-of-00002.bin",
        f"{T5_FOLDER}/config.json",
        f"{T5_FOLDER}/tokenizer.json",
        f"{CLIP_FOLDER}/model.safetensors",
        f"{CLIP_FOLDER}/config.json",
        "transformer/config.json",
    ],
)
def test_every_file_is_part_of_the_identity(folder: Path, copy: Path, file: str) -> None:
    path = copy / file
    if path.suffix == ".json":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"theta": 7}))
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert TINY_MODEL.family(copy).weights().digest != TINY_MODEL.family(folder).weights().digest


def test_files_that_are_not_its_own_do_not_matter(folder: Path, copy: Path) -> None:
    (copy / "flux1-dev.safetensors").write_bytes(b"not needed")
    (copy / CLIP_FOLDER / "pytorch_model.bin").write_bytes(b"not needed beside safetensors")
    (copy / CLIP_FOLDER / "flax_model.msgpack").write_bytes(b"not needed")
    assert TINY_MODEL.family(copy).weights() == TINY_MODEL.family(folder).weights()


# --- pickles ------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


def test_a_pickle_that_would_run_something_is_refused(copy: Path) -> None:
    shard = copy / T5_FOLDER / "pytorch_model-00001-of-00002.bin"
    torch.save({"shared.weight": Evil()}, shard)
    with pytest.raises(WeightsError, match="weights of text_encoder do not fill its network"):
        load(copy)
    shard.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(WeightsError, match="weights of text_encoder do not fill its network"):
        load(copy)
    assert not Path("ran").exists()


def test_a_missing_or_short_pickle_is_named(copy: Path) -> None:
    shard = copy / T5_FOLDER / "pytorch_model-00001-of-00002.bin"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="weights of text_encoder do not fill its network"):
        load(copy)
    shard.unlink()
    with pytest.raises(WeightsError, match=rf"{T5_FOLDER}/{shard.name} is missing"):
        TINY_MODEL.family(copy).weights()
    (copy / T5_FOLDER / "pytorch_model.bin.index.json").unlink()
    with pytest.raises(WeightsError, match=rf"{T5_FOLDER}/model\.safetensors is missing"):
        TINY_MODEL.family(copy).weights()


def test_safetensors_go_before_pickles(folder: Path, copy: Path) -> None:
    t5 = t5_encoder(16)
    t5.save_pretrained(copy / T5_FOLDER)
    for shard in (copy / T5_FOLDER).glob("*.bin"):
        shard.write_bytes(b"not read")
    got = prompt_embedding(TINY_MODEL.family(copy), CPU, torch.float32)
    with torch.no_grad():
        expected = t5.eval()(torch.tensor([[1] + [0] * 511])).last_hidden_state
    torch.testing.assert_close(got["text"], expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(got["text"], embedding(folder)[0])


# --- the hub ------------------------------------------------------------------------------------


def test_what_is_fetched_is_what_is_needed(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The release has no configurations, and much that another model needs."""
    published = tmp_path / "published" / "opensora-2"
    for name in ("transformer", "vae"):
        shutil.move(copy / name, published / name)
    for name in ("flux1-dev.safetensors", "flux1-dev-ae.safetensors", "README.md", f"{CLIP_FOLDER}/pytorch_model.bin"):
        (copy / name).write_bytes(b"not needed")
    hub = Hub(copy, tmp_path / "hub" / "snapshots" / COMMIT)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    monkeypatch.setattr(OpenSora, "published_configs", tmp_path / "published")
    made = OpenSora("opensora-2", Options(frames=TINY_MODEL.frames, size=TINY_MODEL.size))
    weights = made.weights()
    assert (weights.id, weights.revision) == ("hpcai-tech/Open-Sora-v2", COMMIT)
    fetched = {path.relative_to(hub.cache).as_posix() for path in hub.cache.rglob("*") if path.is_file()}
    needed = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert fetched == {name for name in needed if not name.startswith(("flux1", "README")) and "bin" not in name} | {
        f"{T5_FOLDER}/pytorch_model-0000{k}-of-00002.bin" for k in (1, 2)
    } | {f"{T5_FOLDER}/pytorch_model.bin.index.json"}
    assert {each[1] for each in hub.asked[1:]} == {COMMIT}
    assert not any(name.endswith((".bin", TRANSFORMER)) for name in hub.asked[0][2])
    a, b = made.load(CPU, torch.float32), load_local(copy, published)
    assert all(torch.equal(p, q) for p, q in zip(a.module.parameters(), b.module.parameters(), strict=True))
    assert all(torch.equal(a.prompt[name], b.prompt[name]) for name in a.prompt)


def load_local(copy: Path, published: Path) -> LatentVideoBackbone:
    for name in ("transformer", "vae"):
        shutil.copytree(published / name, copy / name)
    return load(copy)


def test_no_network_is_one_clear_error_that_names_all_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"(?s)hpcai-tech/Open-Sora-v2 .*--local-dir.*--checkpoint DIR") as caught:
        family().weights()
    for name in (TRANSFORMER, "hunyuan_vae.safetensors", f"{T5_FOLDER}/*.json", f"{CLIP_FOLDER}/model*"):
        assert name in str(caught.value)
