"""How long does a clip take in each video backbone at full size, and how much memory?

    python -m benchmarks.backbones --device cuda                                  every video model, bfloat16
    python -m benchmarks.backbones --device cuda --models wan2.1-t2v-14b --offload group

Prints JSON. Networks have their published configurations and random weights, made on the device: what a forward costs
does not depend on the weights. A clip is one window; the engine runs it as it runs any other, from frames in memory to
arrays in memory, with the model's default sites and noise levels. `waits` is the share of that time in which no kernel
ran on the device. Models that do not fit say so.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from extract.backbones.base import Offload, Options
from extract.checkpoints.loading import draw
from extract.diffusion.backbone import LatentVideoBackbone
from extract.diffusion.latent_video import LatentVideoFamily
from extract.diffusion.prompt import drawn_prompt
from extract.engine import DTYPES, clip_features
from extract.errors import ExtractError
from extract.plan import Request, make_taps
from extract.registry import families, make_family


def main() -> None:
    """Measure every model that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [name for name, family in families().items() if issubclass(family, LatentVideoFamily)]
    parser.add_argument("--models", nargs="*", default=known)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=list(DTYPES))
    parser.add_argument("--offload", default="none", choices=["none", "group", "sequential"])
    parser.add_argument("--checkpoint", help="folder with other configurations, for a trial on a small machine")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--size", type=int, nargs=2)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    device = torch.device(asked.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu"
    report: dict[str, Any] = {"device": name, "torch": torch.__version__, "dtype": asked.dtype, "models": {}}
    for model in asked.models:
        family = make_family(
            model, Options(checkpoint=asked.checkpoint, frames=asked.frames, size=asked.size and tuple(asked.size))
        )
        assert isinstance(family, LatentVideoFamily)
        try:
            report["models"][model] = measure(family, device, DTYPES[asked.dtype], asked.offload, asked.rounds)
        except (RuntimeError, ExtractError) as error:  # out of memory, most likely; the others go on
            report["models"][model] = {"error": str(error).splitlines()[0]}
        print(model, report["models"][model], file=sys.stderr, flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    print(json.dumps(report, indent=1))


@torch.inference_mode()
def measure(
    family: LatentVideoFamily, device: torch.device, dtype: torch.dtype, offload: Offload, rounds: int
) -> dict[str, Any]:
    """Seconds per clip and for its encoding (medians), and on a GPU peak memory and idle time."""
    # On a CPU, 14 billion random numbers take minutes.
    with torch.device("cpu" if offload != "none" else device):
        networks = draw(family.configs, family.networks, 0, lambda part: family.dtype_of(part, dtype))
    prompt = drawn_prompt(family, 0, dtype)
    backbone = LatentVideoBackbone(networks, family, prompt, device, dtype, offload)
    held = family.latent_shape[1]
    bank = [family.strides.time * (j - 1) + 1 if j else 0 for j in range(held)]
    plan, clip = one_clip(family, bank, dtype)
    frames = torch.randint(0, 256, (family.frames, *family.size, 3), dtype=torch.uint8).to(device)

    def extracted() -> object:
        return clip_features(backbone, plan, clip, frames, plan.taps).arrive()

    extracted()  # the first run chooses kernels
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    taken = [seconds(extracted, device) for _ in range(rounds)]
    encode = [seconds(lambda: backbone.encode(frames, [0], torch.Generator()), device) for _ in range(rounds)]
    found: dict[str, Any] = {
        "parameters": sum(each.numel() for network in networks.values() for each in network.parameters()),
        "tokens": held * plan.taps[-1].site.grid[0] * plan.taps[-1].site.grid[1],
        "taps": len(plan.taps),
        "seconds_per_clip": round(statistics.median(taken), 3),
        "encode_seconds": round(statistics.median(encode), 3),
    }
    if device.type == "cuda":
        found["peak_GB"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 1)
        found["waits"] = round(waiting(extracted, device), 3)
    return found


def one_clip(family: LatentVideoFamily, bank: list[int], dtype: torch.dtype) -> tuple[Any, Any]:
    """A plan and a clip that hold what the engine asks of them; nothing is read or stored."""
    request = Request(dtype=next(name for name, known in DTYPES.items() if known == dtype))
    taps = make_taps(family, (), ())
    plan = SimpleNamespace(
        family=family, request=request, taps=taps, recipe=SimpleNamespace(noise=None), grid=lambda site: site.grid
    )
    return plan, SimpleNamespace(id="noise", n_frames=family.frames, bank=bank)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time until the device is done."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def waiting(work: Callable[[], object], device: torch.device) -> float:
    """Share of the wall time in which no kernel and no copy ran on the device."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        wall = seconds(work, device)
    busy = sum(event.device_time for event in profiled.events()) / 1e6
    return max(0.0, 1 - busy / wall)


if __name__ == "__main__":
    main()
