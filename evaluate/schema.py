"""What a run says about itself: the probes, what they read, and the rules by which they were measured."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from evaluate.errors import SchemaVersionError, damaged

SCHEMA_VERSION = 2

Kind = Literal["vgm", "vlm", "encoder", "control", "fusion"]


class ProbeInfo(BaseModel):
    """One trained head: what it reads (tap), how it was trained, how large it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    task: str
    tap: str
    site: str
    depth: int
    """Place of the site in the backbone's order of execution."""
    noise: str | None
    head: str
    learning_rate: float
    weight_decay: float
    seed: int
    shuffled: bool = False
    """Whether its training clips had the targets of other scenes: a control of the probe that is alike in all else."""
    parameters: int


class RunInfo(BaseModel):
    """What was probed, from which features and targets, by which rules; everything that a result must be shown with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    name: str
    model: str
    """Bare name of the backbone; an untrained twin has the same one and `untrained` set."""
    parameters: int | None = None
    """Of the backbone as it was loaded; of a fusion the sum over its backbones. None if the store does not say."""
    kind: Kind
    untrained: bool
    trained_on: str | None = None
    """The data set that the probes were trained on, if it is not `dataset`, on which they were measured."""
    dataset: str
    features_fingerprint: str
    draw_of: str | None = None
    """The same for features that differ only in which noise was drawn; None if none was, or the run does not say."""
    targets_fingerprint: str
    length_unit: str | None = None
    """Of targets: `m`, or `1` where every scene has a unit of its own; None if the run does not say, as for metres."""
    config: dict[str, Any]
    protocols: dict[str, str]
    """Task -> protocol id."""
    classes: dict[str, list[str]]
    """Task -> names of classes 1 .. K, for tasks that have classes."""
    probes: list[ProbeInfo]
    command: str
    created: str
    """ISO 8601 time at which the run was started."""
    versions: dict[str, str]

    @model_validator(mode="after")
    def _consistent(self) -> RunInfo:
        for task, name in self.protocols.items():
            if f"/{task}@" not in name:
                raise ValueError(f"the protocol of {task} is {name}, which is of another task")
        ids = [probe.id for probe in self.probes]
        twice = [name for name, count in Counter(ids).items() if count > 1]
        lost = [probe.id for probe in self.probes if probe.task not in self.protocols]
        if twice or lost:
            raise ValueError(
                f"probe {twice[0]!r} is there twice" if twice else f"the task of probe {lost[0]!r} has no protocol"
            )
        return self

    @property
    def title(self) -> str:
        """The model, and what makes a control of it: `svd (untrained)`."""
        return self.titled()

    def titled(self, *, shuffled: bool = False) -> str:
        """The same for its probes, or for those with shuffled labels: `svd (untrained, shuffled labels)`."""
        said = ["untrained"] * self.untrained + ["shuffled labels"] * shuffled
        said += [f"trained on {self.trained_on}"] * (self.trained_on is not None)
        return f"{self.model} ({', '.join(said)})" if said else self.model


@dataclass(frozen=True)
class Example:
    """Some frames of one scene with what one probe says about them, at the targets' resolution.

    `arrays` holds those of the following that the task has: `rgb` (view, y, x, 3) uint8; `depth`, `depth_pred` (view,
    y, x) float32 in the run's unit of length; `instance`, `instance_pred` (view, y, x) int32, in
    which 0 is no instance and no cluster; `classes`, `classes_pred` (view, y, x)
    uint8; `intrinsics` (view, 3, 3) in pixels of these arrays; `cam_to_world` (view, 4, 4) with OpenCV axes, both only
    where they are known for all views; `cam_to_world_pred` (view, 4, 4), in the world in which the first view has its
    true pose; `normals`, `normals_pred` (view, y, x, 3) int8, unit normals times 127 in the camera's frame, 0 = none;
    `points`, `points_pred` (view, point_y, point_x, 3) float32 in the first view's camera frame, the latter after the
    similarity that the metric undoes, with `points_valid` (view, point_y, point_x) bool and `points_rgb` uint8;
    `scores`, `labels` (thing) of all views together; `queries` (query, 2) in the first view and, in each other one,
    `positions`, `matches` (pair, query, 2), normalised, with `visible` (pair, query) bool; `features_pca` (view,
    cell_y, cell_x, 3) uint8, what the probe read as colours.
    """

    task: str
    scene: str
    split: str
    probe_id: str
    frames: list[int]
    arrays: Mapping[str, NDArray[Any]]
    why: str = ""
    """Why this scene was chosen: `worst 1 of 24`, `median of 24`; empty where the run does not say."""
    value: float = math.nan
    """The task's primary metric on the whole scene alone; NaN where the run does not say."""


def read_info(file: Path) -> RunInfo:
    """Read a `run.json`.

    Raises:
        SchemaVersionError: it was written in another format.
        RunDamagedError: it is truncated, or says something impossible.
    """
    try:
        document = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(file.parent, f"{file.name} is not readable JSON: {error}") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise SchemaVersionError(
            f"{file}: schema_version is {version!r}, this version reads {SCHEMA_VERSION}; probe again, or read it with "
            "the version of this project that wrote it"
        )
    try:
        return RunInfo.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{'.'.join(map(str, first['loc']))}: " for _ in first["loc"][:1])
        raise damaged(file.parent, f"{file.name}: {where}{first['msg']}") from error
