"""Training on several stores at once: what it finds, that it is what training on their copy is, and what it says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluate.protocols import protocol_of
from evaluate.records import Run
from probes import inputs
from probes.checkpoint import load
from probes.config import TrainConfig
from probes.data import Stream
from probes.errors import NonFiniteError, ProbesError, UnknownNameError
from probes.inputs import align, choose_taps, open_inputs
from probes.tasks import get_task
from probes.train import app
from store import ArraySpec, FeatureStore, FusionError, StoreWriter, create, fuse
from store.fusion.materialise import materialise
from tests.probes.world import CLASSES, SLOTS, Size, clip_targets, write_world

SIZE = Size()
LOUD, QUIET = "loud", "quiet"
TAP = "blocks.1+llm.1"
FUSED = ["--features", f"store/{LOUD}+store/{QUIET}", "--fusion"]
SETTINGS = ["--views", "3", "--device", "cpu", "--pixels", "96"]


def run(*arguments: str) -> None:
    app([*arguments, *SETTINGS], standalone_mode=False)


def unit(values: NDArray[Any]) -> NDArray[np.float32]:
    """Of norm 1 along the channels."""
    return np.asarray(values / np.linalg.norm(values, axis=-1, keepdims=True), np.float32)


def answer(row: int) -> NDArray[np.float32]:
    """Features of norm 1 in every cell, of which class, instance and depth are linear functions: (frame, y, x, 32)."""
    targets = clip_targets(row, SIZE)
    centre = slice(SIZE.cell // 2, None, SIZE.cell)
    instance = targets["instance"][:, centre, centre]
    classes = np.eye(len(CLASSES) + 1)[targets["instance_class"][instance]]
    depth = np.log(np.maximum(targets["depth"][:, centre, centre], 0.1))[..., None]
    signal = np.concatenate([classes, np.eye(SLOTS)[instance], depth], -1)
    mixed = signal @ np.random.default_rng(7).normal(size=(signal.shape[-1], 32))
    return unit(mixed)


def noise(row: int) -> NDArray[np.float32]:
    """Features of norm 1000 that say nothing, of a finer grid: (frame, y, x, 24)."""
    values = np.random.default_rng([row, 5]).normal(size=(SIZE.frames, 2 * SIZE.grid, SIZE.grid + 3, 24))
    return 1000 * unit(values)


def write(root: Path, model: str, taps: dict[str, str], make: Callable[[int], NDArray[Any]], dtype: str) -> None:
    """A store beside the world's, of one tap for each name, with the values that `make` gives for a row."""
    toy = FeatureStore.open(root / "toy" / "world")
    recipe = toy.recipe
    assert recipe.backbone is not None
    recipe = recipe.model_copy(
        update={
            "backbone": recipe.backbone.model_copy(update={"model": model}),
            "storage": recipe.storage.model_copy(update={"dtype": dtype}),
        }
    )
    path = root / model / "world"
    path.parent.mkdir()
    specs = [
        ArraySpec(tap, make(0).shape, dtype, ("frame", "y", "x", "channel"), {"site": site, "depth": 1, "noise": None})
        for tap, site in taps.items()
    ]
    create(path, recipe, toy.clips, specs, attrs={}, coordinates={}, provenance={})
    with StoreWriter(path) as writer:
        for row in toy.rows():
            writer.put(row, {tap: make(row) for tap in taps})


