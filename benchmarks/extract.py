"""What does the engine cost beside the network that it runs, and what does one pass for all taps save?

    python -m benchmarks.extract                            about five minutes on two cores
    python -m benchmarks.extract --rounds 3

Prints JSON: every number with its goal and whether it is reached. A small Wan with random weights runs on the CPU, half
a second or more per forward that ends in the middle; on one thread, so that writing has a processor of its own, as
beside a GPU, and a machine that is busy with other things slows all alike. Numbers are ratios of times: each is the
median over rounds of a ratio taken within the round. The engine is timed from frames in memory to clips that are
committed and safe on the disk (`--folder`; a temporary folder by default). Its peer is the library's network called by
hand with one hook that ends it. `cpu` are the same ratios of processor seconds of all threads, so that work that is
done in the background counts in full.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

from benchmarks.measure import Goals, Taken, Work, cost, judged, milliseconds, times
from benchmarks.small_wan import BLOCKS, MIDDLE, Noise, small_wan
from extract.diffusion.backbone import LatentVideoBackbone, VideoState
from extract.engine import clip_features
from extract.plan import Plan, Request, make_plan
from store import StoreWriter, create

SITES = [f"blocks.{k}" for k in (0, 1, 3, 4, 6, MIDDLE)]
LEVELS = ["t=200", "t=400", "t=600", "t=800"]
GOALS: Goals = {
    "one_pass_of_4_levels_and_6_sites_vs_4_forwards_and_1_encode": ("<=", 1.1),
    "stop_in_the_middle_vs_whole_forward": ("<=", 0.6),
    "engine_overhead_vs_forward": ("<=", 0.05),
}


class Bare:
    """The parts of a pass over clips, without the engine: states are encoded beforehand, nothing is kept."""

    def __init__(self, backbone: LatentVideoBackbone, plan: Plan) -> None:
        self.backbone, self.family = backbone, backbone.family
        self.frames = [torch.from_numpy(clip.frames(range(clip.n_frames))) for clip in plan.clips]
        self.bank = plan.clips[0].bank
        self.states = [self._encode(frames) for frames in self.frames]

    def _encode(self, frames: torch.Tensor) -> VideoState:
        return self.backbone.encode(frames, self.bank, torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def encode(self) -> None:
        """All clips."""
        for frames in self.frames:
            self._encode(frames)

    @torch.inference_mode()
    def forward(self, levels: Sequence[str], last: int | None = None) -> None:
        """All clips at every level, up to the block `last`."""
        network = self.backbone.networks["transformer"]
        handle = None if last is None else network.get_submodule(f"blocks.{last}").register_forward_hook(_leave)
        for state in self.states:
            told = {**self.backbone.prompt, **state.told[0]}
            for name in levels:
                level = self.family.noise_level(name)
                sample = self.family.schedule.mix(state.latents, state.noise, level)
                with suppress(_Left):
                    self.family.denoise(self.backbone.networks, sample, level, told)
        if handle is not None:
            handle.remove()


class _Left(Exception):
    pass


def _leave(module: object, inputs: object, output: object) -> None:
    raise _Left


def engine(backbone: LatentVideoBackbone, plan: Plan, frames: Sequence[torch.Tensor]) -> None:
    """What `extract.loop.extract` does with every clip."""
    with StoreWriter(plan.path) as writer:
        for row, clip in enumerate(plan.clips):
            writer.put(row, clip_features(backbone, plan, clip, frames[row], plan.taps).arrive())


def measure(folder: Path, clips: int, rounds: int) -> dict[str, float]:
    """All numbers."""
    family, data = small_wan(folder / "wan"), Noise(clips)
    plans = {
        name: make_plan(family, data, Request(sites=SITES, noise=levels, out=str(folder / name)))
        for name, levels in (("one level", LEVELS[:1]), ("four levels", LEVELS))
    }
    backbone = family.load(torch.device("cpu"), torch.float32)
    bare = Bare(backbone, plans["one level"])

    def before() -> None:
        for plan in plans.values():
            shutil.rmtree(plan.path, ignore_errors=True)
            create(plan.path, plan.recipe, plan.table, plan.specs(), attrs={}, coordinates={}, provenance={})

    def in_memory() -> None:
        plan = plans["one level"]
        for clip, frames in zip(plan.clips, bare.frames, strict=True):
            clip_features(backbone, plan, clip, frames, plan.taps).arrive()

    def pieces() -> None:
        bare.encode()
        bare.forward(LEVELS, MIDDLE)

    def piece() -> None:
        bare.encode()
        bare.forward(LEVELS[:1], MIDDLE)

    works = {
        "whole forward": lambda: bare.forward(LEVELS[:1]),
        "forward": lambda: bare.forward(LEVELS[:1], MIDDLE),
        "encode and forward": piece,
        "engine": lambda: engine(backbone, plans["one level"], bare.frames),
        "engine, not written": in_memory,
        "encode and 4 forwards": pieces,
        "engine, 4 levels": lambda: engine(backbone, plans["four levels"], bare.frames),
    }
    spent: dict[str, list[float]] = {}
    taken = times(
        {name: partial(spend, work, spent.setdefault(name, [])) for name, work in works.items()}, rounds, before
    )
    spent = {name: seconds[1:] for name, seconds in spent.items()}  # the first round does not count
    return {
        "one_pass_of_4_levels_and_6_sites_vs_4_forwards_and_1_encode": cost(
            taken, "engine, 4 levels", "encode and 4 forwards"
        ),
        "one_pass_of_4_levels_and_6_sites_vs_4_forwards_and_1_encode_cpu": cost(
            spent, "engine, 4 levels", "encode and 4 forwards"
        ),
        "stop_in_the_middle_vs_whole_forward": cost(taken, "forward", "whole forward"),
        "engine_overhead_vs_forward": beside(taken, "engine"),
        "engine_overhead_vs_forward_cpu": beside(spent, "engine"),
        "engine_overhead_without_writing_vs_forward": beside(taken, "engine, not written"),
        "engine_overhead_without_writing_vs_forward_cpu": beside(spent, "engine, not written"),
        "forward_ms_per_clip": round(milliseconds(taken, "forward") / clips, 1),
        "encode_ms_per_clip": round(
            (milliseconds(taken, "encode and forward") - milliseconds(taken, "forward")) / clips, 1
        ),
    }


def spend(work: Work, seconds: list[float]) -> None:
    """Do some work, and note the processor seconds of all threads."""
    start = time.process_time()
    work()
    seconds.append(time.process_time() - start)


def beside(taken: Taken, ours: str) -> float:
    """Time beyond that of encoding and a bare forward, as a share of the forward: median over rounds."""
    rounds = zip(taken[ours], taken["encode and forward"], taken["forward"], strict=True)
    return round(statistics.median((own - both) / forward for own, both, forward in rounds), 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of the network")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        numbers = judged(measure(folder, options.clips, options.rounds), GOALS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    about = {"machine": platform.platform(), "blocks": BLOCKS}
    print(json.dumps(about | vars(options) | numbers, indent=1, default=str))


if __name__ == "__main__":
    main()
