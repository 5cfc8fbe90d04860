"""Reading pipelines.yaml: what is wrong in it is said with file and line, unknown names with the nearest known one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from pipelines.errors import PipelineError
from pipelines.steps import DatasetStep, ExtractStep, FuseStep, Pipeline, ProbeStep

FILE = Path(__file__).parents[1] / "pipelines.yaml"
"""The project's own."""
CLUSTERS = "clusters"
"""Entry that is no pipeline: how jobs are sent to a cluster, which `python -m extract --cluster slurm:N` reads."""
_FILE_SCHEMA = TypeAdapter(dict[str, Pipeline])


def load(path: Path) -> dict[str, Pipeline]:
    """Read and validate a pipelines file. Raises `PipelineError` naming file and line of everything that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path}: cannot be read ({error}). Give another with --file.") from error
    except yaml.YAMLError as error:
        raise PipelineError(f"{path}: not YAML: {error}") from error
    if isinstance(content, dict):
        content.pop(CLUSTERS, None)
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
