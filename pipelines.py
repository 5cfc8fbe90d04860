"""`python -m pipelines run demo`: run what pipelines.yaml says, in order, skipping what is already done.

The only file that knows all four packages. It adds nothing of its own: every step is a command that can be run by hand,
and is printed as such.
"""

from __future__ import annotations

import importlib
import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from extract.arguments import Flags
from extract.datasets.sampling import Window
from probes.config import TrainConfig
from probes.plan import default_out

FILE = Path(__file__).parent / "pipelines.yaml"
_COMMAND_LINES = {"extract": "extract.__main__", "probes.train": "probes.train", "evaluate": "evaluate.cli"}


class PipelineError(Exception):
    """pipelines.yaml is wrong, or names something that does not exist."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetStep(_Strict):
    """Which data: flags of `python -m extract`. `root` is where it is, if not where its environment variable points."""

    name: str
    root: Path | None = None
    clip_frames: int | None = Field(default=None, ge=1)
    clip_window: Window | None = None
    bank: Literal["paper"] | int | None = None

    @property
    def store(self) -> str:
        """Name of its stores: a folder of recordings may have one of its own. Raises `DataError` if that is damaged."""
        from extract.registry import dataset_classes

        known = dataset_classes().get(self.name)
        return known.name_in(self.root) if known else self.name


class ExtractStep(Flags):
    """One backbone over the data set: the flags of `python -m extract`."""

    out: str | None = Field(default=None, pattern=r"^[\w.-]+$")

    @property
    def store(self) -> str:
        """Name of the store that the step fills."""
        return self.out or (f"{self.model}-untrained" if self.untrained else self.model)

    @property
    def features(self) -> list[str]:
        """The flags of `python -m probes.train` that name it."""
        return ["--features", f"store/{self.store}"]


class FuseStep(_Strict):
    """Stores that are probed as one: flags of `python -m probes.train`."""

    stores: str = Field(alias="features", pattern=r"^[\w.-]+(\+[\w.-]+)+$")
    fusion: Literal["lnconcat", "concat"]
    taps: tuple[str, ...] = ()

    @property
    def store(self) -> str:
        """Name of what is probed."""
        return f"{self.stores}-{self.fusion}"

    @property
    def features(self) -> list[str]:
        """The flags of `python -m probes.train` that name it."""
        flags = ["--features", "store/" + self.stores.replace("+", "+store/"), "--fusion", self.fusion]
        return flags + (["--taps", ",".join(self.taps)] if self.taps else [])


class ProbeStep(_Strict):
    """The probes trained on every store and every fusion of the pipeline: the flags of `python -m probes.train`."""

    tasks: tuple[str, ...] = ("all",)
    head: str = "linear"
    width: int | None = None
    depth: int | None = None
    protocol: Literal["standard", "paper"] = "standard"
    joint: bool = False
    learning_rates: tuple[float, ...] = ()
    weight_decays: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    warmup: float | None = None
    epochs: int | None = Field(default=None, ge=1)
    batch_clips: int | None = None
    views: int | None = None
    pixels: int | None = None
    keep: Literal["best", "last"] | None = None
    patience: int | None = None
    shuffled: bool = False
    """Whether all stores are probed a second time, with shuffled labels."""

    @property
    def flags(self) -> list[str]:
        """Flags of `python -m probes.train` for all that is not as usual; lists repeat theirs."""
        flags = [part for task in self.tasks for part in ("--task", task)]
        for field, info in type(self).model_fields.items():
            value = getattr(self, field)
            if field in ("tasks", "shuffled") or value == info.default:
                continue
            flag = "--" + field.replace("_", "-")
            if value is True:
                flags.append(flag)
            elif isinstance(value, tuple):
                flags += [part for each in value for part in (flag.removesuffix("s"), str(each))]
            else:
                flags += [flag, str(value)]
        return flags


class Pipeline(_Strict):
    """Data set, extractions, fusions of these, probes, report."""

    about: str
    dataset: DatasetStep
    extract: tuple[ExtractStep, ...] = Field(min_length=1)
    fuse: tuple[FuseStep, ...] = ()
    probes: ProbeStep = Field(default_factory=lambda: ProbeStep())
    report: str = "report"

    @property
    def probed(self) -> tuple[ExtractStep | FuseStep, ...]:
        """What is probed, in this order."""
        return *self.extract, *self.fuse

    @model_validator(mode="after")
    def _one_run_for_each(self) -> Self:
        names = [step.store for step in self.probed]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"{', '.join(twice)} would be made twice, in one place. Put their sites or taps into one step, or give "
                "an extraction a name of its own (out)"
            )
        return self


_FILE_SCHEMA = TypeAdapter(dict[str, Pipeline])

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
Name = Annotated[str, typer.Argument(help="Which pipeline.")]
Only = Annotated[list[str] | None, typer.Option(help="Only these stores, and fusions of them; repeatable.")]
File = Annotated[Path, typer.Option("--file", help="Another file than the project's pipelines.yaml.")]


@app.command("list")
def list_pipelines(file: File = FILE, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """All pipelines and what they are about."""
    pipelines = load(file)
    if as_json:
        print(json.dumps({name: pipeline.about.strip() for name, pipeline in pipelines.items()}, indent=1))
        return
    for name, pipeline in pipelines.items():
        print(f"{name}\n    {pipeline.about.strip()}")


@app.command()
def show(name: Name, file: File = FILE, only: Only = None) -> None:
    """The commands that a pipeline stands for."""
    for command in commands(part(choose(load(file), name), only or [])):
        print(shlex.join(command))


@app.command()
def run(
    name: Name,
    file: File = FILE,
    device: Annotated[str | None, typer.Option(help="cpu, cuda …: overrides what the file says.")] = None,
    only: Only = None,
) -> None:
    """Run a pipeline. What is already done is skipped, with the reason."""
    pipeline = part(choose(load(file), name), only or [])
    steps = list(commands(pipeline))
    start = time.monotonic()
    for number, command in enumerate(steps, 1):
        if device is not None and command[2] != "evaluate":
            command += ["--device", device]
        print(f"\n[{number}/{len(steps)}] {shlex.join(command)}", flush=True)
        begun = time.monotonic()
        if command[2] == "evaluate" and _report_is_current(pipeline):
            print(f"up to date: {pipeline.report}/report.html is newer than all its runs")
        elif not _execute(command):
            raise typer.Exit(1)
        print(f"      {time.monotonic() - begun:.1f} s", flush=True)
    print(f"\npipeline {name} done in {time.monotonic() - start:.0f} s: open {pipeline.report}/report.html", flush=True)


def load(path: Path) -> dict[str, Pipeline]:
    """Read and validate a pipelines file. Raises `PipelineError` naming file and line of everything that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path}: cannot be read ({error}). Give another with --file.") from error
    except yaml.YAMLError as error:
        raise PipelineError(f"{path}: not YAML: {error}") from error
    try:
        return _FILE_SCHEMA.validate_python(content)
    except ValidationError as error:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        problems = [_problem(path, tree, dict(each)) for each in error.errors()]
        raise PipelineError("\n".join(problems)) from error


