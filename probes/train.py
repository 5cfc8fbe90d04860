"""`python -m probes.train`: train probes on a feature store, and say which tap is best for which task."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from probes.config import LEARNING_RATE, TrainConfig, probes_of

if TYPE_CHECKING:
    from evaluate.protocols import Protocol
    from probes.labels import LabelSpace
    from probes.predict import Best
    from probes.run import Plan

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def train(
    features: Annotated[str, typer.Option(help="Feature store: store/NAME, store/NAME/DATASET, a path; or A+B.")],
    task: Annotated[
        list[str] | None, typer.Option(help="Task to probe for; repeatable. Default: all there are.")
    ] = None,
    taps: Annotated[list[str] | None, typer.Option(help="Tap to probe; repeatable. All if none is given.")] = None,
    fusion: Annotated[
        str | None, typer.Option(help="How stores joined by + become one: lnconcat or concat.", metavar="MODE")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Which dataset, if the store holds several.")] = None,
    targets: Annotated[str | None, typer.Option(help="Targets store. Default: store/targets/DATASET.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory. Default: runs/NAME-DATASET.")] = None,
    head: Annotated[str, typer.Option(help="Kind of head.")] = "linear",
    learning_rate: Annotated[
        list[float] | None,
        typer.Option(min=1e-8, help=f"Repeatable; the best is chosen on val. Default: {LEARNING_RATE}."),
    ] = None,
    weight_decay: Annotated[float, typer.Option(min=0)] = 0.01,
    epochs: Annotated[int, typer.Option(min=1, help="How often each training clip is seen.")] = 40,
    batch_clips: Annotated[int, typer.Option(min=1, help="Clips per step.")] = 4,
    views: Annotated[int, typer.Option(min=2, help="Frames of a clip per sample and evaluation window.")] = 4,
    pixels: Annotated[int, typer.Option(min=8, help="Pixels per clip and step in dense tasks.")] = 512,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many clips of each split.")] = None,
    shuffle_labels: Annotated[
        bool,
        typer.Option("--shuffle-labels", help="Control: train every clip on another clip's targets."),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Redo the run, and replace whatever run is there.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Replace a run that is not up to date.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Plan, skip what is up to date, train, and print."""
    from probes.errors import RunExistsError
    from probes.inputs import align, choose_taps, choose_tasks, open_inputs
    from probes.run import Plan, default_out, execute, existing_run

    feature_store, target_store = open_inputs(features, targets, dataset, fusion)
    tasks = choose_tasks(_names(task) or ["all"], target_store)
    chosen = choose_taps(_names(taps), feature_store)
    config = TrainConfig(
        tasks=tuple(tasks),
        taps=tuple(tap.name for tap in chosen),
        head=head,
        learning_rates=tuple(dict.fromkeys(float(f"{rate:g}") for rate in learning_rate or [LEARNING_RATE])),
        weight_decay=weight_decay,
        epochs=epochs,
        batch_clips=batch_clips,
        views=views,
        pixels=pixels,
        seed=seed,
        limit=limit,
        shuffle_labels=shuffle_labels,
    )
    inputs = align(feature_store, target_store, config.taps, tasks, views, limit)
    place = out or default_out(feature_store.name, shuffled=shuffle_labels)
    plan = Plan(inputs, config, chosen, place, _protocols(tasks, inputs.space))
    if (found := existing_run(plan)) is not None and not force:
        info, changed = found
        if not changed:
            reason = f"up to date: {plan.out} was made on {info.created} from the same features, targets and settings"
            print(json.dumps({"run": str(plan.out), "skipped": reason}) if as_json else f"{reason} (--force redoes it)")
            return
        if not update:
            listing = "\n".join(f"  {name}: {old!r} there, {new!r} asked for" for name, (old, new) in changed.items())
            remedy = "Replace it with --update, or choose another --out."
            raise RunExistsError(f"{plan.out}: holds a run with other settings:\n{listing}\n{remedy}")
    command = shlex.join(["python", "-m", "probes.train", *sys.argv[1:]])
    best = execute(plan, device, command, replace=found is not None)
    _report(plan, best, as_json)


def _names(values: list[str] | None) -> list[str]:
    """Values of a repeatable option, each of which may also be a list with commas."""
    return [name for value in values or [] for name in value.split(",") if name]


def _protocols(tasks: list[str], space: LabelSpace) -> dict[str, Protocol]:
    """The standard protocol of each task."""
    from evaluate.protocols import get_protocol

    classes = {"tagging": space.thing_names, "segmentation": list(space.names)}
    return {task: get_protocol(task, classes.get(task, [])) for task in tasks}


def _report(plan: Plan, best: list[Best], as_json: bool) -> None:
    """Best tap per task: chosen on val, reported on test."""
    taps = {probe.id: probe.tap for probe in probes_of(plan.config)}
    if as_json:
        rows = [
            {"task": b.task, "tap": taps[b.probe_id], "probe": b.probe_id, "metric": b.metric}
            | {"val": b.val, "test": dict(b.test)}
            for b in best
        ]
        print(json.dumps({"run": str(plan.out), "best": rows}, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{plan.out}: best tap per task, chosen on val", title_justify="left")
    for column in ("task", "tap", "metric", "val", "test"):
        table.add_column(column, justify="right" if column in ("val", "test") else "left")
    for b in best:
        metric = plan.protocols[b.task].metrics[b.metric]
        name = f"{metric.title} {metric.arrow}"
        table.add_row(b.task, taps[b.probe_id], name, metric.format(b.val), metric.format(b.test[b.metric]))
    Console().print(table)


def main() -> None:
    """Run the command line; known errors become one message and exit status 1."""
    from evaluate.errors import EvaluateError
    from probes.errors import ProbesError
    from store.errors import StoreError

    try:
        app()
    except (ProbesError, StoreError, EvaluateError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted: no run was written; run the same command again", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
