"""`python -m probes.train`: train probes on a feature store, and say which tap is best for which task."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from probes.config import LEARNING_RATES, VALIDATIONS, WEIGHT_DECAYS, TrainConfig
from probes.heads import HEADS, JOINT, SIZED, choose_heads
from probes.terminal import (
    DATA,
    LOGGERS,
    PROBES,
    RUN,
    TRAINING,
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
from store.digest import digest_file

if TYPE_CHECKING:
    from probes.tasks import Rules

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def train(
    features: Annotated[
        str, typer.Option(help="Feature store: store/NAME, store/NAME/DATASET, a path; or A+B.", rich_help_panel=DATA)
    ],
    taps: Annotated[
        list[str] | None,
        typer.Option(help="Tap to probe; repeatable. All if none is given.", rich_help_panel=DATA),
    ] = None,
    fusion: Fusion = None,
    dataset: Dataset = None,
    targets: TargetsStore = None,
    limit: Limit = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Task to probe for; repeatable. Default: all there are.", rich_help_panel=PROBES),
    ] = None,
    protocol: Annotated[
        Literal["standard", "paper", "probe3d"],
        typer.Option(
            help="Whose rules: ours; or those of arXiv 2605.28132, flaws included: its tasks, losses, views, and the "
            "choice of weights on the split that is reported; or ours for training and those of Probe3D for scoring.",
            rich_help_panel=PROBES,
        ),
    ] = "standard",
    head: Annotated[
        list[str] | None,
        typer.Option(help=f"Kind of head: {', '.join(HEADS)}; repeatable. Default: linear.", rich_help_panel=PROBES),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(min=16, help="Of heads alternating and dpt; default: the paper's.", rich_help_panel=PROBES),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(min=0, help="Of the head alternating; 0 = no attention at all.", rich_help_panel=PROBES),
    ] = None,
    joint: Annotated[
        bool,
        typer.Option("--joint", help="Tasks of a tap share the trunk of head alternating.", rich_help_panel=PROBES),
    ] = False,
    class_embeddings: Annotated[
        Path | None,
        typer.Option(
            help="Array .npy (class, channel): queries of tagging with head alternating; learned if not given.",
            rich_help_panel=PROBES,
        ),
    ] = None,
    learning_rate: Annotated[
        list[float] | None,
        typer.Option(
            min=1e-8,
            help=f"Repeatable; the best is chosen on val. Default: {' and '.join(map(str, LEARNING_RATES))}.",
            rich_help_panel=PROBES,
        ),
    ] = None,
    weight_decay: Annotated[
        list[float] | None,
        typer.Option(
            min=0,
            help=f"Repeatable, likewise. Default: {' and '.join(map(str, WEIGHT_DECAYS))}.",
            rich_help_panel=PROBES,
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Of initial weights; repeatable, one probe each. The first is also that of the order of clips, of "
            "views and of pixels. Default: 0.",
            rich_help_panel=PROBES,
        ),
    ] = None,
    control: Annotated[
        bool,
        typer.Option(
            "--control",
            help="Beside every trained probe, one whose training clips have the targets of another scene.",
            rich_help_panel=PROBES,
        ),
    ] = False,
    epochs: Annotated[
        int, typer.Option(min=1, help="How often each training clip is seen.", rich_help_panel=TRAINING)
    ] = 40,
    warmup: Annotated[
        float,
        typer.Option(min=0, max=0.99, help="Share of steps that the learning rate rises in.", rich_help_panel=TRAINING),
    ] = 0.05,
    batch_clips: Annotated[int, typer.Option(min=1, help="Clips per step.", rich_help_panel=TRAINING)] = 4,
    views: Annotated[
        int, typer.Option(min=2, help="Frames of a clip per sample and evaluation window.", rich_help_panel=TRAINING)
    ] = 4,
    pixels: Annotated[
        int, typer.Option(min=8, help="Pixels per clip and step in dense tasks.", rich_help_panel=TRAINING)
    ] = 512,
    keep: Annotated[
        Literal["best", "last"],
        typer.Option(help="Keep the weights with the least loss on val, or the last.", rich_help_panel=TRAINING),
    ] = "best",
    patience: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"A probe rests after so many validations ({VALIDATIONS} in a run) without a smaller loss on val.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    device: Device = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="Share every batch between so many processes.", rich_help_panel=RUN)
    ] = 1,
    precision: Annotated[
        Literal["auto", "32-true", "bf16-mixed"],
        typer.Option(help="Of the heads; auto = bf16-mixed for heads with attention on a GPU.", rich_help_panel=RUN),
    ] = "auto",
    memory: Annotated[
        float | None,
        typer.Option(
            min=0, max=1e6, help="GB that one pass may take; default: most of what is free.", rich_help_panel=RUN
        ),
    ] = None,
    logger: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Send losses also to {', '.join(LOGGERS)}; repeatable. metrics.csv is always written.",
            rich_help_panel=RUN,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory. Default: runs/NAME-DATASET.", rich_help_panel=RUN)
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Redo the run, and replace whatever run is there.", rich_help_panel=RUN)
    ] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Replace a run that is not up to date.", rich_help_panel=RUN)
    ] = False,
    as_json: Json = False,
) -> None:
    """Plan, skip what is up to date, train, and print."""
    from probes.errors import RunExistsError
    from probes.inputs import align, choose_taps, choose_tasks, open_inputs
    from probes.plan import Plan, default_out, existing_run

    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    feature_store, target_store = open_inputs(features, targets, dataset, fusion)
    heads = choose_heads(names(head) or ["linear"])
    tasks = _answered(choose_tasks(names(task) or ["all"], target_store, protocol), heads, protocol, names(task))
    chosen = choose_taps(names(taps), feature_store)
    config = TrainConfig(
        tasks=tuple(tasks),
        taps=tuple(tap.name for tap in chosen),
        heads=heads,
        width=width,
        depth=depth,
        protocol=protocol,
        joint=joint,
        class_embeddings=None if class_embeddings is None else digest_file(class_embeddings),
        learning_rates=_numbers(learning_rate, LEARNING_RATES),
        weight_decays=_numbers(weight_decay, WEIGHT_DECAYS),
        warmup=warmup,
        epochs=epochs,
        batch_clips=batch_clips,
        views=views,
        pixels=pixels,
        seeds=tuple(dict.fromkeys(seed or [0])),
        keep=keep,
        patience=patience,
        limit=limit,
        control=control,
    )
    _check(config, devices)
    inputs = align(feature_store, target_store, config.taps, tasks, views, limit, rules=protocol)
    _check_share(len(inputs.rows["train"]) * epochs, config, devices)
    place = out or default_out(feature_store.name, target_store.recipe.dataset.name, config)
    plan = Plan(inputs, config, chosen, place, protocols_of(tasks, inputs.space, protocol), class_embeddings)
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

    from probes.run import How, execute
    from probes.training.loggers import make_loggers
    from probes.training.machine import make_machine

    how = How(
        machine=make_machine(device, devices, precision, config.heads),
        memory=None if memory is None else int(memory * 1e9),
        loggers=make_loggers(names(logger), plan),
        command=shlex.join(["python", "-m", "probes.train", *sys.argv[1:]]),
    )
    if best := execute(plan, how, replace=found is not None):
        report(plan.out, plan.protocols, best, as_json=as_json)


def _answered(tasks: Sequence[str], heads: Sequence[str], rules: Rules, asked: Sequence[str]) -> list[str]:
    """The tasks that are trained; `all` leaves out those that no head answers. Says which head is left out where.

    Raises:
        ProbesError: a task that was asked for has no head, or a head no task.
    """
    from probes.pairs import answerable, heads_of, left_out

    chosen = answerable(tasks, heads, rules) if "all" in (asked or ["all"]) else list(tasks)
    heads_of(chosen, heads, rules)
    for head, missing in left_out(tasks, heads, rules).items():
        logging.warning("--head %s cannot answer %s: left out there", head, ", ".join(missing))
    return chosen


def _check(config: TrainConfig, devices: int) -> None:
    """Refuse what cannot be trained before anything is read. Raises `ProbesError`."""
    from probes.errors import ProbesError

    given = {"width": config.width is not None, "depth": config.depth is not None, "joint": config.joint}
    for name, fitting in (SIZED | {"joint": JOINT}).items():
        if given[name] and not set(config.heads) & set(fitting):
            raise ProbesError(
                f"--{name}: of no meaning for --head {', '.join(config.heads)}; it is for {' and '.join(fitting)}."
            )
    if config.class_embeddings and ("alternating" not in config.heads or "tagging" not in config.tasks):
        raise ProbesError("--class-embeddings: of no meaning but for the task tagging with --head alternating.")
    if config.batch_clips % devices:
        raise ProbesError(
            f"--devices {devices}: a batch of {config.batch_clips} clips cannot be shared equally. "
            f"Ask for --batch-clips {devices * -(-config.batch_clips // devices)}."
        )


def _check_share(samples: int, config: TrainConfig, devices: int) -> None:
    """Refuse to share a batch that is not full between processes. Raises `ProbesError`."""
    from probes.errors import ProbesError

    if devices > 1 and samples < config.batch_clips:
        raise ProbesError(
            f"--devices {devices}: {samples} training clips do not fill a batch of {config.batch_clips}, which cannot "
            "be shared equally. Leave --devices out."
        )


def _numbers(given: list[float] | None, usual: tuple[float, ...]) -> tuple[float, ...]:
    """Different values, rounded to what stands in a probe's id."""
    return tuple(dict.fromkeys(float(f"{number:g}") for number in given or usual))


def main() -> None:
    """Run the command line."""
    run_app(app, "no run was written; run the same command again, and it goes on")


if __name__ == "__main__":
    main()
