"""From flags to what is asked for: model, data set, device. Every worker resolves them by itself."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, get_args

from extract.arguments import Arguments
from extract.datasets.sampling import Sampling, Window
from extract.errors import ExtractError
from store.dtypes import FEATURE_DTYPES
from store.suggest import did_you_mean

if TYPE_CHECKING:
    import torch

    from extract.plan import Outline
    from store import ClipRow

log = logging.getLogger(__name__)


def outline(arguments: Arguments, known: Sequence[ClipRow] | None = None) -> Outline:
    """What is asked for, resolved as far as it can be without weights; for `known` see `make_outline`.

    Raises:
        ExtractError: the request cannot be met.
    """
    _check_choice("--dtype", arguments.dtype, ("float32", "float16", "bfloat16"))
    _check_choice("--store-dtype", arguments.store_dtype, FEATURE_DTYPES)
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)

    from extract.backbones.base import Options
    from extract.plan import Request, make_outline
    from extract.registry import make_dataset, make_family

    options = Options(
        checkpoint=arguments.checkpoint,
        revision=arguments.revision,
        size=arguments.size,
        untrained=arguments.seed if arguments.untrained else None,
        frames=arguments.frames,
        condition=arguments.condition,
        preset=arguments.preset,
        attention=arguments.attention,
        layout=arguments.layout,
        prompt=arguments.prompt,
        compiled=arguments.compile,
        batch_clips=arguments.batch_clips,
    )
    family = make_family(arguments.model, options)
    if arguments.offload != "none" and not family.offloads:
        raise ExtractError(
            f"--offload {arguments.offload}: {family.model} stays on the device whole. Leave it out; --dtype bfloat16 "
            "halves the memory."
        )
    if arguments.cluster is not None and (arguments.profile or arguments.profile_to):
        raise ExtractError("--profile: workers of a cluster record nothing. Profile one process: leave out --cluster.")
    if arguments.compile and arguments.offload != "none":
        raise ExtractError("--compile: weights that come and go are not compiled. Leave out --compile or --offload.")
    dataset = make_dataset(arguments.dataset, arguments.root, _sampling(arguments))
    sites = tuple(site.name for site in family.sites()) if "all" in arguments.sites else arguments.sites
    request = Request(
        sites=sites,
        noise=arguments.noise,
        grid=arguments.grid,
        dtype=arguments.dtype,
        store_dtype=arguments.store_dtype,
        seed=arguments.seed,
        draws=arguments.draws,
        split=arguments.split,
        limit=arguments.limit,
        skip_damaged=arguments.skip_damaged,
        share=(0, 1) if arguments.cluster else share(arguments.rank, arguments.world, os.environ),
        out=arguments.out,
    )
    return make_outline(family, dataset, request, known)


def share(rank: int | None, world: int | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """Our number among the processes that share the work, and how many there are; by default, what torchrun says.

    Raises:
        ExtractError: only one is given, or there is no such number.
    """
    if rank is None and world is None:
        said = environment.get("RANK", ""), environment.get("WORLD_SIZE", "")
        if not (said[0].isdecimal() and said[1].isdecimal()):
            return 0, 1
        rank, world = int(said[0]), int(said[1])
        if world > 1:
            log.info(
                "rank %d of %d, as RANK and WORLD_SIZE say: this process takes its share of the clips", rank, world
            )
    if rank is None or world is None or rank >= world:
        raise ExtractError(
            f"--rank {rank} --world {world}: give both, and ranks from 0, for example "
            "--rank $SLURM_ARRAY_TASK_ID --world $SLURM_ARRAY_TASK_COUNT"
        )
    return rank, world


def usable_device(name: str) -> torch.device:
    """The device of that name; `auto` is a GPU if there is one. Raises `ExtractError` if it cannot be used."""
    import torch

    if name == "auto":
        # torchrun starts one process per GPU, and all of them see all.
        local = os.environ.get("LOCAL_RANK", "")
        name = (f"cuda:{local}" if local else "cuda") if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ExtractError(
            f"--device {name}: not usable here ({str(error).splitlines()[0]}). Choose cpu, cuda, cuda:1 or mps."
        ) from error
    return device


def _check_choice(flag: str, got: str, known: tuple[str, ...]) -> None:
    if got not in known:
        raise ExtractError(f"{flag}: {did_you_mean('type', got, known)}")


def _sampling(arguments: Arguments) -> Sampling | None:
    """How clips are cut out of recordings, if the user asks for anything but the data set's own way."""
    from extract.registry import dataset_classes

    asked = {"frames": arguments.clip_frames, "window": arguments.clip_window, "bank": arguments.bank}
    if not (given := {name: value for name, value in asked.items() if value is not None}):
        return None
    if arguments.clip_window is not None:
        _check_choice("--clip-window", arguments.clip_window, get_args(Window))
    if arguments.bank is not None and arguments.bank != "paper":
        if not arguments.bank.isdecimal() or not int(arguments.bank):
            raise ExtractError(f"--bank {arguments.bank}: expected paper, or a number of frames such as 20.")
        given["bank"] = int(arguments.bank)
    known = dataset_classes().get(arguments.dataset)
    usual = (known.default_sampling if known else None) or Sampling()
    return Sampling.model_validate(usual.model_dump() | given)
