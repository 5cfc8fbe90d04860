"""Trained together, each probe ends exactly where it would have ended alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from probes.bank import ProbeBank, warmup_cosine
from probes.config import ProbeSpec, TrainConfig, probes_of
from probes.data import TrainingStream
from probes.errors import NonFiniteError, UnknownNameError
from probes.inputs import align, choose_taps, open_inputs
from probes.progress import bars
from probes.run import fit, standardiser_of
from probes.tasks import TASKS, get_task

ALL = TrainConfig(
    tasks=tuple(TASKS),
    taps=("blocks.0", "blocks.1@t500"),
    learning_rates=(0.01, 0.003),
    epochs=2,
    views=3,
    pixels=96,
)


def trained(config: TrainConfig, tmp_path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Probe id -> its parameters after training, together with the priors and standardisers it starts from."""
    features, targets = open_inputs("store/toy", None, None)
    inputs = align(features, targets, config.taps, config.tasks, config.views, None)
    tasks = {name: get_task(name, inputs.space) for name in config.tasks}
    taps = {tap.name: tap for tap in choose_taps(config.taps, features)}
    stream = TrainingStream(inputs, tasks, config)
    standardisers = {tap: standardiser_of(inputs, tap, config.views) for tap in taps}
    bank = ProbeBank(probes_of(config), taps, tasks, standardisers, len(stream))
    bank.start_at({name: task.prior(stream.prior(name)) for name, task in tasks.items()})
    with bars() as progress:
        bar = progress.add_task("train", note="")
        fit(bank, stream, torch.device("cpu"), tmp_path / "metrics.csv", progress, bar)
    return {probe.id: dict(head.state_dict()) for probe, head in zip(bank.probes, bank.heads, strict=True)}


@pytest.fixture
def together(world: Path, tmp_path: Path) -> dict[str, dict[str, torch.Tensor]]:
    return trained(ALL, tmp_path)


def test_together_equals_alone_bit_for_bit(together: dict[str, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    assert len(together) == len(TASKS) * 2 * 2
    for task in TASKS:
        config = ALL.model_copy(update={"tasks": (task,), "taps": ("blocks.1@t500",), "learning_rates": (0.003,)})
        ((probe_id, alone),) = trained(config, tmp_path).items()
        for name, parameter in alone.items():
            assert torch.equal(parameter, together[probe_id][name]), (probe_id, name)


def test_probes_differ_by_learning_rate_tap_and_seed(
    together: dict[str, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    weights = [state["weight"] for probe, state in together.items() if probe.startswith("depth/")]
    assert len(weights) == 4
    assert len({weight.numpy().tobytes() for weight in weights}) == 4
    one = ALL.model_copy(update={"tasks": ("depth",), "taps": ("blocks.0",), "learning_rates": (0.01,), "seed": 1})
    ((_, other),) = trained(one, tmp_path).items()
    assert not any(torch.equal(other["weight"], weight) for weight in weights)


def test_training_twice_gives_the_same_bits(together: dict[str, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    again = trained(ALL, tmp_path)
    for probe, state in together.items():
        for name, parameter in state.items():
            assert torch.equal(parameter, again[probe][name])


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_probe(world: Path, tmp_path: Path) -> None:
    wild = ALL.model_copy(update={"tasks": ("depth",), "taps": ("blocks.0",), "learning_rates": (1e38,)})
    with pytest.raises(NonFiniteError, match=r"probe depth/blocks\.0/linear/lr1e\+38/seed0: the loss became"):
        trained(wild, tmp_path)


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    factor = warmup_cosine(200)
    values = [factor(step) for step in range(201)]
    assert values[0] > 0
    assert max(values) == values[10] == 1.0
    assert values[:10] == sorted(values[:10])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[200] == pytest.approx(0.0, abs=1e-12)


def test_unknown_heads_are_named(world: Path) -> None:
    features, targets = open_inputs("store/toy", None, None)
    inputs = align(features, targets, ["blocks.0"], ["depth"], 3, None)
    spec = ProbeSpec(task="depth", tap="blocks.0", head="liner", learning_rate=1, weight_decay=0, seed=0)
    taps = {tap.name: tap for tap in choose_taps(["blocks.0"], features)}
    with pytest.raises(UnknownNameError, match="Did you mean linear"):
        ProbeBank([spec], taps, {"depth": get_task("depth", inputs.space)}, {})
