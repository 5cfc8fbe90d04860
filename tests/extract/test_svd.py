"""Facts and errors of Stable Video Diffusion that need no network: names, noise levels, checkpoints, weights."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from diffusers import EulerDiscreteScheduler

from extract.backbones.base import Options
from extract.backbones.svd import SVD
from extract.checkpoints.family import CONFIGS
from extract.errors import ExtractError, UnknownNameError, WeightsError
from tests.extract.tiny_svd import FRAMES, build

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("svd") / "tiny")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "tiny"))


def family(folder: Path, **options: object) -> SVD:
    return SVD("svd", Options(checkpoint=str(folder), **options))  # type: ignore[arg-type]


# --- facts ----------------------------------------------------------------------------------


def test_settings_tell_every_condition() -> None:
    settings = SVD("svd-xt").settings()
    assert (settings["fps"], settings["motion_bucket_id"], settings["noise_aug_strength"]) == (7, 127, 0.02)
    assert (settings["num_frames"], SVD("svd").settings()["num_frames"]) == (25, 14)
    assert json.loads(json.dumps(settings)) == settings


def test_preprocessing_is_the_range_of_the_vae() -> None:
    frames = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 4, 6, 3)
    low, high = SVD("svd", Options(size=(64, 128))).preprocessing()(frames)
    assert tuple(low.shape) == (3, 64, 128)
    torch.testing.assert_close(low, torch.full_like(low, -1))
    torch.testing.assert_close(high, torch.full_like(high, 1))


def test_the_shipped_configs_are_whole() -> None:
    for model in SVD.models:
        assert set(SVD(model).configs) == {"unet", "vae", "image_encoder", "scheduler", "feature_extractor"}
        assert (CONFIGS / model / "model_index.json").is_file()


def test_spans_are_single_frames() -> None:
    assert SVD("svd").spans(76, [0, 1, 5]) == [(0, 0), (1, 1), (5, 5)]


@pytest.mark.parametrize("size", [(576, 1000), (0, 64), (100, 100), (-64, 64)])
def test_sizes_the_network_cannot_take(size: tuple[int, int]) -> None:
    with pytest.raises(ExtractError, match="multiples of 64"):
        SVD("svd", Options(size=size)).sites()


def test_a_smaller_checkpoint_has_smaller_multiples(folder: Path) -> None:
    assert family(folder, size=(4, 8)).site("mid_block").grid == (1, 2)
    with pytest.raises(ExtractError, match="multiples of 4"):
        family(folder, size=(4, 6)).sites()


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"up_blocks\.1\.attentions\.2"):
        SVD("svd").site("up_block.1.attention.2")
    with pytest.raises(UnknownNameError, match="svd-xt"):
        SVD("svd_xt")


# --- noise ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "sigma"),
    [
        ("sigma=1.5", "sigma1.5", 1.5),
        ("sigma=1.50", "sigma1.5", 1.5),
        ("sigma1", "sigma1", 1.0),
        ("sigma=.5", "sigma0.5", 0.5),
        ("sigma=700", "sigma700", 700.0),
        ("sigma=2e-3", "sigma0.002", 0.002),
        ("sigma=1.23456789", "sigma1.23456789", 1.23456789),
    ],
)
def test_noise_is_named_by_sigma(text: str, name: str, sigma: float) -> None:
    level = SVD("svd").noise_level(text)
    assert (level.name, level.sigma) == (name, sigma)
    assert SVD("svd").noise_level(level.name) == level
    assert math.exp(level.log_snr) == pytest.approx(1 / sigma**2)
    assert math.exp(4 * level.timestep) == pytest.approx(sigma)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # the scheduler of diffusers
def test_timesteps_are_those_of_the_scheduler() -> None:
    scheduler = EulerDiscreteScheduler.from_config(SVD("svd").configs["scheduler"])
    scheduler.set_timesteps(25)
    for sigma, timestep in zip(scheduler.sigmas[:-1].tolist(), scheduler.timesteps.tolist(), strict=True):
        sigma = min(max(sigma, 0.002), 700.0)  # float32 rounds 0.002 up and down
        assert SVD("svd").noise_level(f"sigma={sigma!r}").timestep == pytest.approx(timestep, abs=1e-6)


def test_default_noise_is_understood_and_rises() -> None:
    sigmas = [SVD("svd").noise_level(text).sigma for text in SVD.default_noise]
    assert sigmas == sorted(set(sigmas))


@pytest.mark.parametrize("text", ["t=502", "t502"])
def test_timesteps_are_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(ExtractError, match=r"no integer timesteps.*sigma=1\.5"):
        SVD("svd").noise_level(text)


@pytest.mark.parametrize("text", ["sigma=0", "sigma=0.001", "sigma=701", "sigma=1e400"])
def test_sigmas_outside_the_schedule_are_refused(text: str) -> None:
    with pytest.raises(ExtractError, match=r"outside the range.*0\.002 to 700"):
        SVD("svd").noise_level(text)


@pytest.mark.parametrize("text", ["", "sigma", "sigma=", "sigma=-1", "sigma=nan", "sigma=inf", "1.5", "sigma=1.5x"])
def test_other_noise_is_not_understood(text: str) -> None:
    with pytest.raises(ExtractError, match="not understood"):
        SVD("svd").noise_level(text)


# --- checkpoints ----------------------------------------------------------------------------


def test_sites_follow_the_checkpoint(folder: Path) -> None:
    assert family(folder).size == (36, 64)
    assert SVD("svd").size == SVD("svd-xt").size == (576, 1024)
    facts = family(folder, size=(64, 64))
    assert facts.num_frames == FRAMES
    assert facts.site("up_blocks.0").grid == (32, 32)
    assert "up_blocks.2" not in {site.name for site in facts.sites()}


def test_the_digest_is_of_the_content(folder: Path, tmp_path: Path) -> None:
    weights = family(folder).weights()
    moved = folder.rename(tmp_path / "elsewhere")
    assert family(moved).weights() == weights
    config = moved / "vae" / "config.json"
    text = config.read_text()
    config.write_text(text.replace("0.18215", "0.5"))
    assert family(moved).weights().digest != weights.digest
    config.write_text(text)
    assert family(moved).weights() == weights
    path = moved / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert family(moved).weights().digest != weights.digest


def test_the_half_precision_variant_is_taken_if_there_is_no_other(tmp_path: Path, original: Path) -> None:
    half = family(build(tmp_path / "half", variant="fp16"))
    whole = family(original)
    assert half.weights().digest != whole.weights().digest  # other file names
    a, b = half.load(CPU, torch.float32), whole.load(CPU, torch.float32)
    assert all(torch.equal(p, q) for p, q in zip(a.module.parameters(), b.module.parameters(), strict=True))


def test_untrained_needs_configs_only(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    untrained = family(folder, untrained=3)
    assert untrained.weights() == family(folder, untrained=3).weights()
    assert untrained.weights() != family(folder, untrained=4).weights()
    untrained.load(CPU, torch.float32)
    with pytest.raises(WeightsError, match=r"unet/diffusion_pytorch_model\.safetensors.*--checkpoint DIR"):
        family(folder).weights()


def test_a_directory_without_a_model_index(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model_index\.json is missing"):
        family(tmp_path).sites()


def test_a_checkpoint_of_another_pipeline(folder: Path) -> None:
    (folder / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    with pytest.raises(WeightsError, match=r"'WanPipeline'.*'StableVideoDiffusionPipeline'"):
        family(folder).weights()


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_config_that_is_no_object(folder: Path, content: str) -> None:
    (folder / "unet" / "config.json").write_text(content)
    with pytest.raises(WeightsError, match=r"unet/config\.json"):
        family(folder).sites()


def test_a_config_without_a_needed_fact(folder: Path) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sigma_max": None}))
    with pytest.raises(WeightsError, match=r"scheduler_config\.json lacks sigma_max"):
        family(folder).noise_level("sigma=1")


@pytest.mark.parametrize("part", ["unet", "vae", "image_encoder"])
def test_a_truncated_weight_file(folder: Path, part: str) -> None:
    path = next((folder / part).glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    for ask in (lambda: family(folder).weights(), lambda: family(folder).load(CPU, torch.float32)):
        with pytest.raises(WeightsError, match=rf"{part}.*cut short"):
            ask()


@pytest.mark.parametrize(
    "content", [b"", b"\x01", b"version https://git-lfs.github.com/spec/v1\n", b"\x02" + b"\0" * 7 + b"{}"]
)
def test_a_weight_file_that_is_none(folder: Path, content: bytes) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="no safetensors header"):
        family(folder).weights()


@pytest.mark.parametrize(
    ("part", "key", "value"), [("unet", "layers_per_block", 2), ("image_encoder", "projection_dim", 9)]
)
def test_weights_of_another_architecture(folder: Path, part: str, key: str, value: int) -> None:
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(WeightsError, match=rf"weights of {part} do not fill"):
        family(folder).load(CPU, torch.float32)


def test_no_network_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        WeightsError, match=r"(?s)stable-video-diffusion-img2vid .*--local-dir.*--checkpoint DIR.*HF_HOME"
    ):
        SVD("svd").weights()


@pytest.mark.parametrize("name", ["./missing", "/nowhere/svd", "~/nowhere", "svd", "a/b/c"])
def test_a_directory_that_is_not_there(name: str) -> None:
    with pytest.raises(WeightsError, match="no such directory"):
        SVD("svd", Options(checkpoint=name)).weights()


def test_a_snapshot_is_taken_by_its_commit(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, object, list[str]]] = []

    def snapshot(repository: str, revision: str, allow_patterns: list[str]) -> str:
        asked.append((repository, revision, allow_patterns))
        return str(original)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(WeightsError, match=r"unet/config\.json differs.*--checkpoint"):
        SVD("svd", Options(revision="abc")).weights()
    assert [each[:2] for each in asked] == [(SVD.models["svd"].id, "abc"), (SVD.models["svd"].id, original.name)]
    assert "unet/diffusion_pytorch_model.safetensors.index.json" in asked[0][2]
    assert "unet/diffusion_pytorch_model.safetensors" not in asked[0][2]
    assert "unet/diffusion_pytorch_model.safetensors" in asked[1][2]

    monkeypatch.setattr(SVD, "published_configs", original.parent)
    original.parent.joinpath("svd").symlink_to(original)
    weights = SVD("svd").weights()
    assert (weights.id, weights.revision) == (SVD.models["svd"].id, original.name)
    assert weights.digest == family(original).weights().digest