@pytest.fixture(scope="module")
def pair_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world, and two stores of it: one that is loud and says nothing, one that is quiet and knows. Read only."""
    root = tmp_path_factory.mktemp("pair")
    write_world(root)
    write(root, LOUD, {"blocks.1": "blocks.1"}, noise, "bfloat16")
    write(root, QUIET, {"llm.1": "llm.1"}, answer, "int8-channel")
    return root


@pytest.fixture
def pair(pair_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEATURE_STORE", str(pair_root))
    return pair_root


def score(path: str, task: str, tap: str = TAP) -> float:
    found = Run.open(path)
    protocol = protocol_of(found.info.protocols[task], found.info.classes.get(task, ()))
    (probe,) = [probe for probe in found.info.probes if probe.task == task and probe.tap == tap]
    return protocol.reduce(found.statistics(task, probe.id, "test")[1])[protocol.primary]


def test_an_answer_at_norm_1_is_found_beside_noise_at_norm_1000(pair: Path) -> None:
    asked = ["--task", "segmentation,depth", "--epochs", "60", "--learning-rate", "0.02"]
    for features, tap in ((f"store/{QUIET}", "llm.1"), (f"store/{LOUD}", "blocks.1")):
        run("--features", features, *asked, "--out", features)
        found = score(features, "segmentation", tap) > 0.65, score(features, "depth", tap) < 0.2
        assert found == ((True, True) if tap == "llm.1" else (False, False))
    run(*FUSED, "lnconcat", *asked)
    out = f"runs/{LOUD}+{QUIET}-lnconcat-world"
    assert score(out, "segmentation") > 0.65
    assert score(out, "depth") < 0.2


def test_a_run_says_how_large_the_fused_backbones_are_together(
    pair_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "stores"
    for name in (LOUD, QUIET, "targets"):
        shutil.copytree(pair_root / name, root / name)
    monkeypatch.setenv("FEATURE_STORE", str(root))
    for name, count in ((LOUD, 1_000_001), (QUIET, 20)):
        (root / name / "world" / "provenance.json").write_text(json.dumps({"parameters": count}))
    run(*FUSED, "concat", "--task", "tagging", "--epochs", "1")
    assert Run.open(Path("runs") / f"{LOUD}+{QUIET}-concat-world").info.parameters == 1_000_021
    (root / QUIET / "world" / "provenance.json").write_text("{}")
    run(*FUSED, "concat", "--task", "tagging", "--epochs", "1", "--out", "runs/half-known")
    assert Run.open("runs/half-known").info.parameters is None


def test_a_run_says_what_was_fused(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(*FUSED, "concat", "--task", "tagging", "--epochs", "1", "--json")
    out = Path("runs") / f"{LOUD}+{QUIET}-concat-world"
    said = json.loads(capsys.readouterr().out)
    assert (said["run"], said["best"][0]["tap"]) == (str(out), TAP)
    info = Run.open(out).info
    fused = fuse([f"store/{LOUD}", f"store/{QUIET}"], "concat")
    assert (info.name, info.model, info.kind) == (out.name, f"{LOUD}+{QUIET}-concat", "fusion")
    assert (info.untrained, info.features_fingerprint) == (False, fused.fingerprint)
    (probe,) = info.probes
    assert (probe.tap, probe.site, probe.depth, probe.noise, probe.parameters) == (TAP, TAP, 2, None, 3 * 56 + 3)
    bank, card = load(out)
    assert (card.features, card.fingerprint) == (fused.name, fused.fingerprint)
    assert bank.taps[TAP].channels == 56
    run(*FUSED, "concat", "--task", "tagging", "--epochs", "1")
    assert "up to date" in capsys.readouterr().out


def test_training_on_the_fusion_is_training_on_its_copy(pair: Path, tmp_path: Path) -> None:
    asked = ["--task", "depth,tagging", "--epochs", "2"]
    materialise(fuse([f"store/{LOUD}", f"store/{QUIET}"]), tmp_path / "copy", "float32")
    run(*FUSED, "lnconcat", *asked, "--out", "virtual")
    run("--features", str(tmp_path / "copy"), *asked, "--out", "written")
    assert Path("virtual/probes.safetensors").read_bytes() == Path("written/probes.safetensors").read_bytes()
    first, second = Run.open("virtual"), Run.open("written")
    assert first.info.features_fingerprint == second.info.features_fingerprint
    assert (first.info.model, first.info.kind) == (second.info.model, second.info.kind)
    for probe in first.info.probes:
        for split in ("val", "test"):
            values, others = (each.statistics(probe.task, probe.id, split)[1] for each in (first, second))
            assert all(np.array_equal(values[name], others[name], equal_nan=True) for name in values)


def test_taps_are_chosen_by_their_joined_names(pair: Path) -> None:
    features, _ = open_inputs(f"store/toy+store/{QUIET}", None, None, "lnconcat")
    assert [tap.name for tap in choose_taps([], features)] == ["blocks.0+llm.1", "blocks.1@t500+llm.1"]
    (tap,) = choose_taps(["blocks.1@t500+llm.1"], features)
    assert (tap.site, tap.noise, tap.channels, tap.grid_map) == ("blocks.1+llm.1", "t500", 80, (1.0, 0.0, 1.0, 0.0))
    with pytest.raises(UnknownNameError, match=r"'blocks.1@t500\+llm.2'. Did you mean blocks.1@t500\+llm.1"):
        choose_taps(["blocks.1@t500+llm.2"], features)


def test_many_combinations_are_not_all_probed_unasked(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, _ = open_inputs(f"store/toy+store/{QUIET}", None, None, "lnconcat")
    monkeypatch.setattr(inputs, "MOST_FUSED", 1)
    with pytest.raises(ProbesError, match=r"have 2 combinations of taps.*Choose some: --taps blocks.1@t500\+llm.1"):
        choose_taps([], features)
    assert len(choose_taps(["blocks.0+llm.1", "blocks.1@t500+llm.1"], features)) == 2


def test_batches_are_those_of_the_fusion(pair: Path) -> None:
    features, targets = open_inputs(f"store/toy+store/{QUIET}", None, None, "lnconcat")
    config = TrainConfig(tasks=("depth",), taps=tuple(features.taps), views=3, epochs=2)
    inputs = align(features, targets, config.taps, config.tasks, config.views, None)
    stream = Stream(inputs, [get_task("depth", inputs.space)], config)
    seen = 0
    for samples, batch in zip(stream._schedule, stream.train(config.taps), strict=True):
        for place, (sample, frames) in enumerate(zip(samples, stream._frames(samples), strict=True)):
            for name in features.taps:
                values = torch.from_numpy(features.read(name, sample.row, frames.tolist()))
                assert torch.equal(batch.features[name][place], values)
                seen += 1
    assert seen == 2 * 20


def test_a_number_that_is_not_finite_names_the_stores(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = open_inputs(f"store/{LOUD}+store/{QUIET}", None, None, "lnconcat")
    inputs = align(features, targets, features.taps, ["depth"], 3, None)
    read = FeatureStore.read

    def broken(self: FeatureStore, array: str, row: int, frames: Any = None, **options: Any) -> NDArray[Any]:
        values = read(self, array, row, frames, **options)
        if array == "blocks.1":
            values[0, 0, 0, 0] = 0x7FC0
        return values

    monkeypatch.setattr(FeatureStore, "read", broken)
    from probes.features import read_features

    with pytest.raises(NonFiniteError, match=r"tap blocks.1\+llm.1, clip train-0 \(row 0\)") as raised:
        read_features(inputs, TAP, 0, [1])
    for model in (LOUD, QUIET):
        assert f"`python -m store verify {pair / model / 'world'} --deep`" in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--features", f"store/{LOUD}+store/{QUIET}"], "names 2 stores .* say how they are fused: --fusion lnconcat"),
        (["--features", f"store/{LOUD}", "--fusion", "lnconcat"], "is not several stores"),
        ([*FUSED, "lnconcta"], "unknown fusion 'lnconcta'. Did you mean lnconcat"),
        (["--features", f"store/{LOUD}+store/targets", "--fusion", "concat"], "targets/world: holds labels"),
    ],
)
def test_the_command_line_says_what_to_pass(pair: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(FusionError, match=message):
        run(*arguments)