def choose(pipelines: Mapping[str, Pipeline], name: str) -> Pipeline:
    """The pipeline of that name. Raises `PipelineError` with the nearest names."""
    if name not in pipelines:
        near = get_close_matches(name, pipelines, n=3, cutoff=0.4)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(pipelines)}."
        raise PipelineError(f"unknown pipeline {name!r}. {hint}")
    return pipelines[name]


def part(pipeline: Pipeline, stores: Sequence[str]) -> Pipeline:
    """The same with some of its stores, and the fusions of these. Raises `PipelineError` for a store it has not."""
    if not stores:
        return pipeline
    known = [step.store for step in pipeline.extract]
    for name in stores:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.4)
            raise PipelineError(f"--only {name}: no such store. {f'Did you mean {near[0]}?' if near else known}")
    extract = tuple(step for step in pipeline.extract if step.store in stores)
    fuse = tuple(step for step in pipeline.fuse if set(step.stores.split("+")) <= set(stores))
    return pipeline.model_copy(update={"extract": extract, "fuse": fuse})


def commands(pipeline: Pipeline) -> Iterator[list[str]]:
    """The pipeline as command lines: one per extraction, one per store or fusion of probes, one report."""
    for step in pipeline.extract:
        yield ["python", "-m", "extract", *_flags(step, pipeline.dataset)]
    for shuffled in _label_orders(pipeline):
        for probed in pipeline.probed:
            yield ["python", "-m", "probes.train", *_probe_flags(probed, pipeline, shuffled=shuffled)]
    yield ["python", "-m", "evaluate", "--runs", *_runs(pipeline), "--out", pipeline.report]


