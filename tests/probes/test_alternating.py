"""The paper's probe: read-outs fit the tasks, and share a trunk if asked to; its rules are trained and measured."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from evaluate.records import Run
from probes.alternating.trunk import TrunkOutput
from probes.bank import ProbeBank
from probes.checkpoint import load
from probes.config import ProbeSpec, TapSpec
from probes.errors import ProbesError
from probes.heads import build_head
from probes.heads.alternating import AlternatingHead
from probes.heads.base import Form, Grid
from probes.labels import LabelSpace
from probes.standardise import Standardiser
from probes.tasks import TASKS, Rules, get_task, tasks_of
from probes.tasks.paper.depth import PaperDepthTask
from probes.tasks.paper.points import PaperPointsTask
from probes.train import app

SPACE = LabelSpace(names=("chair", "wall", "lamp"), things=(True, False, True), height=32, width=32)
SMALL = ["--head", "alternating", "--width", "32", "--depth", "1"]
ARGUMENTS = ["--features", "store/toy", "--views", "3", "--device", "cpu", "--taps", "blocks.1@t500"]
ARGUMENTS += ["--weight-decay", "0.01"]


def run(*arguments: str, out: str = "runs/one") -> Path:
    app([*ARGUMENTS, *arguments, "--out", out], standalone_mode=False)
    return Path(out)


@pytest.mark.parametrize("head", ["alternating", "dpt"])
@pytest.mark.parametrize("name", [name for name, entry in TASKS.items() if entry.trained])
@pytest.mark.parametrize("rules", ["standard", "paper"])
def test_read_outs_fit_the_tasks(head: str, name: str, rules: str) -> None:
    if rules == "paper" and (TASKS[name].paper is None or head == "dpt"):
        return
    from probes.heads import head_class

    task = get_task(name, SPACE, rules, head_class(head).layouts)  # type: ignore[arg-type]
    if task.layout not in head_class(head).layouts:
        with pytest.raises(ProbesError, match="leave the task out"):
            build_head(head, task, 12, Form(32, 1))
        return
    built = build_head(head, task, 12, Form(32, 1))
    outputs = built.eval()(Grid(torch.randn(2, 3, 2, 3, 12)))
    dense = task.dense_size or (28, 42)
    shape = {
        "clip": (1,),
        "poses": (4, 3),
        "cells": (3, *((2, 3) if name == "grouping" and head == "alternating" else dense)),
    }
    assert outputs.shape == (2, *shape[task.layout], 9 if task.layout == "poses" else task.outputs)
    assert built.kept_numbers(3, 6) > 0


def bank(*names: str, joint: bool) -> ProbeBank:
    size = {"head": "alternating", "width": 32, "depth": 1, "joint": joint}
    trained = {"tap": "t", "learning_rate": 1e-3, "weight_decay": 0, "seed": 0}
    probes = [ProbeSpec.model_validate({"task": name, **size, **trained}) for name in names]
    tap = TapSpec(name="t", site="t", depth=0, noise=None, channels=12, grid_map=(1, 0, 1, 0))
    standardiser = Standardiser(torch.zeros(12), torch.ones(12))
    return ProbeBank(probes, {"t": tap}, tasks_of(probes, SPACE), {"t": standardiser})


def test_joint_probes_share_a_trunk_that_is_computed_and_counted_once() -> None:
    joint, alone = bank("depth", "points", "camera", joint=True), bank("depth", "points", "camera", joint=False)
    trunks = {id(head.get_submodule("trunk")) for head in joint.heads}
    assert len(trunks) == 1
    assert joint.units == [[0, 1, 2]]
    assert alone.units == [[0], [1], [2]]
    trunk = sum(parameter.numel() for parameter in joint.heads[0].get_submodule("trunk").parameters())
    counts = [sum(tensor.numel() for each in built.owned for tensor in each.values()) for built in (joint, alone)]
    assert counts[1] - counts[0] == 2 * trunk
    groups = joint.configure_optimizers()["optimizer"].param_groups
    optimized = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(optimized) == len(set(optimized))
    calls = []
    joint.heads[0].get_submodule("trunk").register_forward_hook(lambda *_: calls.append(1))
    grid = joint.grid("t", torch.randn(1, 2, 2, 2, 12))
    for index in range(3):
        joint(index, grid)
    assert calls == [1]


GEOMETRY = ["--task", "depth,points,camera"]


def test_joint_probes_learn_are_chosen_and_kept_together(world: Path) -> None:
    found = run(*SMALL, *GEOMETRY, "--joint", "--epochs", "3", "--learning-rate", "0.001", "--learning-rate", "0.0003")
    with (found / "search.csv").open() as file:
        tried = list(csv.DictReader(file))
    for rate in ("lr0.001", "lr0.0003"):
        assert len({(line["val_loss"], line["step"], line["chosen"]) for line in tried if rate in line["probe"]}) == 1
    stored = load_file(found / "probes.safetensors")
    assert sum("/trunk." in name for name in stored) == len(
        {name.split("/trunk.")[1] for name in stored if "/trunk." in name}
    )
    trained, _ = load(found)
    assert len({id(head.get_submodule("trunk")) for head in trained.heads}) == 1


@pytest.mark.parametrize("head", [SMALL, ["--head", "dpt", "--width", "32"]])
def test_dropout_and_company_change_nothing(world: Path, head: list[str]) -> None:
    tasks = "depth,grouping" if head == SMALL else "depth"
    together = run(*head, "--task", tasks, "--epochs", "2", out="runs/together")
    alone = run(*head, "--task", "depth", "--epochs", "2", "--learning-rate", "0.001", out="runs/alone")
    weights, others = load_file(together / "probes.safetensors"), load_file(alone / "probes.safetensors")
    chosen = [name for name in others if name in weights and name.startswith("depth/")]
    with (together / "validation.csv").open() as file, (alone / "validation.csv").open() as other:
        name = next(name for name in next(csv.reader(other)) if name.startswith("depth/"))
        other.seek(0)
        assert [line[name] for line in csv.DictReader(file)] == [line[name] for line in csv.DictReader(other)]
    assert all((weights[name] == others[name]).all() for name in chosen)


def test_the_papers_rules_end_to_end(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for task in (PaperDepthTask, PaperPointsTask):
        monkeypatch.setattr(task, "dense_size", (28, 42))
    tasks = ["--protocol", "paper", "--views", "2", "--epochs", "2", "--warmup", "0.2"]
    found = run(*SMALL, *tasks)
    info = Run.open(found).info
    assert info.protocols == {name: f"paper-2605.28132/{name}@1" for name, entry in TASKS.items() if entry.paper}
    assert info.config["clips"] == {"train": 14, "val": 4, "test": 4}
    for probe in info.probes:
        scenes, statistics = Run.open(found).statistics(probe.task, probe.id, "test")
        assert len(scenes) == 4
        assert all(np.isfinite(values).all() for values in statistics.values()), probe.id
        assert Run.open(found).statistics(probe.task, probe.id, "val")[0] == []
    assert info.classes == {"tagging": ["chair", "wall", "lamp", "sofa", "floor"]}
    assert len(json.loads((found / "probes.json").read_text())["space"]["rates"]) == 5


def test_class_embeddings_are_the_queries_and_stay_with_the_weights(world: Path) -> None:
    np.save("names.npy", np.random.default_rng(0).normal(size=(3, 20)).astype(np.float32))
    found = run(*SMALL, "--task", "tagging", "--epochs", "1", "--class-embeddings", "names.npy")
    trained, _ = load(found)
    assert torch.equal(trained.heads[0].get_buffer("read.embeddings"), torch.from_numpy(np.load("names.npy")))
    for rows, channels in ((4, 20), (3, 0)):
        np.save("names.npy", np.zeros((rows, channels), np.float32))
        with pytest.raises(
            ProbesError,
            match=rf"for 3 classes, got float32 \({rows}, {channels}\)\. The classes are, in this order: chair",
        ):
            run(*SMALL, "--task", "tagging", "--class-embeddings", "names.npy", out="runs/two")


@pytest.mark.parametrize("rules", ["standard", "paper"])
@pytest.mark.parametrize("name", ["tagging", "depth", "camera", "grouping"])
@pytest.mark.parametrize("depth", [0, 1])
def test_read_outs_are_computed_in_float32(name: str, rules: Rules, depth: int) -> None:
    """As in the paper's code; the trunk alone is in bfloat16, where that is asked for."""
    head = build_head("alternating", get_task(name, SPACE, rules, {"clip", "poses", "cells"}), 12, Form(32, depth))
    assert isinstance(head, AlternatingHead)
    features = torch.randn(2, 3, 2, 3, 12)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            said = head.eval()(Grid(features))
            trunk: TrunkOutput = head.trunk(features)
        expected = head._said(replace(trunk, stages=[stage.float() for stage in trunk.stages]))
    assert said.dtype == torch.float32
    assert torch.equal(said, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth", "1"], "--depth: of no meaning for --head linear"),
        (["--joint"], "--joint: of no meaning for --head linear"),
        (
            ["--protocol", "paper", "--task", "segmentation", *SMALL],
            "has no task segmentation. It has: tagging, grouping",
        ),
        (["--class-embeddings", "x.npy", "--task", "depth", *SMALL], "--class-embeddings: of no meaning"),
    ],
)
def test_bad_input(world: Path, arguments: list[str], message: str) -> None:
    Path("x.npy").write_bytes(b"")
    with pytest.raises(ProbesError, match=message):
        run(*arguments)
