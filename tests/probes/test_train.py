"""The whole run, by its command line: what it finds, what it leaves behind, and what it says when it cannot."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate.protocols import protocol_of
from evaluate.records import Run
from probes.checkpoint import load
from probes.config import TrainConfig
from probes.errors import (
    CheckpointError,
    NonFiniteError,
    ProbesError,
    RunExistsError,
    SplitError,
    TargetsError,
    UnknownNameError,
)
from probes.inputs import align, open_inputs
from probes.predict import score
from probes.tasks import TASKS
from probes.train import app
from store import FeatureStore, MissingClipError, StoreNotFoundError
from tests.reseal import edit_clips, edit_recipe

ARGUMENTS = ["--features", "store/toy", "--views", "3", "--device", "cpu", "--pixels", "96", "--weight-decay", "0.01"]
TELLING, MUTE = "blocks.1@t500", "blocks.0"


def run(*arguments: str) -> None:
    app([*ARGUMENTS, *arguments], standalone_mode=False)


@pytest.fixture(scope="module")
def finished(world_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run over all tasks and taps."""
    out = tmp_path_factory.mktemp("runs") / "toy-world"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATURE_STORE", str(world_root))
        run("--epochs", "60", "--learning-rate", "0.02", "--learning-rate", "0.000001", "--out", str(out))
    return out


def primary(run: Run, tap: str, task: str, split: str) -> float:
    (probe,) = [p for p in run.info.probes if p.tap == tap and p.task == task]
    protocol = protocol_of(run.info.protocols[task], run.info.classes.get(task, ()))
    return protocol.reduce(run.statistics(task, probe.id, split)[1])[protocol.primary]


# What features that tell all must reach and mute ones must miss. Bilinear reading blurs edges, hence no perfection.
BOUNDS = {
    "tagging": (0.97, 0.9),
    "segmentation": (0.65, 0.3),
    "grouping": (0.8, 0.4),
    "depth": (0.2, 0.3),
    "points": (0.25, 0.35),
    "camera": (0.4, 0.3),
}


# The tiny world has one normal only, and no surface that two frames share: tests of their own ask for those tasks.
@pytest.mark.parametrize("task", BOUNDS)
def test_features_that_tell_are_found_and_mute_ones_are_not(finished: Path, task: str) -> None:
    found = Run.open(finished)
    protocol = protocol_of(found.info.protocols[task], found.info.classes.get(task, ()))
    sign = 1 if protocol.metrics[protocol.primary].higher_is_better else -1
    good, bad = BOUNDS[task]
    assert sign * primary(found, TELLING, task, "test") > sign * good
    assert sign * primary(found, MUTE, task, "test") < sign * bad


def test_a_run_holds_all_that_is_needed_to_show_it(finished: Path) -> None:
    found = Run.open(finished)
    info = found.info
    assert (info.name, info.model, info.kind, info.untrained, info.dataset) == (
        "toy-world",
        "toy",
        "encoder",
        False,
        "world",
    )
    assert list(info.protocols) == list(TASKS)
    assert info.classes == {
        "tagging": ["chair", "lamp", "sofa"],
        "segmentation": ["chair", "wall", "lamp", "sofa", "floor"],
    }
    assert len(info.probes) == len(TASKS) * 2
    by_place = {(probe.task, probe.tap): probe for probe in info.probes}
    depth = by_place["depth", TELLING]
    assert depth.id == "depth/blocks.1@t500/linear/lr0.02/wd0.01/seed0"
    assert (depth.site, depth.depth, depth.noise, depth.parameters) == ("blocks.1", 1, "t500", 48 + 1)
    assert by_place["camera", MUTE].parameters == 7 * 96 + 7
    for split, count in (("val", 4), ("test", 4)):
        scenes, statistics = found.statistics("tagging", by_place["tagging", MUTE].id, split)
        assert scenes == [f"scene-{split}-{i}" for i in range(count)]
        assert statistics["scores"].shape == (count, 2, 3)


