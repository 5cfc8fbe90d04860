"""One training run, from two stores to a run directory that exists only complete."""

from __future__ import annotations

import csv
import logging
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from evaluate.records import ProbeInfo, RunInfo, RunWriter
from probes.bank import ProbeBank
from probes.checkpoint import save
from probes.config import Asked, ProbeSpec, TapSpec, probes_of
from probes.data import Stream
from probes.errors import NonFiniteError, ProbesError, RunExistsError
from probes.features import standardiser_of
from probes.heads import build_head
from probes.heads.base import Form, Head
from probes.inputs import TRAIN, length_unit
from probes.plan import Plan
from probes.predict import Best, record
from probes.standardise import Standardiser
from probes.tasks import tasks_of
from probes.tasks.base import Task
from probes.training.fit import fit
from probes.training.log import METRICS, VALIDATION
from probes.training.machine import Machine
from probes.training.passes import free_memory, plan_passes, probe_bytes, settle, tap_bytes
from probes.training.status import STATUS, Meter, bars
from probes.training.workplace import workplace
from store import FeatureStore, FusedStore

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from store import Readable

log = logging.getLogger(__name__)

LIBRARIES = ("torch", "lightning", "numpy", "scikit-learn", "safetensors", "zarr")
SEARCH = "search.csv"


class Candidate(NamedTuple):
    """A probe after training: its loss on val with the weights that were kept, and the step of those."""

    probe: ProbeSpec
    loss: float
    step: int


@dataclass(frozen=True)
class How:
    """How a run is executed; changes no number but by rounding.

    Attributes:
        machine: devices and precision.
        memory: bytes that one pass may take; `None` = a part of what is free.
        loggers: further places that losses are sent to.
        command: what the user typed.
    """

    machine: Machine
    memory: int | None = None
    loggers: Sequence[Logger] = ()
    command: str = ""


