"""Features of a tiny checkpoint against diffusers' own pipeline, straight-line computation, and themselves."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
from PIL import Image
from torch import Tensor

from extract.backbones._svd_backbone import SVDBackbone, antialiased_resize
from extract.backbones.base import Options
from extract.backbones.svd import SVD
from extract.errors import ExtractError
from extract.taps import listen
from tests.extract.svd_features import CPU, LEVEL, SIZE, Grids, encode, equal, features, random_clip
from tests.extract.tiny_svd import FRAMES, build


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("svd"))


@pytest.fixture(scope="module")
def family(folder: Path) -> SVD:
    return SVD("svd", Options(checkpoint=str(folder), size=SIZE))


@pytest.fixture(scope="module")
def backbone(family: SVD) -> SVDBackbone:
    return family.load(CPU, torch.float32)


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> StableVideoDiffusionPipeline:
    pipe = StableVideoDiffusionPipeline.from_pretrained(folder).to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    for network in (pipe.unet, pipe.vae, pipe.image_encoder):
        network.requires_grad_(False)  # torch picks other CPU kernels for parameters that could be trained: 1e-6
    return pipe


@pytest.fixture(scope="module")
def clip() -> Tensor:
    return random_clip()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # the scheduler of diffusers
@pytest.mark.parametrize("sigma", [0.25, 1.5, 700.0])
def test_features_are_those_of_the_pipeline(
    sigma: float, family: SVD, backbone: SVDBackbone, pipeline: StableVideoDiffusionPipeline, clip: Tensor
) -> None:
    """The pipeline samples one step from our noisy latents; its UNet must show the same features at every site."""
    state = encode(backbone, clip, range(FRAMES))
    ours = features(backbone, state, f"sigma={sigma}")

    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config, sigma_max=sigma)
    pipeline.scheduler.set_timesteps(1)
    images = [pipeline.video_processor.preprocess(Image.fromarray(frame.numpy())) for frame in clip[:FRAMES]]
    with torch.no_grad():
        latents = [pipeline.vae.encode(image).latent_dist.mode() * 0.18215 for image in images]
    generator = torch.Generator().manual_seed(0)
    torch.randn(3, *SIZE, generator=generator)  # the condition image's noise, which the pipeline draws below
    x0 = torch.stack(latents, dim=1)
    noisy = x0 + sigma * torch.randn(x0.shape, generator=generator)

    theirs: dict[str, Any] = {}
    sites = [site for site in family.sites() if site.stage == "forward"]
    handles = [
        pipeline.unet.get_submodule(site.name).register_forward_hook(
            lambda module, inputs, output, site=site: theirs.update({site.name: output})
        )
        for site in sites
    ]
    pipeline(
        Image.fromarray(clip[0].numpy()),
        height=SIZE[0],
        width=SIZE[1],
        num_inference_steps=1,
        min_guidance_scale=1.0,
        max_guidance_scale=1.0,
        fps=7,
        motion_bucket_id=127,
        noise_aug_strength=0.02,
        generator=torch.Generator().manual_seed(0),
        latents=noisy / pipeline.scheduler.init_noise_sigma,
        output_type="latent",
    )
    for handle in handles:
        handle.remove()

    for site in sites:
        output = theirs[site.name]
        output = output[0] if isinstance(output, tuple) else output
        if output.ndim == 4:
            output = output.permute(0, 2, 3, 1)
        torch.testing.assert_close(ours[site.name], output.reshape(ours[site.name].shape), atol=2e-4, rtol=2e-4)


def test_features_are_bit_exact_against_straight_lines(
    folder: Path, backbone: SVDBackbone, pipeline: StableVideoDiffusionPipeline, clip: Tensor
) -> None:
    """The same network, called by hand on inputs made by hand, without families, states or windows."""
    bank = [0, 6, 13, 19]
    generator = torch.Generator().manual_seed(3)
    images = (clip[bank].permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    condition = images[0] + 0.02 * torch.randn(3, *SIZE, generator=generator)
    with torch.no_grad():
        vae = pipeline.vae
        hidden = torch.cat([vae.encoder(image[None]) for image in [*images, condition]])
        means = vae.quant_conv(hidden)[:, :4]
        x0 = means[:4] * 0.18215
        eps = torch.randn(1, 4, *x0.shape[1:], generator=generator)
        noisy = (x0[None] + 1.5 * eps) * (1.5**2 + 1) ** -0.5
        small = (antialiased_resize(images[:1], (224, 224)) + 1) / 2
        mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
        std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
        embedding = pipeline.image_encoder((small - mean) / std).image_embeds
        sample = torch.cat([noisy, means[4].expand(1, 4, -1, -1, -1)], dim=2)
        theirs: dict[str, Tensor] = {}
        path = "up_blocks.1.attentions.1"
        handle = pipeline.unet.get_submodule(path).register_forward_hook(
            lambda module, inputs, output: theirs.update({path: output[0]})
        )
        pipeline.unet(sample, torch.tensor(0.25 * math.log(1.5)), embedding[None], torch.tensor([[6, 127, 0.02]]))
        handle.remove()

    ours = features(backbone, encode(backbone, clip, bank, seed=3))[path]
    assert torch.equal(ours, theirs[path].permute(0, 2, 3, 1))


def test_embedding_is_the_pipelines(
    backbone: SVDBackbone, pipeline: StableVideoDiffusionPipeline, clip: Tensor
) -> None:
    with torch.no_grad():
        expected = pipeline._encode_image(Image.fromarray(clip[2].numpy()), CPU, 1, False)
    torch.testing.assert_close(encode(backbone, clip, [2, 5]).embedding, expected[0], atol=1e-5, rtol=1e-4)


def test_vae_latent_is_the_scaled_mode(
    family: SVD, backbone: SVDBackbone, pipeline: StableVideoDiffusionPipeline, clip: Tensor
) -> None:
    bank = [0, 3, 4, 11, 12, 19]
    outputs: list[Tensor] = []
    site = family.site("vae.latent")
    handle = backbone.module.get_submodule(site.module).register_forward_hook(
        lambda m, i, output: outputs.append(output)
    )
    state = encode(backbone, clip, bank)
    handle.remove()
    assert len(outputs) == 1
    images = clip[bank].permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        expected = pipeline.vae.encode(images).latent_dist.mode() * 0.18215
    got = backbone.grid(site, outputs[0], state)
    assert tuple(got.shape) == (len(bank), *site.grid, site.channels)
    torch.testing.assert_close(got.permute(0, 3, 1, 2), expected, atol=1e-5, rtol=1e-5)


def test_streams_rejoin_to_their_attention(family: SVD, backbone: SVDBackbone, clip: Tensor) -> None:
    """Spatial and temporal tokens are grids in the same order of frames and cells: blended they give the block."""
    state = encode(backbone, clip, [0, 3, 4, 11, 12, 19])
    grids = features(backbone, state)
    for name in ("down_blocks.0.attentions.0", "mid_block.attentions.0", "up_blocks.1.attentions.1"):
        module = backbone.unet.get_submodule(name)
        blend = torch.sigmoid(module.time_mixer.mix_factor)
        spatial, temporal = grids[f"{name}.transformer_blocks.0"], grids[f"{name}.temporal_transformer_blocks.0"]
        before = grids[name.replace("attentions", "resnets")]
        expected = module.proj_out(blend * spatial + (1 - blend) * temporal) + before
        assert not torch.allclose(spatial, temporal, atol=1e-2)
        torch.testing.assert_close(grids[name], expected, atol=1e-5, rtol=1e-5)


def test_windows_of_one_batch_do_not_touch(family: SVD, backbone: SVDBackbone, clip: Tensor) -> None:
    bank = [0, 2, 3, 4, 7, 11, 12, 19]
    state = encode(backbone, clip, bank)
    windows = state.latents.shape[0]
    assert windows == 3
    together = features(backbone, state)
    for w in range(windows):
        rows = [row for row, position in enumerate(state.bank) if position // FRAMES == w]
        alone = replace(
            state,
            bank=[state.bank[row] % FRAMES for row in rows],
            latents=state.latents[w : w + 1],
            noise=state.noise[w : w + 1],
        )
        for name, grid in features(backbone, alone).items():
            torch.testing.assert_close(together[name][rows], grid, atol=1e-4, rtol=1e-3)


def test_rows_are_the_frames_of_the_bank(family: SVD, backbone: SVDBackbone, clip: Tensor) -> None:
    """With the noise away and only one frame changed, only the rows of its window and above all its own move."""
    bank = [0, 5, 10, 15]
    changed = clip.clone()
    changed[10] = 255 - changed[10]
    states = [encode(backbone, frames, bank) for frames in (clip, changed)]
    before, after = (features(backbone, state, "sigma=0.1")["conv_in"] for state in states)
    moved = (before - after).abs().amax(dim=(1, 2, 3))
    assert moved[2] > 0
    assert torch.equal(moved[[0, 1, 3]], torch.zeros(3))


def test_hooks_change_nothing_and_an_early_stop_sees_the_same(backbone: SVDBackbone, clip: Tensor) -> None:
    state = encode(backbone, clip, range(FRAMES))
    outputs: list[Tensor] = []
    handle = backbone.unet.register_forward_hook(lambda module, inputs, output: outputs.append(output[0]))
    backbone.forward(state, backbone.family.noise_level(LEVEL))
    complete = features(backbone, state)
    handle.remove()
    assert torch.equal(outputs[0], outputs[1])

    stopped = features(backbone, state, stop="up_blocks.0")
    assert "up_blocks.0" in stopped
    assert "up_blocks.1" not in stopped
    assert equal(stopped, {name: complete[name] for name in stopped})


def test_outputs_stay_as_they_were_heard(family: SVD, backbone: SVDBackbone, clip: Tensor) -> None:
    """No later layer works in place on what a hook holds."""
    state = encode(backbone, clip, range(FRAMES))
    sites = [site for site in family.sites() if site.stage == "forward"]
    with listen(backbone.module, sites, stop=False) as heard:
        backbone.forward(state, family.noise_level(LEVEL))
    assert equal(features(backbone, state), {site.name: backbone.grid(site, heard[site.name], state) for site in sites})


def test_levels_of_one_clip_are_each_as_alone(backbone: SVDBackbone, clip: Tensor) -> None:
    levels = ["sigma=25", "sigma=1.5", "sigma=0.1"]
    state = encode(backbone, clip, [0, 8])
    together = [features(backbone, state, level) for level in levels]
    alone = [features(backbone, encode(backbone, clip, [0, 8]), level) for level in levels]
    assert all(equal(a, b) for a, b in zip(together, alone, strict=True))
    assert not equal(together[0], together[1])


def test_the_generator_is_all_the_chance_there_is(backbone: SVDBackbone, clip: Tensor) -> None:
    def run(seed: int) -> Grids:
        return features(backbone, encode(backbone, clip, [0, 8], seed))

    torch.manual_seed(1)
    once = run(0)
    torch.manual_seed(2)
    assert equal(once, run(0))
    assert not equal(once, run(1))


def test_clips_shorter_than_the_window(backbone: SVDBackbone, clip: Tensor) -> None:
    for n_frames, bank in ((1, [0]), (3, [0, 2]), (20, [19])):
        grids = features(backbone, encode(backbone, clip[:n_frames], bank))
        assert {len(grid) for grid in grids.values()} == {len(bank)}
        assert all(torch.isfinite(grid).all() for grid in grids.values())


def test_frames_that_are_no_whole_windows_are_refused(backbone: SVDBackbone, clip: Tensor) -> None:
    for n in (0, FRAMES + 1):
        with pytest.raises(ExtractError, match="whole windows of 4"):
            backbone.encode(clip[:n], [0], torch.Generator())


def test_a_forward_without_noise_is_refused(backbone: SVDBackbone, clip: Tensor) -> None:
    with pytest.raises(ExtractError, match="--noise sigma="):
        backbone.forward(encode(backbone, clip, [0]), None)
