"""`python -m extract` as a user meets it: what works as written, and what bad input is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from store import FeatureStore, resolve
from tests.extract.tiny_rooms import write_rooms

PROJECT = Path(__file__).parents[2]


def extract(*arguments: str, root: Path | None = None) -> subprocess.CompletedProcess[str]:
    import os

    environment = os.environ | ({"ROOMS_ROOT": str(root)} if root else {}) | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "extract", *arguments],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=environment,
        check=False,
    )


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    write_rooms(tmp_path / "rooms", splits=("train", "val", "test"), size=(32, 32), frames=2)
    return tmp_path / "rooms"


def test_extract_then_extract_again(rooms: Path) -> None:
    first = extract("--model", "pixels", "--dataset", "rooms", "--json", root=rooms)
    assert first.returncode == 0, first.stderr
    summary = json.loads(first.stdout)
    assert (summary["done"], summary["skipped"], summary["failed"]) == (3, 0, {})
    assert FeatureStore.open(resolve("store/pixels")).fingerprint == summary["fingerprint"]
    assert FeatureStore.open(resolve("targets")).rows() == [0, 1, 2]
    second = extract("--model", "pixels", "--dataset", "rooms", root=rooms)
    assert "0 clips extracted, 3 were already there, 0 failed" in second.stdout


def test_a_damaged_room_is_refused_before_anything_is_written(rooms: Path, store_root: Path) -> None:
    image = next((rooms / "tiny_01" / "rgb").iterdir())
    image.write_bytes(image.read_bytes()[:100])
    done = extract("--model", "pixels", "--dataset", "rooms", root=rooms)
    assert done.returncode == 1
    assert str(rooms / "tiny_01") in done.stderr
    assert "--skip-damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(store_root.iterdir())


def test_a_damaged_room_can_be_left_out_and_is_listed_as_failed(rooms: Path) -> None:
    (rooms / "tiny_01" / "room.json").unlink()
    image = next((rooms / "tiny_00" / "rgb").iterdir())
    image.write_bytes(b"")
    done = extract("--model", "pixels", "--dataset", "rooms", "--skip-damaged", "--json", root=rooms)
    assert done.returncode == 1
    summary = json.loads(done.stdout)
    assert summary["done"] == 1
    assert sorted(summary["failed"]) == ["tiny_00", "tiny_01"]
    assert [clip.id for clip in FeatureStore.open(resolve("store/pixels")).clips] == ["tiny_02"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "pixel", "--dataset", "rooms"], "unknown model 'pixel'. Did you mean pixels?"),
        (["--model", "pixels", "--dataset", "room"], "unknown data set 'room'. Did you mean rooms?"),
        (
            ["--model", "pixels", "--dataset", "rooms", "--sites", "patch"],
            "unknown site of pixels 'patch'. Did you mean patches?",
        ),
        (["--model", "pixels", "--dataset", "rooms", "--noise", "sigma=1"], "is no diffusion model and takes no noise"),
        (["--model", "svd", "--dataset", "rooms", "--noise", "simga=1"], "simga=1"),
        (["--model", "pixels", "--dataset", "rooms", "--split", "tset"], "no clip to extract"),
        (
            ["--model", "pixels", "--dataset", "rooms", "--grid", "16by16"],
            "expected two positive numbers such as 16x16",
        ),
        (["--model", "pixels", "--dataset", "rooms", "--dtype", "float23"], "Did you mean float32"),
        (["--model", "pixels", "--dataset", "rooms", "--device", "cuda:77"], "--device cuda:77: not usable here"),
        (["--model", "pixels", "--dataset", "rooms", "--limit", "0"], "--limit"),
        (["--model", "pixels", "--dataset", "rooms", "--modle", "x"], "--model"),
        (["--model", "pixels"], "give both"),
        (["--model", "pixels", "--dataset", "rooms", "--root", "/nowhere"], "/nowhere"),
        (["--model", "svd", "--dataset", "rooms", "--checkpoint", "/nowhere"], "/nowhere"),
        (["sites", "svd-tx"], "Did you mean svd-xt"),
    ],
)
def test_bad_input_gets_one_clear_error(rooms: Path, arguments: list[str], message: str) -> None:
    done = extract(*arguments, root=rooms)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_scannet_without_files_says_what_to_get_and_where_to_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCANNET_ROOT", raising=False)
    done = extract("--model", "svd", "--dataset", "scannet")
    assert done.returncode == 1
    for part in (".sens", "_2d-instance-filt.zip", "scannetv2-labels.combined.tsv", "--root", "SCANNET_ROOT"):
        assert part in done.stderr


def test_sites_models_and_datasets_are_listed(rooms: Path) -> None:
    sites = json.loads(extract("sites", "svd", "--json").stdout)
    assert {"site": "up_blocks.3.attentions.2", "channels": 320, "grid": "72x128"}.items() <= {
        site["site"]: site for site in sites
    }["up_blocks.3.attentions.2"].items()
    models = {row["model"]: row for row in json.loads(extract("models", "--json").stdout)}
    assert models["svd"]["kind"] == "vgm"
    datasets = {row["data set"]: row for row in json.loads(extract("datasets", "--json", root=rooms).stdout)}
    assert datasets["rooms"]["found"].startswith("3 clips")
