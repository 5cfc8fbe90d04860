"""Trained together, each probe ends exactly where it would have ended alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from probes.bank import ProbeBank, warmup_cosine
from probes.config import ProbeSpec, TrainConfig, probes_of
from probes.data import Stream
from probes.features import standardiser_of
from probes.heads.base import Grid
from probes.heads.linear import LinearHead, outputs_of
from probes.inputs import align, choose_taps, open_inputs
from probes.sampling import GridMap, sample_cells
from probes.tasks import TASKS, tasks_of
from probes.training.fit import fit
from probes.training.machine import Machine
from probes.training.status import Meter, bars

ALL = TrainConfig(
    tasks=tuple(TASKS),
    taps=("blocks.0", "blocks.1@t500"),
    learning_rates=(0.01, 0.003),
    weight_decays=(0.01,),
    epochs=2,
    views=3,
    pixels=96,
)
MIXED = ALL.model_copy(
    update={
        "tasks": ("tagging", "grouping", "camera", "correspondence"),
        "heads": ("linear", "mlp", "attentive", "alternating"),
        "width": 32,
        "depth": 1,
        "control": True,
    }
)
Weights = dict[str, dict[str, torch.Tensor]]


def built(config: TrainConfig, probes: Sequence[ProbeSpec] = (), **options: Any) -> tuple[ProbeBank, Stream]:
    """Some probes of a configuration, or all, before training; and what they are trained with."""
    features, targets = open_inputs("store/toy", None, None)
    inputs = align(features, targets, config.taps, config.tasks, config.views, None)
    probes = probes or probes_of(config)
    tasks = tasks_of(probes, inputs.space)
    taps = {tap.name: tap for tap in choose_taps(config.taps, features)}
    stream = Stream(inputs, tasks.values(), config)
    standardisers = {tap: standardiser_of(inputs, tap, config.views) for tap in taps}
    bank = ProbeBank(probes, taps, tasks, standardisers, stream.steps, **options)
    bank.start_at(stream.priors())
    return bank, stream


def weights(bank: ProbeBank) -> Weights:
    """Probe id -> its parameters."""
    heads = zip(bank.probes, bank.heads, strict=True)
    return {probe.id: {name: value.clone() for name, value in head.state_dict().items()} for probe, head in heads}


def trained(config: TrainConfig, tmp_path: Path, probes: Sequence[ProbeSpec] = ()) -> Weights:
    """The same after training."""
    bank, stream = built(config, probes)
    folder = tmp_path / f"pass-{len(list(tmp_path.iterdir())) + 1}"
    folder.mkdir()
    with bars() as progress:
        fit(bank, stream, config, folder, Machine(torch.device("cpu")), Meter(None, progress))
    return weights(bank)


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(values, other[name]) for name, values in one.items())


@pytest.fixture
def together(world: Path, tmp_path: Path) -> Weights:
    return trained(ALL, tmp_path)


def test_together_equals_alone_bit_for_bit(together: Weights, tmp_path: Path) -> None:
    trained_tasks = [task for task, entry in TASKS.items() if entry.trained]
    assert len(together) == len(trained_tasks) * 2 * 2 + (len(TASKS) - len(trained_tasks)) * 2
    for task in trained_tasks:
        config = ALL.model_copy(update={"tasks": (task,), "taps": ("blocks.1@t500",), "learning_rates": (0.003,)})
        ((probe_id, alone),) = trained(config, tmp_path).items()
        assert same(alone, together[probe_id]), probe_id


def test_heads_and_controls_together_equal_each_alone_bit_for_bit(world: Path, tmp_path: Path) -> None:
    """With dropout, in tasks that heads ask in different forms, and with targets of two kinds in every batch."""
    together = trained(MIXED, tmp_path)
    heads = {"tagging": 4, "grouping": 3, "camera": 4}  # attentive speaks of no cells
    assert len(together) == sum(heads.values()) * 2 * 2 * 2 + 2
    plain = MIXED.model_copy(update={"control": False})
    chosen = [p for p in probes_of(MIXED) if (p.tap, p.learning_rate) == ("blocks.1@t500", 0.003)]
    chosen = [probe for probe in chosen if probe.task != "correspondence"]
    assert len(chosen) == 2 * sum(heads.values())
    for probe in chosen:
        alone = trained(MIXED if probe.shuffled else plain, tmp_path, [probe])
        assert same(alone[probe.id], together[probe.id]), probe.id


def test_a_control_differs_from_its_twin_in_its_labels_alone(world: Path, tmp_path: Path) -> None:
    config = MIXED.model_copy(update={"taps": ("blocks.1@t500",), "learning_rates": (0.003,)})
    twins = {probe: probe.model_copy(update={"shuffled": False}) for probe in probes_of(config) if probe.shuffled}
    assert len(twins) == 4 + 3 + 4
    assert all(probe.id == f"{twin.id}/shuffled" and probe.start == twin.start for probe, twin in twins.items())
    start, learned = weights(built(config)[0]), trained(config, tmp_path)
    for probe, twin in twins.items():
        assert same(start[probe.id], start[twin.id]), probe.id
        assert not same(learned[probe.id], learned[twin.id]), probe.id


def test_heads_without_attention_stay_in_float32_beside_those_with_it(world: Path) -> None:
    config = MIXED.model_copy(update={"tasks": ("tagging",), "learning_rates": (0.01,), "control": False})
    single = ("linear", "mlp", "attentive")
    bank, stream = built(config, single=single)
    bank.eval()
    batch = next(iter(stream.train(config.taps)))
    exact = bank.batch_losses(batch)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = bank.batch_losses(batch)
    for probe, one, other in zip(bank.probes, exact, mixed, strict=True):
        assert torch.equal(one, other) == (probe.head in single), probe.id


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("outputs", [1, 3, 7, 20, 32, 40])
@pytest.mark.parametrize("places", [16, 512])
def test_no_bit_of_a_linear_head_depends_on_the_others(threads: int, outputs: int, places: int) -> None:
    """At sizes at which a library chooses other ways to multiply for other numbers of heads."""
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        inputs, gradient = torch.randn(2, places // 2, 384), torch.randn(2, places // 2, outputs)
        heads = [LinearHead("cells", 384, outputs) for _ in range(35)]
        together = outputs_of(heads, inputs)
        torch.autograd.backward(together, [gradient] * len(heads))
        for head, outputs_there in zip(heads, together, strict=True):
            there = [parameter.grad for parameter in head.parameters()]
            head.zero_grad()
            (alone,) = outputs_of([head], inputs)
            torch.autograd.backward(alone, gradient)
            assert torch.equal(alone, outputs_there)
            for parameter, grad in zip(head.parameters(), there, strict=True):
                assert grad is not None
                assert parameter.grad is not None
                assert torch.equal(parameter.grad, grad)
    finally:
        torch.set_num_threads(before)


def test_a_linear_head_says_in_training_what_it_says_in_evaluation() -> None:
    """Features are read at pixels in training, outputs in evaluation; and standardised before or after."""
    features, xy = 3 + 5 * torch.randn(2, 3, 4, 5, 16), torch.rand(2, 3, 9, 2)
    mean, inverse = torch.randn(16), torch.rand(16) + 0.1
    lazy, whole = Grid(features, lambda values: (values - mean) * inverse), Grid((features - mean) * inverse)
    for layout in ("cells", "views", "pairs"):
        head = LinearHead(layout, 16, 2)
        evaluated = head(whole)
        if layout == "cells":
            evaluated = sample_cells(evaluated, xy, GridMap())
        (trained,) = outputs_of([head], lazy.at(xy, GridMap()) if layout == "cells" else getattr(lazy, layout))
        torch.testing.assert_close(trained, evaluated, rtol=1e-4, atol=1e-5)


def test_probes_differ_by_learning_rate_tap_and_seed(together: Weights, tmp_path: Path) -> None:
    weights = [state["weight"] for probe, state in together.items() if probe.startswith("depth/")]
    assert len(weights) == 4
    assert len({weight.numpy().tobytes() for weight in weights}) == 4
    one = ALL.model_copy(update={"tasks": ("depth",), "taps": ("blocks.0",), "learning_rates": (0.01,), "seeds": (1,)})
    ((_, other),) = trained(one, tmp_path).items()
    assert not any(torch.equal(other["weight"], weight) for weight in weights)


def test_training_twice_gives_the_same_bits(together: Weights, tmp_path: Path) -> None:
    again = trained(ALL, tmp_path)
    assert all(same(state, again[probe]) for probe, state in together.items())


def test_a_probe_whose_loss_is_not_finite_is_named_and_rests(
    world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wild = ALL.model_copy(update={"tasks": ("depth",), "taps": ("blocks.0",), "learning_rates": (1e38,)})
    trained(wild, tmp_path)
    assert "probe depth/blocks.0/linear/lr1e+38/wd0.01/seed0: the loss became nan; it is given up" in caplog.text


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    factor = warmup_cosine(200)
    values = [factor(step) for step in range(201)]
    assert values[0] > 0
    assert max(values) == values[10] == 1.0
    assert values[:10] == sorted(values[:10])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[200] == pytest.approx(0.0, abs=1e-12)
