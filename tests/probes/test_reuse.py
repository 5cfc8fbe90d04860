"""Trained probes are measured again, also on other data, and passed on as a folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate.records import Run
from probes.checkpoint import load
from probes.errors import CheckpointError, RunExistsError, SplitError, TargetsError, UnknownNameError
from probes.export import app as export
from probes.inputs import label_space
from probes.labels import LabelSpace
from probes.test import app as measuring
from probes.train import app as train
from store import FeatureStore
from tests.reseal import edit_clips, edit_recipe

ARGUMENTS = ["--features", "store/toy", "--views", "3", "--device", "cpu"]


@pytest.fixture(scope="module")
def trained(world_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Probes of three tasks on one tap."""
    out = tmp_path_factory.mktemp("runs") / "toy-world"
    arguments = [*ARGUMENTS, "--epochs", "20", "--taps", "blocks.1@t500"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATURE_STORE", str(world_root))
        train([*arguments, "--task", "tagging,depth,correspondence", "--out", str(out)], standalone_mode=False)
    return out


@pytest.fixture
def elsewhere(world_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same world under the name of another data set, `moon`."""
    root = tmp_path / "moon-stores"
    for name in ("toy", "targets"):
        shutil.copytree(world_root / name / "world", root / name / "moon")
        edit_recipe(root / name / "moon", lambda recipe: recipe["dataset"].update(name="moon"))
    monkeypatch.setenv("FEATURE_STORE", str(root))
    return root


def measure(run: Path, *arguments: str) -> None:
    measuring(["--run", str(run), "--features", "store/toy", "--device", "cpu", *arguments], standalone_mode=False)


def same_records(one: Run, other: Run, task: str, split: str) -> None:
    (probe,) = (probe.id for probe in one.info.probes if probe.task == task)
    (scenes, values), (others, again) = (run.statistics(task, probe, split) for run in (one, other))
    assert scenes == others
    for name in values:
        np.testing.assert_allclose(values[name], again[name], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("kind", ["run", "export"])
def test_on_another_data_set(trained: Path, elsewhere: Path, tmp_path: Path, kind: str) -> None:
    source = trained
    if kind == "export":
        source = tmp_path / "shared"
        export(["--run", str(trained), "--out", str(source)], standalone_mode=False)
    measure(source, "--out", "runs/there")
    found = Run.open("runs/there")
    assert (found.info.dataset, found.info.trained_on, found.info.title) == ("moon", "world", "toy (trained on world)")
    assert found.info.features_fingerprint == FeatureStore.open("store/toy").fingerprint
    for task in ("tagging", "depth", "correspondence"):
        for split in ("val", "test"):
            same_records(found, Run.open(trained), task, split)
    with pytest.raises(Exception, match="already exists"):
        measure(source, "--out", "runs/there")


def test_some_tasks_of_some_clips(trained: Path, world: Path) -> None:
    measure(trained, "--task", "depth", "--limit", "2", "--out", "runs/some")
    found = Run.open("runs/some")
    assert list(found.info.protocols) == ["depth"]
    assert found.info.trained_on is None
    assert found.info.config["clips"] == {"val": 2, "test": 2}
    with pytest.raises(UnknownNameError, match="unknown task 'points'"):
        measure(trained, "--task", "points")


def test_a_store_without_val_is_measured_on_test(trained: Path, elsewhere: Path) -> None:
    for name in ("toy", "targets"):
        edit_clips(elsewhere / name / "moon", {"split": "test"}, [10, 11, 12, 13])
    measure(trained, "--task", "depth", "--out", "runs/there")
    assert Run.open("runs/there").info.config["clips"] == {"test": 8}


@pytest.mark.parametrize(("split", "there"), [("val", "train, val"), ("train", "train")])
def test_a_store_without_test_is_refused(trained: Path, elsewhere: Path, split: str, there: str) -> None:
    for name in ("toy", "targets"):
        edit_clips(elsewhere / name / "moon", {"split": split}, list(range(14 if split == "val" else 10, 18)))
    with pytest.raises(SplitError, match=f"no clip of split test to measure probes on; it has {there}\\."):
        measure(trained, "--task", "depth", "--out", "runs/there")
    assert not Path("runs").exists()


def test_a_run_of_another_version_is_refused(trained: Path, world: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    info = json.loads((copy / "run.json").read_text())
    del info["config"]["control"]
    (copy / "run.json").write_text(json.dumps(info))
    with pytest.raises(CheckpointError, match=r"run\.json: was not written by this version .*'control'"):
        measure(copy)


def test_metres_are_not_asked_where_there_are_none(
    trained: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unscaled(targets: FeatureStore) -> LabelSpace:
        return label_space(targets).model_copy(update={"metric": False})

    monkeypatch.setattr("probes.inputs.label_space", unscaled)
    with pytest.raises(
        CheckpointError, match=r"units of each scene's own, and metres where .* Ask for others: --task tag"
    ):
        measure(trained)
    measure(trained, "--task", "tagging", "--out", "runs/there")


def test_features_of_another_backbone_are_refused(trained: Path, elsewhere: Path) -> None:
    edit_recipe(elsewhere / "toy" / "moon", lambda recipe: recipe["backbone"].update(digest="1" * 32))
    with pytest.raises(CheckpointError, match="its features were made otherwise than those of toy/world"):
        measure(trained)


def test_other_classes_are_refused_for_tasks_that_speak_of_them(
    trained: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renamed(targets: FeatureStore) -> LabelSpace:
        space = label_space(targets)
        return space.model_copy(update={"names": ("stool", *space.names[1:])})

    monkeypatch.setattr("probes.inputs.label_space", renamed)
    with pytest.raises(CheckpointError, match=r"tagging cannot be tested\. Ask for others: --task depth --task corr"):
        measure(trained)
    measure(trained, "--task", "depth", "--out", "runs/there")


def test_an_exported_folder_says_what_it_is(trained: Path, tmp_path: Path) -> None:
    export(["--run", str(trained), "--out", "probes-of-toy"], standalone_mode=False)
    folder = Path("probes-of-toy")
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md",
        "probes.json",
        "probes.safetensors",
        "run.json",
    ]
    readme = (folder / "README.md").read_text()
    code = readme.split("```python\n")[1].split("```")[0]
    bank, _ = load(folder)
    features = torch.zeros(1, 3, 8, 8, 48)
    scope: dict[str, object] = {"features": features}
    exec(code, scope)  # what people will copy must run
    assert isinstance(scope["outputs"], torch.Tensor)
    assert len(bank.probes) == 3
    with pytest.raises(RunExistsError, match=r"exists\. Choose another --out"):
        export(["--run", str(trained), "--out", "probes-of-toy"], standalone_mode=False)


def test_what_was_exported_can_be_passed_on(trained: Path, tmp_path: Path) -> None:
    export(["--run", str(trained), "--out", "one"], standalone_mode=False)
    export(["--run", "one", "--out", "two"], standalone_mode=False)
    for name in ("probes.json", "probes.safetensors", "run.json"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()


def test_a_damaged_run_is_not_exported(trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    card = json.loads((copy / "probes.json").read_text())
    card["probes"].pop(0)
    (copy / "probes.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError):
        export(["--run", str(copy), "--out", "out"], standalone_mode=False)
    assert not Path("out").exists()


def test_targets_of_another_name_may_be_of_the_same_clips(
    world_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As scannet200 has other classes for the clips of scannet, and needs no features of its own."""
    root = tmp_path / "stores-of-two"
    shutil.copytree(world_root, root)
    shutil.copytree(root / "targets" / "world", root / "targets" / "world200")
    edit_recipe(root / "targets" / "world200", lambda recipe: recipe["dataset"].update(name="world200"))
    monkeypatch.setenv("FEATURE_STORE", str(root))
    arguments = ["--features", "store/toy", "--views", "3", "--device", "cpu", "--epochs", "1", "--task", "depth"]
    train([*arguments, "--targets", "store/targets/world200"], standalone_mode=False)
    assert Run.open("runs/toy-world-world200").info.dataset == "world200"
    edit_clips(root / "targets" / "world200", {"n_frames": 99}, [3])
    with pytest.raises(TargetsError, match="clip train-3 differs"):
        train([*arguments, "--targets", "store/targets/world200", "--force"], standalone_mode=False)


@pytest.mark.parametrize(("module", "more"), [("test", ["--features", "store/x"]), ("export", ["--out", "x"])])
def test_both_commands_end_with_status_1_and_one_line(module: str, more: list[str]) -> None:
    command = [sys.executable, "-m", f"probes.{module}", "--run", "nowhere", *more]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: nowhere")
