"""What --cluster, --rank and --world take, and what is said if they cannot be met."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from extract.distribute.clusters import check_cluster, connect, slurm_settings
from extract.errors import ExtractError
from extract.plan import Request, make_plan
from extract.registry import make_dataset
from extract.resolve import share
from tests.extract.tiny_rooms import write_rooms
from tests.extract.toy_family import ToyFamily


@pytest.mark.parametrize("text", ["local:1", "local:16", "local-cuda", "local-cuda:2", "slurm:8", "tcp://node-1:8786"])
def test_clusters_that_may_be_named(text: str) -> None:
    check_cluster(text)


@pytest.mark.parametrize(
    "text",
    ["", "local", "local:0", "local:-1", "local:2.5", "slurm", "k8s:3", "tcp://node-1", "node-1:8786", "local:99999"],
)
def test_what_is_no_cluster(text: str) -> None:
    with pytest.raises(ExtractError, match="expected local:N, local-cuda"):
        check_cluster(text)


def test_an_address_where_nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.distribute.clusters.CONNECT", "1s")
    with pytest.raises(ExtractError, match=r"no scheduler answers there\. Start one with `dask scheduler`"):
        connect("tcp://127.0.0.1:9").__enter__()


def test_no_gpu_is_said() -> None:
    with pytest.raises(ExtractError, match="--cluster local-cuda:64: this machine has 0 GPUs"):
        connect("local-cuda:64").__enter__()


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "distributed":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ExtractError, match=r"pip install \"spatial-probing\[cluster\]\""):
        connect("local:2").__enter__()


def test_jobs_of_slurm_are_as_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dask_jobqueue import SLURMCluster

    file = tmp_path / "pipelines.yaml"
    file.write_text(
        "demo: {}\nclusters:\n  slurm: {queue: gpu, cores: 8, memory: 64GB, walltime: '12:00:00', "
        "job_extra_directives: ['--gres=gpu:1']}\n"
    )
    elsewhere = {"dashboard_address": ":0"}  # another scheduler of this machine may have the usual port
    with SLURMCluster(**slurm_settings(file), scheduler_options=elsewhere) as cluster:
        script = cluster.job_script()
    assert "#SBATCH -p gpu\n" in script
    assert "#SBATCH --gres=gpu:1\n" in script
    assert "#SBATCH -t 12:00:00\n" in script
    assert script.rstrip().endswith("--nthreads 1 --memory-limit 0")


@pytest.mark.parametrize("text", ["demo: {}\n", "clusters: []\n", "clusters: {slurm: 8}\n", "- 1\n", "a: [\n"])
def test_a_file_that_does_not_say_how_jobs_are_sent(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pipelines.yaml"
    file.write_text(text)
    with pytest.raises(ExtractError, match=r"clusters: \{slurm: \{queue: gpu"):
        slurm_settings(file)
    with pytest.raises(ExtractError, match="cannot be read"):
        slurm_settings(tmp_path / "none.yaml")


def test_settings_that_slurm_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipelines.yaml").write_text("clusters: {slurm: {cores: 1, memory: 1GB, quueue: gpu}}\n")
    with pytest.raises(ExtractError, match=r"pipelines\.yaml: clusters\.slurm: .*'quueue'\. Did you mean queue"):
        connect("slurm:2").__enter__()
    (tmp_path / "pipelines.yaml").write_text("clusters: {slurm: {cores: 1, queue: gpu}}\n")
    with pytest.raises(ExtractError, match=r"clusters\.slurm: lacks memory"):
        connect("slurm:2").__enter__()


@pytest.mark.parametrize(
    ("rank", "world", "environment", "expected"),
    [
        (None, None, {}, (0, 1)),
        (2, 4, {}, (2, 4)),
        (2, 4, {"RANK": "0", "WORLD_SIZE": "8"}, (2, 4)),
        (None, None, {"RANK": "3", "WORLD_SIZE": "8"}, (3, 8)),
        (None, None, {"RANK": "3"}, (0, 1)),
    ],
)
def test_who_we_are(
    rank: int | None, world: int | None, environment: dict[str, str], expected: tuple[int, int]
) -> None:
    assert share(rank, world, environment) == expected


def test_a_share_that_the_environment_asks_for_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        share(2, 4, {})
        share(None, None, {"RANK": "0", "WORLD_SIZE": "1"})
        assert not caplog.records
        share(None, None, {"RANK": "3", "WORLD_SIZE": "8"})
    assert "rank 3 of 8, as RANK and WORLD_SIZE say" in caplog.text


@pytest.mark.parametrize(("rank", "world"), [(4, 4), (1, None), (None, 2)])
def test_who_nobody_is(rank: int | None, world: int | None) -> None:
    with pytest.raises(ExtractError, match="SLURM_ARRAY_TASK_ID"):
        share(rank, world, {})


def test_all_ranks_together_are_all_clips(tmp_path: Path) -> None:
    write_rooms(tmp_path / "rooms", splits=["train"] * 5 + ["val"] * 2, size=(32, 32), frames=1)
    dataset = make_dataset("rooms", tmp_path / "rooms")

    def rows(**request: Any) -> list[int]:
        return make_plan(ToyFamily("toy"), dataset, Request(**request)).rows

    shares = [rows(share=(rank, 3)) for rank in range(3)]
    assert sorted(row for each in shares for row in each) == list(range(7))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert rows(share=(1, 3), split="train", limit=4) == [1]
