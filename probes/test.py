"""`python -m probes.test`: what trained probes say on a store, also on another dataset's. Nothing is trained."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probes.terminal import (
    DATA,
    PROBES,
    RUN,
    Dataset,
    Device,
    Fusion,
    Json,
    Limit,
    TargetsStore,
    names,
    protocols_of,
    report,
    run_app,
)

if TYPE_CHECKING:
    from probes.bank import ProbeBank
    from probes.checkpoint import Card
    from probes.config import TrainConfig
    from probes.labels import LabelSpace
    from probes.tasks import Rules
    from store import Readable

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def measure(
    run: Annotated[Path, typer.Option(help="Run directory, or an exported folder, whose probes are tested.")],
    features: Annotated[str, typer.Option(help="Feature store of the same backbone.", rich_help_panel=DATA)],
    fusion: Fusion = None,
    dataset: Dataset = None,
    targets: TargetsStore = None,
    limit: Limit = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Only these tasks; repeatable.", rich_help_panel=PROBES)
    ] = None,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Run directory to write. Default: RUN-on-DATASET.", rich_help_panel=RUN)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace whatever run is there.", rich_help_panel=RUN)] = False,
    as_json: Json = False,
) -> None:
    """Load probes, score them on val and test of a store, and write a run that `python -m evaluate` reads."""
    from evaluate.records import RunWriter
    from evaluate.schema import read_info
    from probes.checkpoint import load, save
    from probes.errors import SplitError
    from probes.inputs import TEST, VAL, align, length_unit, open_inputs
    from probes.predict import record
    from probes.training.machine import torch_device
    from probes.training.status import Meter, bars

    bank, card = load(run)
    info = read_info(run / "run.json")
    store, labels = open_inputs(features, targets, dataset, fusion)
    trained = _trained(info.config, run)
    tasks = _tasks(names(task), bank, run)
    config = trained.model_copy(update={"tasks": tasks, "limit": limit})
    wanted = (TEST,) if card.protocol == "paper" else (VAL, TEST)
    splits = [split for split in wanted if any(clip.split == split for clip in store.clips)]
    if TEST not in splits:
        there = ", ".join(sorted({clip.split for clip in store.clips}))
        raise SplitError(f"{store.name}: has no clip of split test to measure probes on; it has {there}.")
    inputs = align(store, labels, config.taps, tasks, config.views, limit, splits, card.protocol)
    _check(card, store, inputs.space, tasks)
    inputs = replace(inputs, space=inputs.space.model_copy(update={"rates": card.space.rates}))
    bank = _on(bank, inputs.space, card.protocol, tasks).to(torch_device(device)).eval()
    protocols = protocols_of(tasks, inputs.space, card.protocol)
    place = out or run.parent / f"{run.name}-on-{labels.recipe.dataset.name}"
    told = info.model_copy(
        update={
            "name": place.name,
            "dataset": labels.recipe.dataset.name,
            "trained_on": info.trained_on or (info.dataset if info.dataset != labels.recipe.dataset.name else None),
            "features_fingerprint": store.fingerprint,
            "draw_of": store.recipe.draw_of,
            "targets_fingerprint": labels.fingerprint,
            "length_unit": length_unit(labels),
            "config": config.model_dump(mode="json") | {"clips": {split: len(inputs.rows[split]) for split in splits}},
            "protocols": {name: protocol.id for name, protocol in protocols.items()},
            "classes": {each.name: each.classes for each in bank.tasks.values() if each.classes},
            "probes": [probe for probe in info.probes if probe.task in tasks],
            "command": shlex.join(["python", "-m", "probes.test", *sys.argv[1:]]),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    with bars() as progress, RunWriter(place, told, replace=force) as writer:
        meter = Meter(writer.staging, progress)
        save(bank, writer.staging, store, inputs.space, card.protocol)
        best = record(writer, bank, inputs, protocols, config, meter)
        meter.end("done")
    report(place, protocols, best, as_json=as_json)


def _trained(config: Mapping[str, Any], run: Path) -> TrainConfig:
    """How probes were trained, from a run's configuration. Raises `CheckpointError` for that of another version."""
    from pydantic import ValidationError

    from probes.config import TrainConfig
    from probes.errors import CheckpointError

    try:
        return TrainConfig.model_validate({name: config[name] for name in TrainConfig.model_fields})
    except (KeyError, ValidationError) as error:
        raise CheckpointError(
            f"{run / 'run.json'}: was not written by this version of the project ({error}). Train the probes again."
        ) from error


def _tasks(asked: Sequence[str], bank: ProbeBank, run: Path) -> tuple[str, ...]:
    """The tasks of a run that are tested. Raises `UnknownNameError` for one that it has no probe of."""
    from probes.errors import UnknownNameError
    from store.suggest import did_you_mean

    there = dict.fromkeys(probe.task for probe in bank.probes)
    for name in asked:
        if name not in there:
            raise UnknownNameError(f"{run}: {did_you_mean('task', name, there)}")
    return tuple(name for name in there if not asked or name in asked)


def _check(card: Card, features: Readable, space: LabelSpace, tasks: Sequence[str]) -> None:
    """Raise `CheckpointError` if the probes cannot read these features, or speak of other classes or units."""
    from probes.checkpoint import backbone_digest
    from probes.errors import CheckpointError
    from probes.tasks import TASKS

    if backbone_digest(features) != card.backbone:
        raise CheckpointError(
            f"{features.name}: its features were made otherwise than those of {card.features}, on which the probes "
            "were trained (backbone, weights, preprocessing or noise). `python -m store diff` tells what differs."
        )
    if "depth" in tasks and card.protocol != "paper" and space.metric != card.space.metric:
        units = {True: "metres", False: "units of each scene's own"}
        raise CheckpointError(
            f"{features.name}: lengths are {units[space.metric]}, and {units[card.space.metric]} where the probes were "
            f"trained, so that depth cannot be tested. {_others(tasks, ['depth'])}"
        )
    ours, theirs = (list(zip(each.names, each.things, strict=True)) for each in (space, card.space))
    named = [task for task in tasks if TASKS[task].classes]
    if named and ours != theirs:
        raise CheckpointError(
            f"{features.name}: the targets have other classes than those that the probes were trained on, so that "
            f"{' and '.join(named)} cannot be tested. {_others(tasks, named)}"
        )


def _others(tasks: Sequence[str], lost: Sequence[str]) -> str:
    others = [f"--task {task}" for task in tasks if task not in lost]
    return f"Ask for others: {' '.join(others) or 'there are none'}"


def _on(bank: ProbeBank, space: LabelSpace, protocol: Rules, tasks: Sequence[str]) -> ProbeBank:
    """The same probes, those of some tasks, on targets of another size."""
    from probes.bank import ProbeBank
    from probes.tasks import tasks_of

    chosen = [index for index, probe in enumerate(bank.probes) if probe.task in tasks]
    return ProbeBank(
        [bank.probes[index] for index in chosen],
        bank.taps,
        tasks_of([bank.probes[index] for index in chosen], space, protocol),
        {tap: bank.standardiser(tap) for tap in bank.taps},
        heads=[bank.head(index) for index in chosen],
    )


if __name__ == "__main__":
    run_app(app, "no run was written; run the same command again")
