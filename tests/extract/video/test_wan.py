"""What is Wan's own: its schedule, its causal autoencoder, its conditions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from extract.backbones.base import Options
from extract.backbones.wan import Wan, shortest_edge_crop
from extract.errors import ExtractError, WeightsError
from tests.extract.video.test_promises import encode, features, load, same
from tests.extract.video.tiny import CPU, Tiny, in_range, random_clip
from tests.extract.video.tiny_wan import TINY

T2V, I2V, I2V_LAST, TI2V, TI2V_FIRST = TINY


# --- noise ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # the scheduler of diffusers
@pytest.mark.parametrize("model", Wan.models)
def test_noise_is_the_schedulers(model: str) -> None:
    from diffusers import UniPCMultistepScheduler

    family = Wan(model)
    config = json.loads((family.published_configs / model / "scheduler" / "scheduler_config.json").read_text())
    scheduler = UniPCMultistepScheduler.from_config(config)
    scheduler.set_timesteps(1000)
    latents, noise = (torch.randn(1, 2, 3, 4, 5, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    for index in (100, 400, 749, 900):
        sigma, told = float(scheduler.sigmas[index]), int(scheduler.timesteps[index])
        level = family.noise_level(f"sigma={sigma!r}")
        assert int(level.timestep) == told  # the scheduler cuts off what is behind the point
        mixed = scheduler.add_noise(latents, noise, scheduler.timesteps[index : index + 1])
        ours = family.schedule.mix(latents, noise, level)
        if (scheduler.timesteps == told).sum() == 1:
            torch.testing.assert_close(ours, mixed, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_paper_preset_is_index_749_of_the_real_scheduler() -> None:
    from diffusers import UniPCMultistepScheduler

    for model in ("wan2.1-t2v-1.3b", "wan2.1-t2v-14b", "wan2.1-i2v-14b"):
        family = Wan(model, Options(preset="paper"))
        config = json.loads((family.published_configs / model / "scheduler" / "scheduler_config.json").read_text())
        scheduler = UniPCMultistepScheduler.from_config(config)
        scheduler.set_timesteps(1000)
        assert family.default_levels() == (f"t={int(scheduler.timesteps[749])}",) == ("t=502",)
        level = family.noise_level("t=502")
        assert level.timestep == 502
        assert level.sigma == pytest.approx(float(scheduler.sigmas[749]), abs=1e-3)
        assert list(family.default_sites()) == ["blocks.18", "blocks.20"]
    with pytest.raises(ExtractError, match=r"--preset paper: wan2\.2-ti2v-5b takes standard"):
        Wan("wan2.2-ti2v-5b", Options(preset="paper"))


def test_the_papers_clip_is_one_plain_window() -> None:
    bank = [0, *range(1, 76, 4)]
    for preset in ("standard", "paper"):
        windows = Wan("wan2.1-t2v-14b", Options(preset=preset)).windows(81, bank)
        assert windows.frames == (tuple(range(81)),)
        assert windows.spans == ((0, 0), *((f, f + 3) for f in bank[1:]))


# --- frames and latents ---------------------------------------------------------------------


@pytest.mark.parametrize("tiny", [T2V, TI2V], ids=lambda tiny: tiny.id)
def test_a_latent_is_made_of_the_frames_it_is_said_to_be_made_of(
    tiny: Tiny, checkpoint: Callable[[Tiny], Path]
) -> None:
    """The autoencoder is causal: a frame changes its own latent and later ones, none before."""
    backbone = load(tiny, checkpoint(tiny), frames=17)
    clip = random_clip(17, tiny.size)
    bank = [0, 1, 5, 9, 13]
    windows = backbone.family.windows(17, bank)
    assert windows.frames == (tuple(range(17)),)
    before = encode(backbone, clip, bank).latents
    for frame in range(17):
        changed = clip.clone()
        changed[frame] = 255 - changed[frame]
        after = encode(backbone, changed, bank).latents
        touched = [j for j in range(5) if not torch.equal(after[0, :, j], before[0, :, j])]
        (owner,) = [j for j, (first, last) in enumerate(windows.spans) if first <= frame <= last]
        assert touched[0] == owner


# --- conditions -----------------------------------------------------------------------------


def test_each_condition_is_another_feature(checkpoint: Callable[[Tiny], Path]) -> None:
    clip = random_clip(9, I2V.size)
    for tiny, choices in ((I2V, ("first", "last", "none")), (TI2V, ("none", "first", "last"))):
        found = {}
        for choice in choices:
            backbone = load(tiny, checkpoint(tiny), condition=choice)
            assert backbone.family.settings()["condition"] == choice
            frames = clip if tiny is I2V else random_clip(9, tiny.size)
            found[choice] = features(backbone, encode(backbone, frames, [0, 8]), "t=500")
        assert not same(found["first"], found["last"])
        assert not same(found["first"], found["none"])
        default = load(tiny, checkpoint(tiny))
        frames = clip if tiny is I2V else random_clip(9, tiny.size)
        assert same(features(default, encode(default, frames, [0, 8]), "t=500"), found[choices[0]])


def test_without_an_image_the_network_is_told_nothing_of_any(checkpoint: Callable[[Tiny], Path]) -> None:
    backbone = load(I2V, checkpoint(I2V), condition="none")
    (told,) = encode(backbone, random_clip(9, I2V.size), [0]).told
    mask, grey = told["channels"].split([4, 4], dim=1)
    assert not mask.any()
    assert not told["image"].any()
    vae: Any = backbone.networks["vae"]
    nothing = backbone.family.compress(backbone.networks, torch.zeros(1, 3, 9, *I2V.size))
    assert vae.config.z_dim == 4
    assert torch.equal(grey, nothing)


def test_the_first_latent_is_clean_if_it_is_the_condition(checkpoint: Callable[[Tiny], Path]) -> None:
    """Wan 2.2 5B: the network sees the first latent without noise, and is told so."""
    seen: dict[str, Any] = {}
    backbone = load(TI2V_FIRST, checkpoint(TI2V_FIRST))
    transformer = backbone.networks["transformer"]
    transformer.register_forward_pre_hook(lambda _m, _a, told: seen.update(told), with_kwargs=True)
    clip = random_clip(9, TI2V.size)
    state = encode(backbone, clip, [0, 8])
    features(backbone, state, "t=500")
    timestep = seen["timestep"].reshape(3, -1)
    assert not timestep[0].any()
    assert (timestep[1:] == 500).all()
    image = in_range(clip[:1]).movedim(0, 1)[None]
    assert torch.equal(seen["hidden_states"][:, :, :1], backbone.family.compress(backbone.networks, image))


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (37, 50), (480, 832)])
def test_clip_sees_what_the_librarys_processor_shows_it(size: tuple[int, int]) -> None:
    from transformers import CLIPImageProcessorPil

    height, width = size
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    waves = torch.stack([(9 * rows).sin(), (7 * columns).cos(), (5 * (rows + columns)).sin()], dim=-1)
    frame = ((waves + 1) / 2 * 255).round().to(torch.uint8)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, do_normalize=False
    )
    expected = processor(Image.fromarray(np.asarray(frame)), return_tensors="pt")["pixel_values"]
    ours = shortest_edge_crop(frame.permute(2, 0, 1)[None].float() / 255, 32)
    torch.testing.assert_close(ours, expected, atol=1.5 / 255, rtol=0)  # the library rounds to 8 bits


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (480, 830)}, r"size 480x830: wan2\.1-t2v-1\.3b takes multiples of 16 pixels\. Nearest: 480x832"),
        ({"size": (0, 16)}, "multiples of 16"),
        ({"frames": 80}, r"window of 80 frames: the autoencoder takes 4 n \+ 1 frames\. Nearest: 81"),
        ({"frames": 1}, r"Nearest: 5|4 n \+ 1"),
        ({"condition": "first"}, r"--condition first: wan2\.1-t2v-1\.3b is conditioned on no image"),
        ({"preset": "papr"}, r"--preset papr: .*takes standard \| paper"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ExtractError, match=message):
        Wan("wan2.1-t2v-1.3b", Options(**options)).sites()


def test_a_checkpoint_of_another_kind_of_wan(checkpoint: Callable[[Tiny], Path]) -> None:
    with pytest.raises(WeightsError, match=r"'WanPipeline', but this model is a 'WanImageToVideoPipeline'"):
        I2V.family(checkpoint(T2V)).sites()


def test_the_folder_of_another_size_is_refused_by_its_name(checkpoint: Callable[[Tiny], Path]) -> None:
    published = Wan.published_configs / "wan2.1-t2v-1.3b"
    with pytest.raises(WeightsError, match=r"that of wan2\.1-t2v-1\.3b, and not of wan2\.1-t2v-14b.*--model wan2"):
        Wan("wan2.1-t2v-14b", Options(checkpoint=str(published))).sites()
    assert Wan("wan2.1-t2v-1.3b", Options(checkpoint=str(published))).sites()
    with pytest.raises(WeightsError, match=r"another Wan than wan2\.1-t2v-1\.3b \(expand_timesteps True"):
        Wan("wan2.1-t2v-1.3b", Options(checkpoint=str(checkpoint(TI2V)))).sites()


def test_a_folder_that_is_nobodys_is_said_to_be_so(
    checkpoint: Callable[[Tiny], Path], caplog: pytest.LogCaptureFixture
) -> None:
    T2V.family(checkpoint(T2V)).sites()
    assert "is not the published wan2.1-t2v-1.3b: transformer.attention_head_dim = 12 (published: 128)" in caplog.text


def test_a_configuration_of_fewer_layers_than_the_weights_is_refused(
    checkpoint: Callable[[Tiny], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoint(T2V), tmp_path / "wan"))
    path = folder / "transformer" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"num_layers": config["num_layers"] - 1}))
    with pytest.raises(WeightsError, match=r"weights of transformer do not fill.*blocks\.4.* has no place"):
        load(T2V, folder)
    path.write_text(json.dumps(config | {"num_layers": "four"}))
    with pytest.raises(WeightsError, match=r"num_layers is 'four', expected a number such as 30"):
        T2V.family(folder).sites()


def test_what_is_digested_is_what_is_loaded(checkpoint: Callable[[Tiny], Path], tmp_path: Path) -> None:
    """Networks in two precisions and a text encoder in one: all are taken in the precision that all have."""
    folder = Path(shutil.copytree(checkpoint(T2V), tmp_path / "wan"))
    for file in folder.rglob("*.safetensors"):
        halved = {name: tensor.half() for name, tensor in load_file(file).items()}
        save_file(halved, file.with_suffix(".fp16.safetensors"), {"format": "pt"})
    (folder / "text_encoder" / "model.safetensors").unlink()
    digest = T2V.family(folder).weights().digest
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({name: 1.5 * tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    assert T2V.family(folder).weights().digest == digest
    network = load(T2V, folder).networks["transformer"]
    kept = load_file(file.with_suffix(".fp16.safetensors"))
    assert torch.equal(network.state_dict()["blocks.0.ffn.net.2.weight"], kept["blocks.0.ffn.net.2.weight"].float())


def test_the_timestep_may_be_a_fraction(checkpoint: Callable[[Tiny], Path]) -> None:
    backbone = load(T2V, checkpoint(T2V))
    state = encode(backbone, random_clip(9, T2V.size), [0])
    a, b = (features(backbone, state, level) for level in ("sigma=0.5", "t=500"))
    assert same(a, b)
    assert not same(a, features(backbone, state, "t=500.5"))


@pytest.mark.parametrize("offload", ["group", "sequential"])
def test_weights_that_really_move_are_the_same(
    checkpoint: Callable[[Tiny], Path], monkeypatch: pytest.MonkeyPatch, offload: Any
) -> None:
    """Between a CPU and itself nothing moves. Here every transfer makes a new tensor, as between two devices."""
    move = torch.Tensor.to

    def moved(tensor: Tensor, *args: Any, **options: Any) -> Tensor:
        there = move(tensor, *args, **options)
        return there.clone() if there is tensor and args and isinstance(args[0], torch.device | str) else there

    clip = random_clip(9, T2V.size)
    plain = load(T2V, checkpoint(T2V))
    expected = features(plain, encode(plain, clip, [0, 8]), "t=500")
    monkeypatch.setattr(torch.Tensor, "to", moved)
    away = T2V.family(checkpoint(T2V)).load_offloaded(CPU, torch.float32, offload)
    for _ in range(2):
        with torch.inference_mode():
            got = features(away, encode(away, clip, [0, 8]), "t=500")
        for name, grid in expected.items():  # where weights lie in memory decides on the last bits
            torch.testing.assert_close(got[name], grid, atol=1e-4, rtol=1e-5)


def test_tokens_are_those_of_their_place(checkpoint: Callable[[Tiny], Path]) -> None:
    """Row-major in (time, y, x): what changes in a corner of a frame changes most there."""
    backbone = load(T2V, checkpoint(T2V))
    clip = random_clip(9, T2V.size)
    state = encode(backbone, clip, [0, 1, 5])
    changed: Tensor = state.latents.clone()
    changed[0, :, 2, -2:, :2] += 5
    before = features(backbone, state, "t=100", ["blocks.0"])["blocks.0"]
    state.latents = changed
    after = features(backbone, state, "t=100", ["blocks.0"])["blocks.0"]
    moved = (after - before).norm(dim=-1)
    assert int(moved.argmax()) == int(torch.tensor([2 * 6 + 1 * 3 + 0]))
    assert CPU.type == after.device.type