def test_examples_are_of_the_best_probe_at_full_size(finished: Path) -> None:
    examples = Run.open(finished).examples()
    assert {example.task for example in examples} == set(TASKS)
    for example in examples:
        assert TELLING in example.probe_id or example.task not in ("depth", "grouping", "segmentation")
        assert example.split == "test"
        assert example.frames == [0, 4, 8]
        assert example.arrays["rgb"].shape == (3, 32, 32, 3)
        assert example.arrays["cam_to_world"].shape == (3, 4, 4)
        assert example.arrays["features_pca"].shape == (3, 8, 8, 3)
    shown = {example.task: example.arrays for example in examples}
    known = shown["depth"]["depth"] > 0
    ratio = shown["depth"]["depth_pred"][known] / shown["depth"]["depth"][known]
    assert np.median(np.abs(np.log(ratio))) < 0.2
    assert (shown["segmentation"]["classes"] == shown["segmentation"]["classes_pred"]).mean() > 0.7
    assert shown["grouping"]["instance_pred"].min() >= 0


def test_the_training_log_has_every_probe(finished: Path) -> None:
    with (finished / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert int(lines[-1]["step"]) == 60 * 10 // 4
    assert int(lines[-1]["clips"]) == 600
    learned = "depth/blocks.1@t500/linear/lr0.02/wd0.01/seed0"
    assert float(lines[-1][learned]) < 0.5 * float(lines[0][learned])
    trained = sum(entry.trained for entry in TASKS.values())
    assert len(lines[0]) == 4 + trained * 2 * 2 + (len(TASKS) - trained) * 2


def test_of_a_grid_the_least_loss_on_val_is_chosen(finished: Path) -> None:
    with (finished / "search.csv").open() as file:
        tried = list(csv.DictReader(file))
    with (finished / "validation.csv").open() as file:
        losses = list(csv.DictReader(file))
    assert [int(line["step"]) for line in losses] == [15, 30, 45, 60, 75, 90, 105, 120, 135, 150]
    info = Run.open(finished).info
    assert {line["probe"] for line in tried if line["chosen"] == "1"} == {probe.id for probe in info.probes}
    for probe in info.probes:
        rivals = [line for line in tried if line["probe"].startswith(f"{probe.task}/{probe.tap}/")]
        if not TASKS[probe.task].trained:
            assert [line["val_loss"] for line in rivals] == [""]
            continue
        assert len(rivals) == 2
        (chosen,) = (line for line in rivals if line["chosen"] == "1")
        assert float(chosen["val_loss"]) == min(float(line["val_loss"]) for line in rivals)
        for line in rivals:
            seen = {int(at["step"]): float(at[line["probe"]]) for at in losses}
            assert float(line["val_loss"]) == min(seen.values()) == seen[int(line["step"])]


def test_a_run_says_that_it_is_done(finished: Path) -> None:
    status = json.loads((finished / "status.json").read_text())
    assert (status["state"], status["phase"], status["done"], status["of"]) == ("done", "evaluate", 8, 8)
    assert not list(finished.parent.glob(".*"))


def test_probes_read_back_score_as_they_did(finished: Path, world: Path) -> None:
    bank, card = load(finished)
    assert (card.features, len(card.probes)) == ("toy/world", len(TASKS) * 2)
    features, targets = open_inputs("store/toy", None, None)
    inputs = align(features, targets, list(bank.taps), list(TASKS), 3, None)
    found = Run.open(finished)
    protocols = {
        task: protocol_of(name, found.info.classes.get(task, ())) for task, name in found.info.protocols.items()
    }
    config = TrainConfig(tasks=tuple(TASKS), taps=tuple(bank.taps), views=3)
    threads = torch.get_num_threads()
    scores = score(bank, inputs, protocols, config, lambda *_: None, lambda: None)
    assert torch.get_num_threads() == threads
    for probe in found.info.probes:
        _, stored = found.statistics(probe.task, probe.id, "test")
        for name, values in stored.items():
            again = np.stack([scene[name] for scene in scores.values[probe.id]["test"]])
            np.testing.assert_allclose(again, values, rtol=1e-9, err_msg=f"{probe.id} {name}")


def test_damaged_probes_are_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no readable probes"):
        load(tmp_path)
    for name in ("probes.json", "probes.safetensors"):
        shutil.copy(finished / name, tmp_path)
    card = json.loads((tmp_path / "probes.json").read_text())
    card["probes"].pop(0)
    (tmp_path / "probes.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match=r"not the weights that probes\.json describes"):
        load(tmp_path)
    weights = (tmp_path / "probes.safetensors").read_bytes()
    (tmp_path / "probes.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(CheckpointError, match="no readable probes"):
        load(tmp_path)


FAST = ("--task", "depth", "--taps", MUTE, "--epochs", "1")


def test_an_unchanged_run_is_skipped_and_a_changed_one_is_not_replaced_unasked(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*FAST)
    out = tmp_path / "runs" / "toy-world"
    first = (out / "run.json").stat().st_mtime_ns
    assert "depth" in capsys.readouterr().out
    run(*FAST)
    assert "up to date" in capsys.readouterr().out
    assert (out / "run.json").stat().st_mtime_ns == first
    with pytest.raises(RunExistsError, match=r"seeds: \[0\] there, \[3\] asked for"):
        run(*FAST, "--seed", "3")
    run(*FAST, "--seed", "3", "--update")
    second = (out / "run.json").stat().st_mtime_ns
    assert Run.open(out).info.config["seeds"] == [3]
    assert second != first
    run(*FAST, "--seed", "3", "--force")
    assert (out / "run.json").stat().st_mtime_ns != second
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["toy-world"]


def test_json_is_all_there_is_on_stdout(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(*FAST, "--json")
    result = json.loads(capsys.readouterr().out)
    assert result["run"] == "runs/toy-world"
    assert result["best"][0]["tap"] == MUTE
    assert result["best"][0]["test"]["absrel"] > 0
    run(*FAST, "--json")
    assert "up to date" in json.loads(capsys.readouterr().out)["skipped"]


def test_an_interrupted_run_leaves_nothing(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("probes.run.standardiser_of", interrupt)
    assert app([*ARGUMENTS, *FAST], standalone_mode=False) == 130  # what a shell says of Ctrl-C
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_is_no_run_is_never_replaced(world: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(RunExistsError, match="is no run"):
        run(*FAST, "--out", "thesis", "--force")
    assert (tmp_path / "thesis" / "chapter.tex").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--task", "dpeth"], UnknownNameError, "unknown task 'dpeth'. Did you mean depth"),
        (["--taps", "blocks.1@t50"], UnknownNameError, r"toy/world: unknown tap .* Did you mean blocks\.1@t500"),
        (["--head", "liner"], UnknownNameError, "unknown head 'liner'. Did you mean linear"),
        (["--device", "warp"], UnknownNameError, "device 'warp' cannot be used here"),
        (["--device", "meta"], UnknownNameError, "device 'meta' cannot be used here"),
        (["--views", "7"], SplitError, "has 6 bank frames, fewer than --views 7"),
        (["--targets", "targets/nowhere"], TargetsError, "no targets for toy/world at targets/nowhere"),
        (["--targets", "store/toy"], TargetsError, "holds features, not targets"),
        (["--features", "targets/world"], TargetsError, "holds targets, not features"),
        (["--features", "store/tyo"], StoreNotFoundError, "Did you mean store/toy"),
        (["--dataset", "wrld"], StoreNotFoundError, "wrld"),
    ],
)
def test_bad_input_is_one_clear_error(
    world: Path, tmp_path: Path, arguments: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(*arguments)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


@pytest.fixture
def own_world(world_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the world to damage."""
    root = tmp_path / "own"
    shutil.copytree(world_root, root)
    monkeypatch.setenv("FEATURE_STORE", str(root))
    return root


def test_features_and_targets_must_be_of_the_same_clips(own_world: Path) -> None:
    edit_clips(own_world / "targets" / "world", {"digest": "f" * 32}, [3])
    with pytest.raises(TargetsError, match=r"clip train-3 differs between toy/world .* and targets/world"):
        run(*FAST)


def test_features_and_targets_must_be_of_the_same_version(own_world: Path) -> None:
    edit_recipe(own_world / "targets" / "world", lambda recipe: recipe["dataset"].update(version="2"))
    with pytest.raises(TargetsError, match="version 1, targets targets/world of world version 2"):
        run(*FAST)


def test_a_clip_without_targets_is_named(own_world: Path) -> None:
    for commit in (own_world / "targets" / "world" / "commits").glob("*.json"):
        if "train-5" in commit.read_text():
            commit.unlink()
    with pytest.raises(TargetsError, match="clip train-5 of toy/world has no targets"):
        run(*FAST)


def test_a_split_without_clips_is_named(own_world: Path) -> None:
    for name in ("toy", "targets"):
        edit_clips(own_world / name / "world", {"split": "train"}, [10, 11, 12, 13])
    with pytest.raises(MissingClipError, match="no committed clip of split 'val'"):
        run(*FAST)


def test_a_scene_in_two_splits_is_refused(own_world: Path) -> None:
    for name in ("toy", "targets"):
        edit_clips(own_world / name / "world", {"scene": "scene-train-3"}, [15])
    with pytest.raises(SplitError, match="scene scene-train-3 has clips in train and in test"):
        run(*FAST)


def test_a_head_that_answers_none_of_what_is_there_is_refused(own_world: Path) -> None:
    for name in ("cam_to_world", "class_pixels"):
        shutil.rmtree(own_world / "targets" / "world" / "features.zarr" / name)
    with pytest.raises(
        ProbesError, match=r"answers no task that there are targets for\. Heads answer attentive: tagging"
    ):
        run("--head", "attentive")


def test_tasks_follow_from_the_arrays_that_are_there(own_world: Path, tmp_path: Path) -> None:
    shutil.rmtree(own_world / "targets" / "world" / "features.zarr" / "cam_to_world")
    with pytest.raises(TargetsError, match="task camera needs the arrays cam_to_world, which are not there"):
        run("--task", "camera")
    run("--taps", MUTE, "--epochs", "1", "--task", "all", "--limit", "2")
    info = Run.open(tmp_path / "runs" / "toy-world").info
    assert list(info.protocols) == [name for name, entry in TASKS.items() if "cam_to_world" not in entry.needs]
    assert info.config["clips"] == {"train": 2, "val": 2, "test": 2}


def test_scenes_may_have_different_numbers_of_clips_and_frames(own_world: Path, tmp_path: Path) -> None:
    """Three test clips of one scene, one of another; the statistics of each scene are those of its own windows."""
    for name in ("toy", "targets"):
        edit_clips(own_world / name / "world", {"scene": "big"}, [14, 15, 16])
    run("--task", "tagging", "--task", "depth", "--taps", MUTE, "--epochs", "1")
    found = Run.open(tmp_path / "runs" / "toy-world")
    ids = {probe.task: probe.id for probe in found.info.probes}
    scenes, statistics = found.statistics("tagging", ids["tagging"], "test")
    assert scenes == ["big", "scene-test-3"]
    assert statistics["scores"].shape == (2, 3 * 2, 3)
    assert not statistics["scores"][1, 2:].any()
    assert not statistics["labels"][1, 2:].any()
    protocol = protocol_of(found.info.protocols["tagging"], found.info.classes["tagging"])
    one = {name: values[1:] for name, values in statistics.items()}
    cut = {name: values[:, :2] if name in ("scores", "labels") else values for name, values in one.items()}
    assert protocol.reduce(one) == pytest.approx(protocol.reduce(cut), nan_ok=True)
    pixels = found.statistics("depth", ids["depth"], "test")[1]["pixels"]
    assert pixels[0] == 3 * pixels[1]


def test_a_nan_feature_stops_the_run(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = FeatureStore.read

    def damaged(self: FeatureStore, array: str, row: int, *rest: object, **named: object) -> np.ndarray:
        values = whole(self, array, row, *rest, **named)  # type: ignore[arg-type]
        return (
            np.where(np.arange(len(values)).reshape(-1, 1, 1, 1) == 0, np.nan, values)
            if row == 15 and array == MUTE
            else values
        )

    monkeypatch.setattr(FeatureStore, "read", damaged)
    with pytest.raises(NonFiniteError, match=r"tap blocks\.0, clip test-1"):
        run(*FAST)
    assert list((tmp_path / "runs").iterdir()) == []


def test_the_program_ends_with_status_1_and_one_line(world: Path) -> None:
    command = [sys.executable, "-m", "probes.train", "--features", "store/tyo"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: store/tyo: no feature store")
    assert done.stdout == ""
    assert issubclass(UnknownNameError, ProbesError)
