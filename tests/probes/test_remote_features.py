"""Training from an address: no full download, the same probes to the bit, and nothing fetched twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from probes.errors import TargetsError
from probes.train import app
from store import FeatureStore, StoreNotFoundError, finalize
from store.sharing import trouble
from tests.store.servers import Bucket, Served, s3_endpoint, s3_server, web_server  # noqa: F401

TAP = "blocks.1@t500"
ARGUMENTS = ["--taps", TAP, "--views", "3", "--device", "cpu", "--pixels", "96", "--epochs", "2", "--task", "depth"]
CACHE = "FEATURE_CACHE"


def train(features: str, out: Path) -> Path:
    app(["--features", features, *ARGUMENTS, "--out", str(out)], standalone_mode=False)
    return out


def weights(run: Path) -> dict[str, bytes]:
    found = {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*.safetensors")}
    assert found
    return found


@pytest.fixture
def finalized(world_root: Path, tmp_path: Path) -> Path:
    """A copy of the world that can be served."""
    root = tmp_path / "lab"
    shutil.copytree(world_root, root)
    for name in ("toy", "targets"):
        finalize(FeatureStore.open(root / name / "world"))
    return root


@pytest.fixture
def at_home(finalized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Weights of the probes that a run on the files themselves gives. Afterwards the machine has no store."""
    monkeypatch.setattr(trouble, "FIRST_DELAY", 0.001)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATURE_STORE", str(finalized))
        found = weights(train("store/toy", tmp_path / "at-home"))
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return found


def test_from_a_web_server(web: Served, finalized: Path, at_home: dict[str, bytes], tmp_path: Path) -> None:
    shutil.copytree(finalized, web.path / "lab")
    assert weights(train(f"{web.url}/lab/toy/world", tmp_path / "first")) == at_home
    asked = web.behaviour.count("features.zarr/blocks.1")
    assert asked == len(FeatureStore.open(finalized / "toy" / "world").rows())
    assert web.behaviour.count("features.zarr/blocks.0/c.") == 0
    assert weights(train(f"{web.url}/lab/toy/world", tmp_path / "second")) == at_home
    assert web.behaviour.count("features.zarr/blocks.1") == asked


def test_without_a_cache_frames_are_fetched_alone(
    web: Served, finalized: Path, at_home: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATURE_CACHE_SIZE", "0")
    shutil.copytree(finalized, web.path / "lab")
    assert weights(train(f"{web.url}/lab/toy/world", tmp_path / "first")) == at_home
    assert not (tmp_path / "cache").exists()


def test_from_s3(s3: Bucket, finalized: Path, at_home: dict[str, bytes], tmp_path: Path) -> None:
    import s3fs

    s3fs.S3FileSystem().put(str(finalized), f"{s3.url}/lab", recursive=True)
    assert weights(train(f"{s3.url}/lab/toy", tmp_path / "run")) == at_home


def test_features_without_targets_and_addresses_without_stores_are_named(
    web: Served, finalized: Path, at_home: dict[str, bytes], tmp_path: Path
) -> None:
    shutil.copytree(finalized / "toy", web.path / "lab" / "toy")
    with pytest.raises(TargetsError, match=r"no targets for toy/world at http.*/lab/targets/world"):
        train(f"{web.url}/lab/toy/world", tmp_path / "run")
    with pytest.raises(StoreNotFoundError, match=r"no feature store there"):
        train(f"{web.url}/lab/nothing", tmp_path / "run")


def test_stores_behind_addresses_are_fused(
    web: Served, finalized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finalized, web.path / "lab")
    asked = ["--fusion", "lnconcat", "--taps", f"blocks.0+{TAP}", *ARGUMENTS[2:]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATURE_STORE", str(finalized))
        app(["--features", "store/toy+store/toy", *asked, "--out", "at-home"], standalone_mode=False)
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    store = f"{web.url}/lab/toy/world"
    app(["--features", f"{store}+{store}", *asked, "--out", "away"], standalone_mode=False)
    assert weights(Path("away")) == weights(Path("at-home"))
    assert web.behaviour.count("features.zarr/blocks.0/c.") == len(FeatureStore.open(store).rows())
