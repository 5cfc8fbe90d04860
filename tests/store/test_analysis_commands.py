"""`python -m store stats` and `cka`: tables, JSON, files, and one error for what is wrong."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from store import FeatureStore, analysis
from tests.store.branches import tap, write_branch
from tests.store.planted import all_tokens, noise, write_planted
from tests.store.test_commands import Run, run  # noqa: F401


@pytest.fixture
def two(store_root: Path) -> tuple[FeatureStore, FeatureStore]:
    """Two stores of the same five clips."""
    a = write_branch("a", [tap("blocks.0", (3, 4), 5), tap("blocks.1@t502", (3, 4), 3)])
    return a, write_branch("b", [tap("blocks.7", (2, 4), 6)])


def test_stats_shows_every_tap(two: tuple[FeatureStore, FeatureStore], run: Run) -> None:  # noqa: F811
    done = run("stats", "store/a")
    assert done.status == 0, done.err
    z = all_tokens(two[0], "blocks.0")
    lines = [line.split() for line in done.out.splitlines() if line.startswith("blocks.0")]
    assert lines[0][1:3] == ["216", "5"]
    assert float(lines[0][3]) == pytest.approx(z.mean(), rel=1e-3)
    assert float(lines[0][4]) == pytest.approx(z.std(), rel=1e-3)
    (found, _) = analysis.statistics(two[0])
    assert lines[1][-3:] == [f"{value:.4g}" for value in (found.rankme, found.rankme_centred, found.participation)]
    assert max(map(len, done.out.splitlines())) <= 100


def test_stats_for_programs(two: tuple[FeatureStore, FeatureStore], run: Run) -> None:  # noqa: F811
    done = run("stats", "store/a", "--json", "--split", "train", "--taps", "blocks.0", "--limit", "2")
    (facts,) = done.json["taps"]
    assert (done.json["store"], done.json["split"]) == ("a/toys", "train")
    z = all_tokens(two[0], "blocks.0", [0, 1])
    assert (facts["clips"], facts["tokens"], facts["channels"]) == (2, 72, 5)
    assert facts["std"] == pytest.approx(z.std(), rel=1e-9)
    assert facts["norm"]["maximum"] == pytest.approx(np.linalg.norm(z, axis=1).max(), rel=1e-9)
    assert facts["constant_channels"] == 0
    assert run("stats", "store/a", "--json", "--no-ranks").json["taps"][0]["rankme"] is None
    assert run("stats", "store/a", "--json", "--max-tokens", "4").json["taps"][0]["tokens"] == 20
    fused = run("stats", "store/a+store/b", "--fusion", "concat", "--json", "--taps", "blocks.0+blocks.7")
    assert fused.json["taps"][0]["channels"] == 11


def test_stats_of_constant_channels(run: Run) -> None:  # noqa: F811
    write_planted("zero", {"blocks.0": [0 * clip for clip in noise(0)]})
    (facts,) = run("stats", "store/zero", "--json").json["taps"]
    assert (facts["zeros"], facts["constant_channels"], facts["kurtosis_median"]) == (1, 6, None)
    assert run("stats", "store/zero").status == 0


def test_stats_writes_every_channel(two: tuple[FeatureStore, FeatureStore], run: Run, tmp_path: Path) -> None:  # noqa: F811
    done = run("stats", "store/a", "--pca", "2", "--out", "found.nc")
    assert done.status == 0, done.err
    assert "every channel: found.nc" in done.out
    with xr.open_dataset(tmp_path / "found.nc") as found:
        expected = analysis.pca(two[0], "blocks.0", 2)
        np.testing.assert_allclose(found.components.sel(tap="blocks.0").values[:, :5], expected.vectors, rtol=1e-12)
        assert found.attrs["fingerprint"] == two[0].fingerprint


def test_cka_of_one_store(two: tuple[FeatureStore, FeatureStore], run: Run) -> None:  # noqa: F811
    done = run("cka", "store/a")
    assert done.status == 0, done.err
    expected = analysis.cka(two[0]).values
    assert done.row("1 blocks.0") == ["1", "blocks.0", "1.000", f"{expected[0, 1]:.3f}"]
    assert done.row("2 blocks.1@t502") == ["2", "blocks.1@t502", f"{expected[1, 0]:.3f}", "1.000"]
    assert run("cka", "store/a", "--json").json["cka"] == expected.tolist()


def test_cka_of_two_stores(two: tuple[FeatureStore, FeatureStore], run: Run, tmp_path: Path) -> None:  # noqa: F811
    expected = analysis.cka(*two).values
    done = run("cka", "store/a", "store/b", "--figure", "found.svg")
    assert done.status == 0, done.err
    assert done.row("blocks.0")[-1] == f"{expected[0, 0]:.3f}"
    assert done.row("1") == ["1", "blocks.7"]
    first = (tmp_path / "found.svg").read_bytes()
    assert b"<!-- blocks.1@t502 -->" in first
    run("cka", "store/a", "store/b", "--figure", "found.svg")
    assert (tmp_path / "found.svg").read_bytes() == first, "the same picture is the same file"
    assert run("cka", "store/a", "store/b", "--figure", "found.png").status == 0
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    table = list(csv.reader(io.StringIO(run("cka", "store/a", "store/b", "--csv").out)))
    assert table[0] == ["", "blocks.7"]
    assert [float(row[1]) for row in table[1:]] == expected[:, 0].tolist()
    said = run("cka", "store/a", "store/b", "--json", "--pool", "frame", "--estimator", "biased").json
    assert said["b"] == {"store": "b/toys", "taps": ["blocks.7"]}
    assert (said["grid"], said["estimator"], said["tokens"], said["held"]) == (None, "biased", 18, [5, 5])


def test_cka_of_many_taps_goes_on_below(run: Run) -> None:  # noqa: F811
    write_planted("deep", {f"blocks.{k}": noise(k, channels=2) for k in range(15)})
    done = run("cka", "store/deep")
    assert max(map(len, done.out.splitlines())) <= 100
    assert sum(line.startswith("1 blocks.0") for line in done.out.splitlines()) == 2
    assert sum(line.startswith("tap") for line in done.out.splitlines()) == 2


def test_cka_leaves_open_what_is_undefined(run: Run) -> None:  # noqa: F811
    write_planted("flat", {"x": noise(0), "y": [0 * clip for clip in noise(1)]})
    assert run("cka", "store/flat", "--json").json["cka"][0][1] is None
    assert run("cka", "store/flat").row("2 y") == ["2", "y", "-", "-"]
    assert run("cka", "store/flat", "--csv").out.splitlines()[2] == "y,,"
    assert run("cka", "store/flat", "--figure", "flat.png").status == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("stats store/a --taps block.0", "unknown tap 'block.0'. Did you mean blocks.0"),
        ("stats store/a --split val", "no committed clip of split 'val'"),
        ("stats store/a --max-tokens 1 --limit 1", "has 1 token, and its spread needs 2"),
        ("stats store/a --out found.csv", "unknown kind of file '.csv'"),
        ("stats store/a --out found.nc --pca 9", "has no 9 principal components"),
        ("stats store/c", "no feature store at"),
        ("stats store/a+store/b", "names 2 stores"),
        ("cka store/a --taps blocks.9", "unknown tap 'blocks.9'"),
        ("cka store/a store/b --split val", "no committed clip of split 'val'"),
        ("cka store/a --figure found.pdf", "unknown kind of picture '.pdf'"),
        ("cka store/a --estimator none", "unknown estimator 'none'"),
    ],
)
def test_one_error_and_an_exit_status(
    two: tuple[FeatureStore, FeatureStore],
    run: Run,  # noqa: F811
    arguments: str,
    message: str,
) -> None:
    done = run(*arguments.split())
    assert done.status == 1
    assert done.out == ""
    assert message in done.err
    assert done.err.count("error:") == 1


@pytest.mark.parametrize(
    "arguments", ["stats store/a --pca 2", "cka store/a --taps-b blocks.7", "cka store/a --limit 0"]
)
def test_wrong_usage(two: tuple[FeatureStore, FeatureStore], run: Run, arguments: str) -> None:  # noqa: F811
    assert run(*arguments.split()).status == 2