def execute(plan: Plan, how: How, *, replace: bool) -> list[Best]:
    """Train, choose, predict, and write the run.

    Returns the best probe of each task and head; in helping processes none.

    Raises:
        NonFiniteError: a feature or a loss is NaN or infinite.
        RunExistsError: another process makes the same run, or has made it since this one began.
    """
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    with bars(quiet=rank > 0) as progress, workplace(plan.out, plan.identity, helper=rank > 0) as place:
        if not replace and plan.out.exists():
            raise RunExistsError(f"{plan.out}: another process has just made this run. Run the same command again.")
        meter = Meter(place if rank == 0 else None, progress)
        try:
            bank, candidates = train(plan, how, place, meter, rank)
            return [] if rank else _write(plan, how, bank, candidates, place, meter, replace=replace)
        except BaseException as error:
            meter.end("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise


def train(plan: Plan, how: How, place: Path, meter: Meter, rank: int = 0) -> tuple[ProbeBank, list[Candidate]]:
    """Train all probes, in as many passes as the memory asks for.

    Returns:
        The probes with the least loss on val of each task, tap, head and seed, and of each of their controls (of equals
        the first), and all candidates.
    """
    inputs, config = plan.inputs, plan.config
    device = how.machine.device
    probes = probes_of(config)
    tasks = tasks_of(probes, inputs.space, config.protocol)
    if plan.embeddings is not None:
        told = tasks["tagging", "alternating"]
        told.embeddings = read_embeddings(plan.embeddings, told.classes)
    taps = {tap.name: tap for tap in plan.taps}
    stream = Stream(inputs, tasks.values(), config, pin=device.type == "cuda", share=(rank, how.machine.devices))
    with meter.phase("targets", len(inputs.rows[TRAIN]), f"clips of {inputs.targets.name}"):
        stream.pools.load(meter.advance)
    standardisers: dict[str, Standardiser] = {}
    with meter.phase("standardise", len(taps), "taps"):
        for tap in taps:
            standardisers[tap] = standardiser_of(inputs, tap, config.views)
            meter.advance()
    priors = stream.priors()
    candidates: list[Candidate] = []
    chosen: dict[tuple[object, ...], tuple[Candidate, Head]] = {}
    passes = settle(
        place,
        [probe.id for probe in probes],
        lambda: _passes(plan, tasks, probes, how, stream.targets_bytes()),
        asked=how.memory is not None,
        helper=rank > 0,
    )
    for number, members in enumerate(passes, 1):
        some = [probes[index] for index in members]
        single = how.machine.single
        bank = ProbeBank(some, taps, tasks, standardisers, stream.steps, warmup=config.warmup, single=single)
        bank.start_at(priors)
        folder = place / f"pass-{number}"
        folder.mkdir(exist_ok=True)
        kept = fit(bank, stream, config, folder, how.machine, meter, how.loggers)
        for index, probe in enumerate(bank.probes):
            candidates.append(Candidate(probe, kept.loss[index], kept.step[index]))
            key = *probe.start, probe.shuffled
            if key not in chosen or kept.loss[index] < chosen[key][0].loss:
                chosen[key] = candidates[-1], bank.head(index).cpu()
    for (probe, loss, _), _ in chosen.values():
        if math.isinf(loss):
            raise NonFiniteError(
                f"probe {probe.id}: the loss became infinite or NaN, as did those of all other learning rates and "
                "weight decays that were tried. Lower --learning-rate or --weight-decay."
            )
    heads = {candidate.probe: head for candidate, head in chosen.values()}
    return ProbeBank(list(heads), taps, tasks, standardisers, heads=list(heads.values())).to(device).eval(), candidates


def read_embeddings(path: Path, classes: Sequence[str]) -> Float[Tensor, "thing channel"]:
    """Embeddings of class names from a `.npy` file. Raises `ProbesError` if it is none, or of other classes."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ProbesError(f"--class-embeddings {path}: cannot be read as an array ({error}).") from error
    expected = values.ndim == 2 and len(values) == len(classes) and values.shape[1] > 0 and values.dtype.kind == "f"
    if not expected or not np.isfinite(values).all():
        raise ProbesError(
            f"--class-embeddings {path}: expected finite numbers (class, channel) for {len(classes)} classes, got "
            f"{values.dtype} {values.shape}. The classes are, in this order: {', '.join(classes)}."
        )
    return torch.from_numpy(values.astype(np.float32))


def _passes(
    plan: Plan, tasks: Mapping[Asked, Task], probes: Sequence[ProbeSpec], how: How, targets: int
) -> list[list[int]]:
    """Positions of the probes of each pass; `targets` are the bytes that every pass takes for its targets."""
    config, features = plan.config, plan.inputs.features
    dense = {task.wanted() for (_, head), task in tasks.items() if head == "linear" and task.layout == "cells"}
    reads = len(dense) * (1 + config.control)
    sizes, reading = {}, {}
    for tap in plan.taps:
        info = features.info(tap.name)
        cells = math.prod(info.shape[-3:-1])
        reading[tap.name] = tap_bytes(tap, cells, info.physical.itemsize, config, reads)
        with torch.device("meta"):
            for probe in {probe.asked: probe for probe in probes if probe.tap == tap.name}.values():
                head = build_head(probe.head, tasks[probe.asked], tap.channels, Form(probe.width, probe.depth))
                sizes[probe.asked, tap.name] = probe_bytes(head, cells, config)
    budget = free_memory(how.machine.device) if how.memory is None else how.memory
    passes = plan_passes(probes, reading, [sizes[probe.asked, probe.tap] for probe in probes], budget - targets)
    if len(passes) > 1:
        counts = ", ".join(str(len(members)) for members in passes)
        log.warning(
            "%d passes over the store, of %s probes: more do not fit into %.1f GB at once (--memory)",
            *(len(passes), counts, budget / 1e9),
        )
    return passes


def _write(
    plan: Plan,
    how: How,
    bank: ProbeBank,
    candidates: Sequence[Candidate],
    place: Path,
    meter: Meter,
    *,
    replace: bool,
) -> list[Best]:
    inputs, config = plan.inputs, plan.config
    with RunWriter(plan.out, run_info(plan, bank, how.command), replace=replace) as writer:
        save(bank, writer.staging, inputs.features, inputs.space, config.protocol)
        best = record(writer, bank, inputs, plan.protocols, config, meter)
        _write_search(writer.staging / SEARCH, candidates, bank.probes)
        for folder in sorted(place.glob("pass-*")):
            ending = folder.name.removeprefix("pass")
            for table in (METRICS, VALIDATION):
                if (folder / table).is_file():
                    name = table if ending == "-1" else table.replace(".csv", f"{ending}.csv")
                    shutil.copyfile(folder / table, writer.staging / name)
        meter.end("done")
        shutil.copyfile(place / STATUS, writer.staging / STATUS)
    return best


def _write_search(path: Path, candidates: Sequence[Candidate], chosen: Sequence[ProbeSpec]) -> None:
    """What was tried: each probe, its least loss on val, the step of that, and whether it was chosen."""
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["probe", "val_loss", "step", "chosen"])
        for probe, loss, step in candidates:
            lines.writerow([probe.id, "" if math.isnan(loss) else f"{loss:.6g}", step, int(probe in chosen)])


def run_info(plan: Plan, bank: ProbeBank, command: str) -> RunInfo:
    """What the run says about itself."""
    features = plan.inputs.features.recipe
    assert features.backbone is not None  # checked when the store was opened
    return RunInfo(
        name=plan.out.name,
        model=features.backbone.model,
        parameters=_backbone_parameters(plan.inputs.features),
        kind=features.backbone.kind,
        untrained=features.backbone.untrained is not None,
        dataset=plan.inputs.targets.recipe.dataset.name,
        features_fingerprint=plan.inputs.features.fingerprint,
        draw_of=features.draw_of,
        targets_fingerprint=plan.inputs.targets.fingerprint,
        length_unit=length_unit(plan.inputs.targets),
        config=plan.recorded,
        protocols={task: protocol.id for task, protocol in plan.protocols.items()},
        classes={task.name: task.classes for task in bank.tasks.values() if task.classes},
        probes=[
            _probe_info(probe, bank.taps[probe.tap], sum(p.numel() for p in head.parameters()))
            for probe, head in zip(bank.probes, bank.heads, strict=True)
        ],
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={name: version(name) for name in LIBRARIES},
    )


def _backbone_parameters(features: Readable) -> int | None:
    """Return the number that the store knows, or its branches together; each backbone counts once."""
    branches = features.branches if isinstance(features, FusedStore) else [features]
    counts = {
        branch.recipe.backbone.model: branch.provenance.get("parameters")
        for branch in branches
        if isinstance(branch, FeatureStore) and branch.recipe.backbone is not None
    }
    known = [count for count in counts.values() if isinstance(count, int)]
    return sum(known) if known and len(known) == len(counts) else None


def _probe_info(probe: ProbeSpec, tap: TapSpec, parameters: int) -> ProbeInfo:
    return ProbeInfo(
        id=probe.id,
        task=probe.task,
        tap=probe.tap,
        site=tap.site,
        depth=tap.depth,
        noise=tap.noise,
        head=probe.label,
        learning_rate=probe.learning_rate,
        weight_decay=probe.weight_decay,
        seed=probe.seed,
        shuffled=probe.shuffled,
        parameters=parameters,
    )
