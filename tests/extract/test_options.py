"""Flags that mean nothing to a model are refused, with what it takes instead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from extract.arguments import Arguments
from extract.backbones.base import Options
from extract.command import run
from extract.errors import ExtractError
from extract.registry import families, make_family
from store import root

FLAGS = {"conditions": {"condition": "first"}, "presets": {"preset": "paper"}, "takes_windows": {"frames": 9}}
MODELS = sorted(families())


@pytest.mark.parametrize("model", MODELS)
def test_every_model_takes_what_it_says_and_refuses_the_rest(model: str) -> None:
    facts = make_family(model)
    asked = {"conditions": "first" in facts.conditions, "presets": "paper" in facts.presets}
    for name, taken in (asked | {"takes_windows": facts.takes_windows}).items():
        if taken:
            make_family(model, Options(**FLAGS[name]))
        else:
            (flag,) = FLAGS[name]
            with pytest.raises(ExtractError, match=rf"^--{flag} .*: {model} .*\. Leave it out"):
                make_family(model, Options(**FLAGS[name]))


@pytest.mark.parametrize("model", [name for name in MODELS if families()[name].kind in ("vgm", "vlm")])
def test_facts_need_no_heavy_library(model: str) -> None:
    code = (
        f"import sys; import {families()[model].__module__} as module; "
        f"f = module.{families()[model].__name__}({model!r}); "
        "f.sites(); f.default_sites(); f.preprocessing(); f.settings(); f.window(81, [0, 9]); "
        "[f.noise_level(level) for level in f.default_levels()]; "
        "print([m for m in ('torch', 'diffusers', 'transformers', 'numpy', 'huggingface_hub') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("mobilenetv2", {"condition": "first"}, "is conditioned on no image"),
        ("mobilenetv2", {"preset": "paper"}, "takes standard"),
        ("mobilenetv2", {"frames": 9}, "sees no windows of frames"),
        ("pixels", {"condition": "none"}, "is conditioned on no image"),
        ("svd", {"condition": "middle"}, r"takes first \| last \| none"),
        ("svd", {"preset": "paper"}, "takes standard"),
        ("svd", {"frames": 14}, "sees no windows of frames"),
        ("wan2.1-t2v-1.3b", {"condition": "first"}, "is conditioned on no image"),
        ("wan2.1-t2v-1.3b", {"preset": "Paper"}, r"takes standard \| paper"),
        ("wan2.1-i2v-14b", {"condition": "FIRST"}, r"takes first \| last \| none"),
        ("wan2.2-ti2v-5b", {"condition": "mid"}, r"takes none \| first \| last"),
        ("wan2.2-ti2v-5b", {"preset": "paper"}, "takes standard"),
        ("wan2.2-ti2v-5b", {"layout": "video"}, "has no language model"),
        ("wan2.2-ti2v-5b", {"attention": "eager"}, "takes sdpa"),
        ("pixels", {"attention": "sdpa"}, "has no attention"),
        ("qwen3-vl-2b", {"layout": "film"}, r"takes images \| video"),
        ("qwen3-vl-2b", {"attention": "xformers"}, r"takes sdpa \| flash_attention_2 \| eager"),
        ("qwen3-vl-2b", {"condition": "first"}, "is conditioned on no image"),
    ],
)
def test_what_is_refused_and_why(model: str, options: dict[str, Any], message: str) -> None:
    ((flag, value),) = options.items()
    with pytest.raises(ExtractError, match=rf"^--{flag} {value}: {model} {message}"):
        make_family(model, Options(**options))


@pytest.mark.parametrize("model", MODELS)
def test_the_defaults_are_the_first_of_what_is_taken(model: str) -> None:
    facts = make_family(model)
    assert facts.presets[0] == "standard"
    for condition in facts.conditions:
        make_family(model, Options(condition=condition)).settings()
    if facts.conditions:
        default = make_family(model, Options(condition=facts.conditions[0]))
        assert default.settings() == facts.settings()


@pytest.mark.parametrize("model", ["mobilenetv2", "pixels", "position"])
def test_small_models_stay_on_the_device(model: str) -> None:
    arguments = Arguments(model=model, dataset="rooms", offload="group")
    with pytest.raises(ExtractError, match=rf"--offload group: {model} stays on the device whole"):
        run(arguments)
    assert not list(root().iterdir())  # nothing was begun
    with pytest.raises(NotImplementedError):
        make_family(model).load_offloaded(torch.device("cpu"), torch.float32, "group")


@pytest.mark.parametrize("model", MODELS)
def test_only_diffusion_models_take_noise(model: str) -> None:
    facts = make_family(model)
    if not facts.default_noise:
        with pytest.raises(ExtractError, match=r"is no diffusion model and takes no noise\. Leave out --noise"):
            facts.noise_level("sigma=0.5")
    else:
        assert facts.noise_level("sigma=0.5").log_snr == pytest.approx(facts.noise_level("sigma=0.5").log_snr)
        levels = [facts.noise_level(text) for text in facts.default_levels()]
        assert [level.sigma for level in levels] == sorted({level.sigma for level in levels})
