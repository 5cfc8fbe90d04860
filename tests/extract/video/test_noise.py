"""Noise levels: how they are named, and that both schedules are those of the libraries."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st

from extract.backbones.base import NoiseLevel
from extract.checkpoints.family import CONFIGS
from extract.diffusion.noise import FlowMatching, Schedule, VariancePreserving, scaled_linear
from extract.errors import ExtractError

FLOW, RISING = FlowMatching(), FlowMatching(rising=True)
COGVIDEOX = {"cogvideox-2b": 3.0, "cogvideox-5b": 1.0}
VARIANCE = {name: scaled_linear(0.00085, 0.012, 1000, shift) for name, shift in COGVIDEOX.items()}
SCHEDULES: dict[str, Schedule] = {"flow": FLOW, "rising": RISING, **VARIANCE}
BAD = (
    "", "t", "sigma", "t=", "sigma=", "=5", "5", "0.5", "t==5", "t = 5", " t=5", "t=5 ", "t=5\n", "t=-5", "t=+5",
    "sigma=-0.1", "sigma=nan", "sigma=inf", "t=inf", "t=5x", "t=5,6", "t=1_0", "t=0x10", "t=.", "t=e3", "t=1e",
    "T=5", "Sigma=0.5", "SIGMA=0.5", "sgima=0.5", "snr=1", "sigma=0.5=0.5", "t=1e3.5", "sigma:0.5", "t=½",
)  # fmt: skip


def scheduler_of(model: str) -> Any:
    config = json.loads((CONFIGS / model / "scheduler" / "scheduler_config.json").read_text())
    return CogVideoXDDIMScheduler.from_config(config)


@pytest.fixture(params=SCHEDULES)
def schedule(request: pytest.FixtureRequest) -> Schedule:
    return SCHEDULES[request.param]


def same(level: NoiseLevel, name: str, sigma: float, timestep: float) -> bool:
    return level.name == name and level.sigma == sigma and level.timestep == timestep


# --- rectified flow -----------------------------------------------------------------------------


def test_a_flow_is_told_a_thousand_sigma() -> None:
    assert same(FLOW.level("t=502", "m"), "t502", 0.502, 502.0)
    assert same(FLOW.level("sigma=0.5", "m"), "sigma0.5", 0.5, 500.0)
    assert same(FLOW.level("t=0.5", "m"), "t0.5", 0.0005, 0.5)
    assert same(FLOW.level("sigma=.25", "m"), "sigma0.25", 0.25, 250.0)
    assert same(FLOW.level("t=1.5e2", "m"), "t150", 0.15, 150.0)
    assert FLOW.level("t502", "m") == FLOW.level("t=502", "m")


def test_a_rising_flow_is_told_the_rest_and_takes_no_t() -> None:
    assert same(RISING.level("sigma=0.25", "m"), "sigma0.25", 0.25, 750.0)
    assert RISING.level("sigma=0.25", "m").log_snr == FLOW.level("sigma=0.25", "m").log_snr
    with pytest.raises(ExtractError, match=r"noise level 't=500': mochi counts time from noise to data.*sigma=0\.5"):
        RISING.level("t=500", "mochi")


@pytest.mark.parametrize("text", ["t=0", "t=0.0", "t=1000", "t=1001", "sigma=0", "sigma=1", "sigma=2", "sigma=1e400"])
def test_a_flow_ends_before_clean_and_before_noise_alone(text: str) -> None:
    with pytest.raises(ExtractError, match=r"outside the range of wan, which is 0 < sigma < 1 \(0 < t < 1000\)"):
        FLOW.level(text, "wan")


@given(st.floats(min_value=0, max_value=1, exclude_min=True, exclude_max=True))
def test_every_sigma_of_a_flow_has_a_finite_level(sigma: float) -> None:
    level = FLOW.level(f"sigma={sigma!r}", "m")
    assert level.sigma == sigma
    assert math.isfinite(level.log_snr)
    if 1e-9 < sigma < 1 - 1e-9:
        assert level.log_snr == pytest.approx(math.log((1 - sigma) ** 2 / sigma**2), abs=1e-6)


@pytest.mark.parametrize("shift", [3.0, 5.0])
def test_a_flow_mixes_as_the_scheduler_of_wan(shift: float) -> None:
    """A shift says where a sampler stops, not what a level means."""
    scheduler = UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=shift, prediction_type="flow_prediction")
    scheduler.set_timesteps(1000)
    latents, noise = torch.randn(2, 1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    for index in (1, 400, 749, 990):
        sigma, timestep = float(scheduler.sigmas[index]), int(scheduler.timesteps[index])
        level = FLOW.level(f"sigma={sigma!r}", "m")
        assert int(level.timestep) == timestep  # which the scheduler cuts to a whole number
        signal, deviation = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[index])
        torch.testing.assert_close(FLOW.mix(latents, noise, level), signal * latents + deviation * noise)


def test_the_papers_index_is_timestep_502_of_wan() -> None:
    scheduler = UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction")
    scheduler.set_timesteps(1000)
    assert int(scheduler.timesteps[749]) == 502
    assert FLOW.level("t=502", "m").sigma == pytest.approx(float(scheduler.sigmas[749]), abs=5e-4)


def test_a_flow_mixes_as_the_euler_scheduler() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    latents, noise = torch.randn(2, 1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    for index in (1, 500, 998):
        timestep = scheduler.timesteps[index]
        expected = scheduler.scale_noise(latents, timestep[None], noise)
        level = FLOW.level(f"t={float(timestep)!r}", "m")
        torch.testing.assert_close(FLOW.mix(latents, noise, level), expected)


# --- variance preserving ------------------------------------------------------------------------


@pytest.mark.parametrize("model", COGVIDEOX)
def test_the_schedule_is_that_of_cogvideox(model: str) -> None:
    theirs = scheduler_of(model).alphas_cumprod
    ours = torch.tensor(VARIANCE[model].alphas_cumprod, dtype=torch.float64)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert ours[-1] == 0
    assert bool((ours[:-1] > ours[1:]).all())


@pytest.mark.parametrize("model", COGVIDEOX)
def test_it_mixes_as_the_scheduler_of_cogvideox(model: str) -> None:
    scheduler, ours = scheduler_of(model), VARIANCE[model]
    latents, noise = torch.randn(2, 1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    for t in (0, 1, 250, 999 - 1):
        level = ours.level(f"t={t}", model)
        expected = scheduler.add_noise(latents, noise, torch.tensor([t]))
        torch.testing.assert_close(ours.mix(latents, noise, level), expected)
        kept = float(scheduler.alphas_cumprod[t])
        assert same(level, f"t{t}", level.sigma, float(t))
        assert level.sigma == pytest.approx(math.sqrt(1 - kept), rel=1e-9)
        assert level.log_snr == pytest.approx(math.log(kept / (1 - kept)), rel=1e-9)


def test_the_papers_index_is_timestep_250_and_two_noises() -> None:
    kept = {}
    for model, ours in VARIANCE.items():
        scheduler = scheduler_of(model)
        scheduler.set_timesteps(1000)
        assert int(scheduler.timesteps[749]) == 250
        kept[model] = 1 - ours.level("t=250", model).sigma ** 2
    assert kept == {"cogvideox-2b": pytest.approx(0.389, abs=5e-4), "cogvideox-5b": pytest.approx(0.652, abs=5e-4)}


@given(st.floats(0.001, 0.999), st.sampled_from(sorted(COGVIDEOX)))
def test_a_sigma_is_the_nearest_timestep(sigma: float, model: str) -> None:
    ours = VARIANCE[model]
    level = ours.level(f"sigma={sigma!r}", model)
    sigmas = [math.sqrt(1 - kept) for kept in ours.alphas_cumprod]
    assert abs(level.sigma - sigma) == min(abs(each - sigma) for each in sigmas)
    assert level == ours.level(level.name, model)
    assert level.timestep == int(level.name.removeprefix("t"))


@pytest.mark.parametrize("text", ["t=0.5", "t=1000", "t=-0", "t=250.5", "t=1e400", "t=1e3"])
def test_only_whole_timesteps_of_the_schedule(text: str) -> None:
    with pytest.raises(ExtractError, match=r"whole timesteps from 0 to 998|not understood"):
        VARIANCE["cogvideox-2b"].level(text, "cogvideox-2b")


def test_noise_alone_is_refused() -> None:
    with pytest.raises(ExtractError, match=r"from 0 to 998\. At the next nothing of the clip is left"):
        VARIANCE["cogvideox-2b"].level("t=999", "cogvideox-2b")
    assert VARIANCE["cogvideox-2b"].level("sigma=0.999999999", "cogvideox-2b").name == "t998"


@pytest.mark.parametrize("text", ["sigma=0", "sigma=1", "sigma=1.5", "sigma=1e400"])
def test_sigmas_outside_a_variance_preserving_range(text: str) -> None:
    with pytest.raises(ExtractError, match=r"outside the range of cogvideox-2b, which is 0 < sigma < 1"):
        VARIANCE["cogvideox-2b"].level(text, "cogvideox-2b")


# --- both ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_level_is_not_understood_and_an_example_is_given(schedule: Schedule, text: str) -> None:
    with pytest.raises(ExtractError, match=r"not understood\. some-model takes .*sigma=0\.\d") as caught:
        schedule.level(text, "some-model")
    assert repr(text) in str(caught.value)


@given(st.sampled_from(["t", "sigma"]), st.floats(0, 2000), st.sampled_from(sorted(SCHEDULES)))
def test_a_level_is_found_again_by_its_name(kind: str, value: float, name: str) -> None:
    """A tap of a store can be asked for by the name that it has there."""
    schedule = SCHEDULES[name]
    value = round(value) if kind == "t" and name.startswith("cog") else value
    try:
        level = schedule.level(f"{kind}={value!r}", "m")
    except ExtractError:
        return
    assert schedule.level(level.name, "m") == level
    assert not set(level.name) & set("/@ \\")


def test_more_noise_is_a_larger_sigma_and_a_lower_signal_to_noise_ratio(schedule: Schedule) -> None:
    levels = [schedule.level(f"sigma={k / 100}", "m") for k in range(1, 96)]
    sigmas, ratios, times = ([getattr(level, field) for level in levels] for field in ("sigma", "log_snr", "timestep"))
    assert sigmas == sorted(sigmas)
    assert ratios == sorted(ratios, reverse=True)
    assert times == sorted(times, reverse=schedule is RISING)


def test_the_ratio_is_that_of_what_is_mixed(schedule: Schedule) -> None:
    """log-SNR = ln(signal variance / noise variance) of x_t for latents and noise of unit variance."""
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for sigma in (0.1, 0.5, 0.9):
        level = schedule.level(f"sigma={sigma}", "m")
        signal, noise = schedule.mix(one, zero, level), schedule.mix(zero, one, level)
        assert 2 * math.log(float(signal / noise)) == pytest.approx(level.log_snr, rel=1e-9, abs=1e-12)


def test_a_mix_has_the_shape_and_type_of_the_latents(schedule: Schedule) -> None:
    level = schedule.level("sigma=0.5", "m")
    for dtype in (torch.float32, torch.bfloat16):
        latents = torch.ones(1, 2, 3, 4, 5, dtype=dtype)
        mixed = schedule.mix(latents, torch.zeros_like(latents), level)
        assert (mixed.shape, mixed.dtype) == (latents.shape, dtype)


def test_a_schedule_of_variance_can_be_any() -> None:
    """`alphas_cumprod` is all there is; a family with another schedule gives another."""
    short = VariancePreserving((0.9, 0.5, 0.1))
    assert same(short.level("sigma=0.7", "m"), "t1", math.sqrt(0.5), 1.0)
    assert short.level("t=2", "m").log_snr == pytest.approx(math.log(1 / 9))
