"""`python -m extract label`: what it writes, going on after an interruption, and the calls of the adapter to VGGT."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from extract.__main__ import app, main
from extract.datasets.dl3dv import Dl3dv
from extract.datasets.dl3dv_files.sft import read_header, read_labels
from extract.datasets.dl3dv_files.vggt_input import vggt_pictures
from extract.datasets.sampling import Sampling
from extract.errors import ExtractError
from extract.labelling.base import make_labeller
from tests.extract.dl3dv.fake_labeller import Fake
from tests.extract.dl3dv.tiny_dl3dv import FRAMES, hash_of, label_arrays, room, write_labels, write_scene

FAKE = "tests.extract.dl3dv.fake_labeller:Fake"


@pytest.fixture(autouse=True)
def reset() -> Iterator[None]:
    Fake.calls.clear()
    yield
    Fake.stop_after = None


@pytest.fixture
def scenes(root: Path) -> Path:
    for n in range(3):
        write_scene(root / f"{n + 1}K" / hash_of(n), room(n))
    return root


def label(root: Path, *flags: str, labeller: str = FAKE, dataset: str = "dl3dv") -> tuple[int, str]:
    command = ["label", "--dataset", dataset, "--root", str(root), "--with", labeller, "--device", "cpu", *flags]
    result = CliRunner().invoke(app, command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def made(root: Path, n: int) -> Path:
    return root / f"DL3DV-processed/{n + 1}K/{hash_of(n)}.sft"


def test_what_is_written_is_read(scenes: Path) -> None:
    code, output = label(scenes)
    assert (code, output.splitlines()[-1]) == (0, "3 scenes labelled, 0 were already, 0 failed")
    assert Fake.calls == [(FRAMES, 42, 74, 3)] * 3
    dataset = Dl3dv(scenes, Sampling(window="run", bank=2))
    assert (dataset.facts()["labels"], dataset.facts()["label_checkpoints"]) == (["fake"], ["somewhere/fake"])
    assert len(dataset.clips()) == 3
    targets = dataset.clips()[1].targets()
    assert targets.cam_to_world is not None
    assert targets.intrinsics is not None
    assert targets.confidence is not None
    np.testing.assert_array_equal(targets.rgb, vggt_pictures(room(1).rgb[[0, FRAMES - 1]]))
    assert set(np.unique(targets.confidence)) == {1}
    np.testing.assert_allclose(targets.cam_to_world[1][:3, 3], [-(FRAMES - 1) / 10, 0, 0], atol=1e-6)
    np.testing.assert_allclose(targets.intrinsics[0][:2, 2], [518 / 2 + 0.5, 294 / 2 + 0.5])


def test_a_second_run_makes_what_is_missing_or_invalid(scenes: Path) -> None:
    label(scenes)
    before = made(scenes, 0).read_bytes()
    made(scenes, 1).write_bytes(before[:1000])
    made(scenes, 2).unlink()
    Fake.calls.clear()
    code, output = label(scenes)
    assert (code, output.splitlines()[-1]) == (0, "2 scenes labelled, 1 were already, 0 failed")
    assert len(Fake.calls) == 2
    assert made(scenes, 0).read_bytes() == before
    assert read_header(made(scenes, 1)).frames == FRAMES


def test_an_interruption_loses_nothing_and_leaves_no_part(scenes: Path) -> None:
    Fake.stop_after = 1
    assert label(scenes)[0] == 130
    files = [path for path in (scenes / "DL3DV-processed").rglob("*") if path.is_file()]
    assert files == [made(scenes, 0)]
    Fake.stop_after = None
    assert json.loads(label(scenes, "--json")[1]) == {"done": 2, "skipped": 1, "failed": {}}


def test_scenes_that_cannot_be_read_are_listed(scenes: Path) -> None:
    (scenes / f"1K/{hash_of(0)}/images_4/frame_00009.png").write_bytes(b"")
    (scenes / f"2K/{hash_of(1)}/images_4/frame_00001.png").write_bytes(b"")
    code, output = label(scenes, "--json")
    assert code == 1
    summary = json.loads(output[output.index("{\n") :])
    assert (summary["done"], sorted(summary["failed"])) == (1, sorted([hash_of(0), hash_of(1)]))
    assert "frame_00009.png: an empty file" in summary["failed"][hash_of(0)]
    assert not made(scenes, 0).exists()


def test_another_folder_fewer_frames_and_fewer_scenes(scenes: Path, tmp_path: Path) -> None:
    code, _ = label(scenes, "--out", str(tmp_path / "else"), "--frames", "9", "--limit", "1")
    assert code == 0
    header = read_header(tmp_path / f"else/1K/{hash_of(0)}.sft")
    assert (header.start, header.frames, header.size) == (0, 9, (294, 518))
    assert not (scenes / "DL3DV-processed").exists()


def test_labels_of_another_network_are_not_mixed_with(scenes: Path) -> None:
    write_labels(scenes, "1K", hash_of(0), label_arrays())
    code, output = label(scenes)
    assert code == 1
    assert "2 scenes labelled, 0 were already, 1 failed" in output
    assert "made by vggt, not by fake somewhere/fake. Remedy: name another folder (--out)" in output


@pytest.mark.parametrize("dataset", ["rooms", "scannet", "folder"])
def test_other_data_sets(root: Path, dataset: str) -> None:
    with pytest.raises(ExtractError, match=rf"--dataset {dataset}: only dl3dv takes labels"):
        label(root, dataset=dataset)


@pytest.mark.parametrize(
    ("labeller", "message"),
    [
        ("vgt", r"labeller 'vgt'.*vggt"),
        ("tests.nowhere:Fake", "cannot be imported"),
        ("tests.extract.dl3dv.fake_labeller:Nothing", "lacks name, checkpoint or label"),
        ("tests.extract.dl3dv.fake_labeller:Wrong", r"the labeller made depth of float32 \(24, 7, 518\)"),
    ],
)
def test_what_is_no_labeller(scenes: Path, labeller: str, message: str) -> None:
    with pytest.raises(ExtractError, match=message):
        label(scenes, labeller=labeller)
    assert not (scenes / "DL3DV-processed").exists()


def test_without_the_package(scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "vggt", None)
    monkeypatch.setattr(
        sys, "argv", ["extract", "label", "--dataset", "dl3dv", "--root", str(scenes), "--with", "vggt"]
    )
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    message = capsys.readouterr().err
    assert "error: --with vggt: the package vggt cannot be imported" in message
    assert "pip install git+https://github.com/facebookresearch/vggt" in message


class StandIn:
    """The names of VGGT that its README documents; every call is noted."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.seen = torch.empty(0)

    def from_pretrained(self, checkpoint: str) -> StandIn:
        self.calls.append(f"from_pretrained {checkpoint}")
        return self

    def to(self, device: str) -> StandIn:
        self.calls.append(f"to {device}")
        return self

    def eval(self) -> StandIn:
        self.calls.append("eval")
        return self

    def aggregator(self, images: torch.Tensor) -> tuple[list[torch.Tensor], int]:
        assert torch.is_inference_mode_enabled()
        self.calls.append("aggregator")
        self.seen = images
        return [torch.zeros(1), torch.ones(1)], 5

    def camera_head(self, tokens: list[torch.Tensor]) -> list[torch.Tensor]:
        assert len(tokens) == 2
        self.calls.append("camera_head")
        return [torch.zeros(1, self.seen.shape[1], 9), torch.ones(1, self.seen.shape[1], 9)]

    def depth_head(self, tokens: Any, images: torch.Tensor, first: int) -> tuple[torch.Tensor, torch.Tensor]:
        assert images is self.seen
        assert first == 5
        self.calls.append("depth_head")
        plane = images[:, :, 0]
        return plane[..., None] + 1, plane + 2

    def decode(self, encoding: torch.Tensor, size: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
        assert encoding.min() == 1, "the last iteration counts"
        self.calls.append(f"decode {tuple(size)}")
        count = encoding.shape[1]
        return torch.eye(3, 4).repeat(1, count, 1, 1), (torch.eye(3) * 400).clamp(max=400).repeat(1, count, 1, 1)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    fake = StandIn()
    contents = {
        "vggt": {},
        "vggt.models": {},
        "vggt.models.vggt": {"VGGT": SimpleNamespace(from_pretrained=fake.from_pretrained)},
        "vggt.utils": {},
        "vggt.utils.pose_enc": {"pose_encoding_to_extri_intri": fake.decode},
    }
    for name, attributes in contents.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    return fake


def test_the_adapter_calls_what_vggt_documents(stand_in: StandIn) -> None:
    labeller = make_labeller("vggt", None, "cpu")
    frames = room(0, 3, (54, 96)).rgb
    labels = labeller.label(frames)
    labels.check()
    assert stand_in.calls == [
        "from_pretrained facebook/VGGT-1B",
        "to cpu",
        "eval",
        "aggregator",
        "camera_head",
        "decode (294, 518)",
        "depth_head",
    ]
    assert stand_in.seen.shape == (1, 3, 3, 294, 518)
    expected = np.stack([Image.fromarray(each).resize((518, 294), Image.Resampling.BICUBIC) for each in frames])
    np.testing.assert_array_equal(labels.images, expected)
    np.testing.assert_allclose(stand_in.seen[0].permute(0, 2, 3, 1).numpy() * 255, expected, atol=1e-4)
    np.testing.assert_allclose(labels.depth, expected[..., 0] / 255 + 1, atol=1e-6)
    np.testing.assert_allclose(labels.confidence, expected[..., 0] / 255 + 2, atol=1e-6)
    assert make_labeller("vggt", "other/weights", "cpu").checkpoint == "other/weights"


def test_vggt_without_memory(stand_in: StandIn, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(images: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(stand_in, "aggregator", full)
    with pytest.raises(ExtractError, match=rf"out of memory with {FRAMES} frames .*--frames 81"):
        label(scenes, labeller="vggt")


def test_pictures_as_vggt_sees_them() -> None:
    """Heights by its rule: nearest multiple of 14 at a width of 518, and at most 518, of which the middle is kept."""
    for (height, width), expected in (((540, 960), 294), ((270, 480), 294), ((480, 640), 392), ((960, 540), 518)):
        assert vggt_pictures(np.zeros((1, height, width, 3), np.uint8)).shape == (1, expected, 518, 3)
    upright = np.zeros((1, 960, 540, 3), np.uint8)
    upright[0, 480:] = 200
    assert (vggt_pictures(upright)[0, [0, 250, 268, 517], 100, 0] == [0, 0, 200, 200]).all()


def test_written_labels_are_as_they_were(scenes: Path) -> None:
    label(scenes, "--limit", "1")
    header = read_header(made(scenes, 0))
    labels = read_labels(header, [0, 3])
    assert dict(header.made_by) == {"labeller": "fake", "checkpoint": "somewhere/fake"}
    assert set(np.unique(labels.depth)) == {2}
    np.testing.assert_array_equal(labels.images, vggt_pictures(room(0).rgb[[0, 3]]))


def test_labels_of_frames_that_the_scene_does_not_have_are_made_anew(scenes: Path) -> None:
    write_labels(scenes, "1K", hash_of(0), label_arrays() | {"start_idx": np.array(20, np.int32)})
    assert "1 scenes labelled, 0 were already, 0 failed" in label(scenes, "--limit", "1")[1]
    assert read_header(made(scenes, 0)).start == 0


def test_a_scene_without_cameras_fails_alone(scenes: Path) -> None:
    code, output = label(scenes, labeller="tests.extract.dl3dv.fake_labeller:Lost")
    assert code == 1
    assert "2 scenes labelled, 0 were already, 1 failed" in output
    assert f"failed: {hash_of(0)}: the labeller made cameras that are not finite. Remedy" in output
    assert not made(scenes, 0).exists()


def test_weights_that_cannot_be_loaded(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(checkpoint: str) -> None:
        raise RuntimeError("Error(s) in loading state_dict for VGGT:\n missing keys")

    monkeypatch.setattr(sys.modules["vggt.models.vggt"].VGGT, "from_pretrained", wrong)
    with pytest.raises(ExtractError, match=r"--checkpoint other/net: cannot be loaded as VGGT on cpu \(Error"):
        make_labeller("vggt", "other/net", "cpu")