def _execute(command: Sequence[str]) -> bool:
    """Run one command in this process, so that torch is imported once. Returns whether its exit status was 0."""
    module, arguments = command[2], list(command[3:])
    app: typer.Typer = importlib.import_module(_COMMAND_LINES[module]).app
    argv, sys.argv = sys.argv, [module, *arguments]
    try:
        return not app(arguments, standalone_mode=False)
    finally:
        sys.argv = argv


def _report_is_current(pipeline: Pipeline) -> bool:
    """Whether the report is there and was written after every run that it shows."""
    report = Path(pipeline.report) / "report.html"
    written = [Path(run) / "run.json" for run in _runs(pipeline)]
    return report.exists() and all(run.exists() and run.stat().st_mtime < report.stat().st_mtime for run in written)


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


def _probe_flags(step: ExtractStep | FuseStep, pipeline: Pipeline, *, shuffled: bool) -> list[str]:
    flags = [*step.features, "--dataset", pipeline.dataset.store, *pipeline.probes.flags]
    flags += ["--shuffle-labels"] * shuffled
    if "all" not in pipeline.probes.tasks:  # so that runs of other tasks are not in one place
        flags += ["--out", _run(step, pipeline, shuffled=shuffled)]
    return [*flags, "--update"]  # a pipeline that was changed replaces its own runs


def _label_orders(pipeline: Pipeline) -> tuple[bool, ...]:
    return (False, True) if pipeline.probes.shuffled else (False,)


def _runs(pipeline: Pipeline) -> list[str]:
    orders = _label_orders(pipeline)
    return [_run(step, pipeline, shuffled=shuffled) for shuffled in orders for step in pipeline.probed]


def _run(step: ExtractStep | FuseStep, pipeline: Pipeline, *, shuffled: bool) -> str:
    """Where the run of a step lies: where `python -m probes.train` puts it, with the tasks if they are not all."""
    dataset, probes = pipeline.dataset.store, pipeline.probes
    config = TrainConfig(
        tasks=probes.tasks,
        taps=(),
        head=probes.head,
        depth=probes.depth,
        protocol=probes.protocol,
        shuffle_labels=shuffled,
    )
    tasks = "" if "all" in probes.tasks else "-" + "-".join(probes.tasks)
    return f"{default_out(f'{step.store}/{dataset}', dataset, config)}{tasks}"


def _problem(path: Path, tree: yaml.Node | None, error: Mapping[str, Any]) -> str:
    """One validation error as `file:line: where: what`."""
    location: Sequence[str | int] = error["loc"]
    where = ".".join(map(str, location)) or "file"
    message = error["msg"]
    if error["type"] == "extra_forbidden":
        known = _known_keys(location)
        near = get_close_matches(str(location[-1]), known, n=1)
        message = f"unknown key. {f'Did you mean {near[0]}?' if near else f'Known: {chr(44).join(known)}.'}"
    return f"{path}:{_line(tree, location)}: {where}: {message}"


def _known_keys(location: Sequence[str | int]) -> list[str]:
    """Keys that are allowed where the unknown one stands."""
    steps: list[type[BaseModel]] = [DatasetStep, ExtractStep, FuseStep, ProbeStep]
    inner = dict(zip(("dataset", "extract", "fuse", "probes"), steps, strict=True))
    model = inner.get(str(location[1]), Pipeline) if len(location) > 2 else Pipeline
    return [field.alias or name for name, field in model.model_fields.items()]


def _line(node: yaml.Node | None, location: Sequence[str | int]) -> int:
    """Line of the deepest part of `location` that exists in the YAML tree, counted from 1."""
    line: int = node.start_mark.line + 1 if node else 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def main() -> None:
    """Run the command line; known errors become one message and exit status 1."""
    from evaluate.errors import EvaluateError
    from extract.errors import ExtractError
    from probes.errors import ProbesError
    from store.errors import StoreError

    try:
        app()
    except (PipelineError, ExtractError, StoreError, ProbesError, EvaluateError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept; run the same command again to go on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
