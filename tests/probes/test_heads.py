"""Heads: which tasks they fit, what they start at, and that each can learn what is there."""

from __future__ import annotations

import pytest
import torch

from probes.errors import ProbesError, UnknownNameError
from probes.heads import build_head, head_class
from probes.heads.attentive import AttentiveHead
from probes.heads.base import Grid
from probes.labels import LabelSpace
from probes.seeding import torch_seed
from probes.tasks import TASKS, get_task

SPACE = LabelSpace(names=("chair", "wall", "lamp"), things=(True, False, True), height=32, width=32)
CLIPS, VIEWS, ROWS, COLUMNS, CHANNELS = 2, 3, 4, 5, 16
SMALL = ("linear", "mlp", "attentive")  # tests of their own look at the large ones
FITTING = [
    (head, task)
    for head in SMALL
    for task, entry in TASKS.items()
    if entry.trained and get_task(task, SPACE).layout in head_class(head).layouts
]


def grid() -> Grid:
    return Grid(torch.randn(CLIPS, VIEWS, ROWS, COLUMNS, CHANNELS, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(("head", "task"), FITTING)
def test_a_head_starts_at_the_prior_and_speaks_of_what_the_task_asks_about(head: str, task: str) -> None:
    asked = get_task(task, SPACE)
    with torch_seed(1):
        built = build_head(head, asked, CHANNELS).eval()
    prior = torch.linspace(-1, 1, asked.outputs)
    built.start_at(prior)
    outputs = built(grid())
    where = {"cells": (VIEWS, ROWS, COLUMNS), "views": (VIEWS,), "pairs": (VIEWS - 1,)}[asked.layout]
    assert outputs.shape == (CLIPS, *where, asked.outputs)
    assert (outputs - prior).abs().max() < 1.0
    assert built.kept_numbers(VIEWS, ROWS * COLUMNS) > 0


@pytest.mark.parametrize(("head", "task"), FITTING)
def test_initial_weights_depend_on_the_seed_alone(head: str, task: str) -> None:
    asked = get_task(task, SPACE)
    built = []
    for noise in range(2):
        torch.randn(noise + 1)  # whatever else draws from the global generator
        with torch_seed(3):
            built.append(build_head(head, asked, CHANNELS))
    for one, other in zip(*(head.parameters() for head in built), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("head", "task"), FITTING)
def test_every_parameter_learns(head: str, task: str) -> None:
    with torch_seed(1):
        built = build_head(head, get_task(task, SPACE), CHANNELS)
    built(grid()).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in built.parameters())


def test_attention_finds_the_one_cell_that_matters() -> None:
    """A mean over cells cannot tell a small thing from none among noise; attention learns to look at it."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.randn(64, 1, 8, 8, CHANNELS, generator=generator)
    there = torch.arange(64) % 2
    cells[:, 0, 3, 5] = 0
    cells[:, 0, 3, 5, 0] = 6.0 * (2 * there - 1)
    with torch_seed(0):
        head = AttentiveHead("views", CHANNELS, 1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    for _ in range(60):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(head(Grid(cells))[:, 0, 0], there.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


def test_a_head_that_does_not_fit_is_refused_with_those_that_do() -> None:
    with pytest.raises(ProbesError, match=r"gives outputs of pairs or views.* depth asks about cells"):
        build_head("attentive", get_task("depth", SPACE), CHANNELS)


def test_unknown_heads_are_named() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean linear"):
        head_class("liner")
