"""Exports, read back with the tools that they are for."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import load_file

from store import ArraySpec, ClipRow, FeatureStore, FormatError, MissingClipError, Recipe, StoreError
from store.sharing.destination import destination
from store.sharing.export import export
from store.sharing.requantise import requantise
from store.sharing.selection import Selection
from store.sharing.transfer import transfer
from tests.store.conftest import SPECS, Example, clip_values, dataset_recipe
from tests.store.servers import Bucket, s3_endpoint, s3_server  # noqa: F401

PROJECT = Path(__file__).parents[2]
ARRAYS = ["early", "label", "late@t5", "slot", "wide"]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_safetensors_are_read_by_safetensors(filled: Example, tmp_path: Path) -> None:
    store = FeatureStore.open(filled.path)
    done = export(store, tmp_path / "out", "safetensors")
    assert (done.clips, done.files, done.files_there, done.left_out, done.failed) == (3, 3, 0, 0, [])
    assert done.bytes == sum(file.stat().st_size for file in (tmp_path / "out").glob("*.safetensors"))
    for clip in filled.clips:
        file = tmp_path / "out" / f"{clip.id}.safetensors"
        tensors = load_file(file)
        assert sorted(tensors) == ARRAYS
        assert tensors["late@t5"].dtype == torch.bfloat16
        assert tensors["early"].dtype == torch.float16
        assert tensors["label"].dtype == torch.uint16
        for name, tensor in tensors.items():
            values = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
            np.testing.assert_array_equal(values.numpy(), store.read(name, clip.row))
        with safetensors.safe_open(file, "np") as opened:
            about = opened.metadata()
            np.testing.assert_array_equal(opened.get_tensor("wide"), store.read("wide", clip.row))
        assert about["fingerprint"] == store.fingerprint
        assert ClipRow.model_validate_json(about["clip"]) == clip
        assert json.loads(about["attributes"])["late@t5"]["noise"] == {"sigma": 1.0}


def test_tensors_are_aligned(filled: Example, tmp_path: Path) -> None:
    export(FeatureStore.open(filled.path), tmp_path / "out", "safetensors")
    content = (tmp_path / "out" / "clip1.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    for name, entry in json.loads(content[8 : 8 + length]).items():
        if name != "__metadata__":
            assert (
                entry["data_offsets"][0] % (4 if entry["dtype"] == "F32" else 2 if "16" in entry["dtype"] else 1) == 0
            )


def test_npy_is_read_by_numpy(filled: Example, tmp_path: Path) -> None:
    store = FeatureStore.open(filled.path)
    done = export(store, tmp_path / "out", "npy", Selection(arrays=["late@t5", "early"], splits=["train"]))
    assert done.files == 4
    assert done.dtypes == {"early": "float16", "late@t5": "float32"}
    for row in (0, 1):
        for name in ("early", "late@t5"):
            values = np.load(tmp_path / "out" / name / f"clip{row}.npy", mmap_mode="r", allow_pickle=False)
            assert values.dtype == np.dtype(done.dtypes[name])
            np.testing.assert_array_equal(values, store.read(name, row))
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert [clip["id"] for clip in about["clips"]] == ["clip0", "clip1"]
    assert about["arrays"]["late@t5"]["stored_dtype"] == "bfloat16"
    assert about["arrays"]["late@t5"]["dims"] == ["frame", "y", "x", "channel"]


def odd_names(example: Example) -> None:
    """Clip ids and taps with dots, blanks and other letters."""
    names = ["v1.2_scene.mp4", "100%.a b", "Straße·7"]
    example.clips = [
        ClipRow(**{**clip.model_dump(), "id": name}) for clip, name in zip(example.clips, names, strict=True)
    ]
    example.recipe = Recipe(kind="features", dataset=dataset_recipe("toys", example.clips))
    spec = SPECS[0]
    taps = ["blocks.20@t502", "up_blocks.1@sigma=0.5", "early"]
    example.create([ArraySpec(tap, spec.shape, spec.dtype, spec.dims, {**spec.attrs, "site": tap}) for tap in taps])
    for clip in example.clips:
        values = clip_values(clip.row, len(clip.bank))
        example.values[clip.row] = dict(
            zip(taps, [values["early"], values["wide"], values["late@t5"] / 1e6], strict=True)
        )
    example.write([0, 1, 2])


def read_tars(folder: Path) -> list[dict[str, Any]]:
    import webdataset

    urls = [str(file) for file in sorted(folder.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode())
    gc.collect()
    return samples


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves the closing of its files to the collector
def test_webdataset_is_read_by_webdataset(example: Example, tmp_path: Path) -> None:
    odd_names(example)
    store = FeatureStore.open(example.path)
    done = export(store, tmp_path / "out", "webdataset", clips_per_shard=2)
    assert sorted(file.name for file in (tmp_path / "out").glob("*.tar")) == ["000000.tar", "000001.tar"]
    assert done.files == 2
    samples = read_tars(tmp_path / "out")
    assert [unquote(sample["__key__"]) for sample in samples] == [clip.id for clip in example.clips]
    for sample, clip in zip(samples, example.clips, strict=True):
        about = sample["json"]
        assert about.pop("fingerprint") == store.fingerprint
        assert ClipRow(**about) == clip
        assert {name for name in sample if name[0] != "_"} == {"json", *(f"{tap}.npy" for tap in store.arrays)}
        for tap in store.arrays:
            np.testing.assert_array_equal(sample[f"{tap}.npy"], store.read(tap, clip.row))


def test_the_same_values_give_the_same_bytes(filled: Example, tmp_path: Path) -> None:
    for form in ("safetensors", "npy", "webdataset"):
        for place in ("a", "b"):
            export(FeatureStore.open(filled.path), tmp_path / form / place, form)
        assert digests(tmp_path / form / "a") == digests(tmp_path / form / "b")
    with tarfile.open(tmp_path / "webdataset" / "a" / "000000.tar") as tar:
        for entry in tar:
            assert (entry.mtime, entry.uid, entry.gid, entry.uname, entry.mode) == (0, 0, 0, "", 0o644)


def test_webdataset_would_drop_case(example: Example, tmp_path: Path) -> None:
    spec = SPECS[0]
    example.create([ArraySpec(tap, spec.shape, spec.dtype, spec.dims, spec.attrs) for tap in ("Mid", "mid")])
    example.values[0] = {"Mid": example.values[0]["early"], "mid": example.values[0]["early"]}
    example.write([0])
    store = FeatureStore.open(example.path)
    with pytest.raises(StoreError, match="differ only in case"):
        export(store, tmp_path / "out", "webdataset")
    with pytest.raises(StoreError, match="would have this file"):
        export(store, tmp_path / "out", "npy")
    assert export(store, tmp_path / "out", "webdataset", Selection(arrays=["mid"])).files == 1


@pytest.mark.parametrize("form", ["safetensors", "npy", "webdataset"])
def test_int8_becomes_values(form: str, filled: Example, tmp_path: Path) -> None:
    requantise(FeatureStore.open(filled.path), tmp_path / "int8", "int8-channel")
    store = FeatureStore.open(tmp_path / "int8")
    done = export(store, tmp_path / "out", form, Selection(arrays=["early", "late@t5"]))
    assert done.dtypes == {"early": "float16", "late@t5": "float32"}, "1e6 does not fit float16"
    if form == "safetensors":
        found: Any = load_file(tmp_path / "out" / "clip0.safetensors")
        found = {name: tensor.numpy() for name, tensor in found.items()}
    elif form == "npy":
        found = {name: np.load(tmp_path / "out" / name / "clip0.npy") for name in done.dtypes}
    else:
        with tarfile.open(tmp_path / "out" / "000000.tar") as tar:
            files = {name: tar.extractfile(f"clip0.{name}.npy") for name in done.dtypes}
            found = {name: np.load(io.BytesIO(file.read())) for name, file in files.items() if file}
    assert sorted(found) == ["early", "late@t5"]
    np.testing.assert_array_equal(found["late@t5"], store.read("late@t5", 0))
    np.testing.assert_array_equal(found["early"], store.read("early", 0).astype(np.float16))


@pytest.mark.parametrize("form", ["safetensors", "npy", "webdataset"])
def test_an_interrupted_export_goes_on(form: str, filled: Example, tmp_path: Path) -> None:
    store = FeatureStore.open(filled.path)
    export(store, tmp_path / "whole", form, clips_per_shard=1)
    read, count = FeatureStore.read, 0

    def failing(self: FeatureStore, *args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == 8:
            raise StoreError("injected")
        return read(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureStore, "read", failing)
        with pytest.raises(StoreError, match="injected"):
            export(store, tmp_path / "out", form, clips_per_shard=1, threads=1)
    held = digests(tmp_path / "out")
    assert 1 < len(held) < len(digests(tmp_path / "whole"))
    assert held.items() <= digests(tmp_path / "whole").items()
    done = export(store, tmp_path / "out", form, clips_per_shard=1)
    assert done.files_there == len(held) - 1
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_another_export_is_not_mixed_in(filled: Example, tmp_path: Path) -> None:
    store = FeatureStore.open(filled.path)
    out = tmp_path / "out"
    export(store, out, "npy", Selection(arrays=["early"]))
    before = digests(out)
    for form, selection, differ in [
        ("npy", Selection(arrays=["wide"]), "arrays"),
        ("npy", Selection(arrays=["early"], limit=1), "clips"),
        ("safetensors", Selection(arrays=["early"]), "format"),
    ]:
        with pytest.raises(FormatError, match=rf"another export \({differ} differ"):
            export(store, out, form, selection)
    assert digests(out) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data.csv").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for place, message in [
        (tmp_path / "mine", "is not empty"),
        (tmp_path / "file", "a file is in the way"),
        (filled.path / "out", "lies inside of the store"),
        (filled.path, "lies inside of the store"),
    ]:
        with pytest.raises(FormatError, match=message):
            export(store, place, "npy")


def test_a_store_elsewhere_is_exported_and_converted(
    filled: Example, s3: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATURE_CACHE", str(tmp_path / "cache"))
    transfer(FeatureStore.open(filled.path), destination(f"{s3.url}/toys"))
    export(FeatureStore.open(f"{s3.url}/toys"), tmp_path / "there", "npy")
    export(FeatureStore.open(filled.path), tmp_path / "here", "npy")
    there, here = digests(tmp_path / "there"), digests(tmp_path / "here")
    assert {name: there[name] for name in there if name != "export.json"} == {
        name: here[name] for name in here if name != "export.json"
    }
    requantise(FeatureStore.open(f"{s3.url}/toys"), tmp_path / "int8", "int8-channel", Selection(arrays=["wide"]))
    int8 = FeatureStore.open(tmp_path / "int8")
    np.testing.assert_allclose(int8.read("wide", 0), FeatureStore.open(filled.path).read("wide", 0), atol=0.05)


def test_clips_that_are_not_whole_are_left_out(example: Example, tmp_path: Path) -> None:
    example.create()
    example.values[1] = {"early": example.values[1]["early"]}
    example.write([0, 1])
    store = FeatureStore.open(example.path)
    done = export(store, tmp_path / "out", "safetensors")
    assert (done.clips, done.left_out) == (1, 1)
    assert export(store, tmp_path / "early", "npy", Selection(arrays=["early"])).clips == 2
    with pytest.raises(MissingClipError, match="clip1"):
        export(store, tmp_path / "more", "safetensors", Selection(clips=["clip1"]))


def test_a_damaged_shard_fails_its_file_alone(filled: Example, tmp_path: Path) -> None:
    path = filled.path / "features.zarr" / "wide" / "c.1.0.0.0.0"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)
    done = export(FeatureStore.open(filled.path), tmp_path / "out", "safetensors")
    assert [file for file, _ in done.failed] == ["clip1.safetensors"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "clip0.safetensors",
        "clip2.safetensors",
        "export.json",
    ]


def test_an_unknown_format_is_answered_with_the_nearest(filled: Example, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Did you mean safetensors"):
        export(FeatureStore.open(filled.path), tmp_path / "out", "safetensor")
    assert not (tmp_path / "out").exists()


def test_the_command(filled: Example, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "store", "export", "toy", str(tmp_path / "out"), "--format", "npy"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=True)
    assert "15 files" in done.stdout
    assert "late@t5: bfloat16 written as float32" in done.stdout
    shutil.rmtree(tmp_path / "out" / "slot")
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert (json.loads(again.stdout)["files"], json.loads(again.stdout)["files_there"]) == (3, 12)
    failed = subprocess.run([*command[:5], "s3://b/x", *command[6:]], capture_output=True, text=True, cwd=PROJECT)
    assert failed.returncode == 1
    assert "folder of this machine" in failed.stderr
