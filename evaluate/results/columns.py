"""The columns of both tables of results: their names, types and meaning. Files depend on them (`SCHEMA`)."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple

SCHEMA = 1
"""Version of the columns; it is raised when one is renamed, removed or given another type or meaning."""

Type = Literal["string", "int64", "float64", "bool"]
"""A type of pandas, and the Parquet type of the same name. Only text and floats may be missing (`NA`, `NaN`)."""


class Level(StrEnum):
    """What a row is about: all test scenes, or one scene."""

    scores = "scores"
    scenes = "scenes"


class Column(NamedTuple):
    """The type of a column, and what is in it."""

    type: Type
    meaning: str


_RUN = {
    "run": Column("string", "name of the run"),
    "model": Column("string", "bare name of the backbone, also of its untrained twin"),
    "kind": Column("string", "vgm, vlm, encoder, control or fusion"),
    "untrained": Column("bool", "whether the backbone is untrained"),
    "shuffled": Column("bool", "whether the probe was trained with the labels of other scenes"),
    "trained_on": Column("string", "data set that the probe was trained on, if it is another"),
    "dataset": Column("string", "data set that the probe was measured on"),
}
_RULES = {
    "task": Column("string", "depth, tagging, …"),
    "protocol": Column("string", "id of the rules, such as standard/depth@1"),
    "metric": Column("string", "name of the metric, such as absrel"),
    "primary": Column("bool", "whether it is the one that the task's best tap is chosen by"),
    "higher_is_better": Column("bool", "which way is better"),
    "unit": Column("string", "%, m, scene units, °, or empty; with % the value is a fraction"),
}
_PROBE = {
    "tap": Column("string", "array of the feature store: site, or site@noise"),
    "site": Column("string", "place in the backbone"),
    "depth": Column("int64", "place of the site in the order of execution"),
    "noise": Column("string", "noise level, if the backbone has any"),
    "head": Column("string", "kind of head"),
    "learning_rate": Column("float64", "of AdamW"),
    "weight_decay": Column("float64", "of AdamW"),
    "seed": Column("int64", "of the probe"),
    "parameters": Column("int64", "numbers that the head has learned"),
    "probe": Column("string", "id of the probe in its run"),
}
_SOURCE = {
    "features_fingerprint": Column("string", "of the feature store's recipe"),
    "targets_fingerprint": Column("string", "of the targets store's recipe"),
    "views": Column("string", "views per window; empty if the run does not say"),
    "created": Column("string", "when the run was started, ISO 8601"),
}
_SCENE = {
    "split": Column("string", "val or test"),
    "scene": Column("string", "name of the scene"),
    "value": Column("float64", "the metric of this scene alone; NaN where it has nothing to measure"),
}
_INTERVAL = {
    "value": Column("float64", "the metric over all test scenes, the mean over seeds and draws"),
    "low": Column("float64", "lower end of its 95 % interval"),
    "high": Column("float64", "upper end of it"),
    "val": Column("float64", "the metric on val; of the primary one only"),
    "chosen_on_val": Column("bool", "whether this is the model's best tap by val"),
    "test_scenes": Column("int64", "number of test scenes"),
    "control": Column("string", "what the row is compared with, if there is anything"),
    "difference_value": Column("float64", "paired difference to that control"),
    "difference_low": Column("float64", "lower end of its 95 % interval"),
    "difference_high": Column("float64", "upper end of it"),
}

COLUMNS: dict[Level, dict[str, Column]] = {
    Level.scores: {**_RUN, **_RULES, **_PROBE, **_INTERVAL, **_SOURCE},
    Level.scenes: {**_RUN, **_RULES, **_PROBE, **_SCENE, **_SOURCE},
}
"""Level -> name of a column -> what it is, in their order."""
IDENTITY: dict[Level, tuple[str, ...]] = {
    Level.scores: (*_RUN, "protocol", "metric", *_PROBE, *_SOURCE),
    Level.scenes: (*_RUN, "protocol", "metric", *_PROBE, "split", "scene", *_SOURCE),
}
"""Columns that tell rows apart: two rows that agree in all of them are of the same result."""
COMPARABLE = ("dataset", "protocol", "targets_fingerprint", "views")
"""Columns that must agree for values of one metric to stand in one column."""
