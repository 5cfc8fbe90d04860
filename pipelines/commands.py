"""The command lines that a pipeline stands for, and where the runs of its probes lie."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.steps import DatasetStep, ExtractStep, FuseStep, Pipeline
from probes.config import TrainConfig
from probes.heads import choose_heads
from probes.plan import default_out


def commands(pipeline: Pipeline) -> Iterator[list[str]]:
    """The pipeline as command lines: one per extraction, one per store or fusion of probes, one report."""
    for step in pipeline.extract:
        yield ["python", "-m", "extract", *_flags(step, pipeline.dataset)]
    for probed in pipeline.probed:
        yield ["python", "-m", "probes.train", *_probe_flags(probed, pipeline)]
    yield ["python", "-m", "evaluate", "--runs", *runs(pipeline), "--out", pipeline.report]


def runs(pipeline: Pipeline) -> list[str]:
    """Where the runs of all its probes lie, in the order in which they are trained."""
    return [_run(step, pipeline) for step in pipeline.probed]


def _flags(step: ExtractStep, dataset: DatasetStep) -> list[str]:
    flags = ["--model", step.model, "--dataset", dataset.name]
    for field in ("root", "clip_frames", "clip_window", "bank"):
        if (value := getattr(dataset, field)) is not None:
            flags += ["--" + field.replace("_", "-"), str(value)]
    for field, info in ExtractStep.model_fields.items():
        value = getattr(step, field)
        if field == "model" or value == info.default:
            continue
        flag = "--" + field.replace("_", "-")
        if value is True:
            flags.append(flag)
        elif field in ("grid", "size"):
            flags += [flag, f"{value[0]}x{value[1]}"]
        else:
            flags += [flag, ",".join(value) if isinstance(value, tuple) else str(value)]
    return flags


def _probe_flags(step: ExtractStep | FuseStep, pipeline: Pipeline) -> list[str]:
    flags = [*step.features, "--dataset", pipeline.dataset.store, *pipeline.probes.flags]
    if "all" not in pipeline.probes.tasks:  # so that runs of other tasks are not in one place
        flags += ["--out", _run(step, pipeline)]
    return [*flags, "--update"]  # a pipeline that was changed replaces its own runs


def _run(step: ExtractStep | FuseStep, pipeline: Pipeline) -> str:
    """Where the run of a step lies: where `python -m probes.train` puts it, with the tasks if they are not all."""
    dataset, probes = pipeline.dataset.store, pipeline.probes
    config = TrainConfig(
        tasks=probes.tasks,
        taps=(),
        heads=choose_heads(probes.heads),
        depth=probes.depth,
        protocol=probes.protocol,
    )
    tasks = "" if "all" in probes.tasks else "-" + "-".join(probes.tasks)
    return f"{default_out(f'{step.store}/{dataset}', dataset, config)}{tasks}"
