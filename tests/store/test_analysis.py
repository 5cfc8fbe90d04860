"""Statistics, ranks and components of whole stores: what was planted, and what NumPy says of all tokens at once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from dask.local import get_sync
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from store import ArrayValueError, FeatureStore, MissingClipError, StoreError, UnknownArrayError, analysis, fuse
from store.analysis import covariance, tokens
from store.analysis.passes import over_clips
from store.analysis.rank import participation_ratio, rankme, singular_values
from store.analysis.summary import TapStatistics
from store.analysis.table import write_dataset
from tests.store.branches import FRAMES, table, tap, write_branch
from tests.store.many_clips import TAPS, write_many_clips
from tests.store.planted import all_tokens, noise, write_planted


@pytest.fixture
def many(store_root: Path) -> FeatureStore:
    """Eleven clips of 5, 2 and 4 frames; taps of every storage type."""
    return write_many_clips(store_root / "many" / "clips", lengths=(5, 2, 4))


def published_rankme(z: NDArray[np.float64]) -> float:
    """Word for word, of the singular values of the tokens themselves."""
    singular = np.linalg.svd(z, compute_uv=False)
    p = singular / np.abs(singular).sum() + 1e-7
    return float(np.exp(-np.sum(p * np.log(p))))


def assert_is_numpys(found: TapStatistics, z: NDArray[np.float64]) -> None:
    moments, norms = found.moments, np.linalg.norm(z, axis=1)
    assert (moments.count, found.channels) == z.shape
    close = {"rtol": 1e-9, "atol": 1e-9 * np.abs(z).max()}
    np.testing.assert_allclose(moments.mean, z.mean(0), **close)
    np.testing.assert_allclose(moments.std, z.std(0), **close)
    np.testing.assert_array_equal(moments.minimum, z.min(0))
    np.testing.assert_array_equal(moments.maximum, z.max(0))
    np.testing.assert_array_equal(moments.zeros, (z == 0).sum(0))
    np.testing.assert_allclose(moments.kurtosis, scipy.stats.kurtosis(z, axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        [found.norms.mean[0], found.norms.std[0], found.norms.minimum[0], found.norms.maximum[0]],
        [norms.mean(), norms.std(), norms.min(), norms.max()],
        rtol=1e-9,
    )
    values = np.linalg.eigvalsh(np.cov(z.T))
    assert found.participation == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-9)
    assert found.rankme == pytest.approx(published_rankme(z), rel=1e-6)
    assert found.rankme_centred == pytest.approx(published_rankme(z - z.mean(0)), rel=1e-6)


@pytest.mark.parametrize("name", TAPS)
def test_every_storage_type_equals_numpy(many: FeatureStore, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "SLAB", 8 * 6 * 7)  # 7 tokens at a time
    (found,) = analysis.statistics(many, taps=[name])
    assert found.clips == 11
    z = all_tokens(many, name)
    assert len(z) == sum((5, 2, 4)[row % 3] for row in range(11)) * 12, "frames beyond a short bank are not there"
    assert_is_numpys(found, z)


def test_panels_change_nothing(many: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    z = all_tokens(many, "single")
    expected = (z - z.mean(0)).T @ (z - z.mean(0))
    for width in (1, 4, 5, 6):
        monkeypatch.setattr(covariance, "PANEL", 8 * 6 * width)
        assert covariance.panels(6)[0] == (0, width)
        found = covariance.scatter(many, "single", many.rows(), z.mean(0))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * expected.max())


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_planted_rank_is_found(rank: int) -> None:
    rng = np.random.default_rng(rank)
    axes = np.linalg.qr(rng.normal(size=(16, rank)))[0].T
    values = [rng.normal(size=(FRAMES, 8, 8, rank)) @ axes for _ in range(20)]
    features = write_planted("low", {"blocks.0": values}, clips=table(20))
    (found,) = analysis.statistics(features)
    assert found.rankme == pytest.approx(rank, rel=0.02)
    assert found.participation == pytest.approx(rank, rel=0.02)
    assert found.rankme_centred == pytest.approx(rank, rel=0.02)


def test_a_mean_is_one_direction_of_rankme_only() -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(FRAMES, 8, 8, 8)) + 1000 for _ in range(5)]
    (found,) = analysis.statistics(write_planted("offset", {"blocks.0": values}))
    assert found.rankme is not None
    assert found.rankme_centred is not None
    assert found.rankme < 1.1
    assert found.rankme_centred == pytest.approx(8, rel=0.01)
    assert found.participation == pytest.approx(8, rel=0.02)


def test_singular_values_of_a_gram_matrix() -> None:
    rng = np.random.default_rng(0)
    for shape in ((40, 6), (4, 6)):
        z = rng.normal(size=shape)
        np.testing.assert_allclose(singular_values(z.T @ z, len(z)), np.linalg.svd(z, compute_uv=False), rtol=1e-9)
    assert rankme(np.zeros(3)) == participation_ratio(np.zeros((3, 3))) == 0
    assert rankme(np.ones(5)) == pytest.approx(5, rel=1e-5)


def test_constant_and_dead_channels() -> None:
    values = noise(0)
    for clip in values:
        clip[..., 1], clip[..., 4] = 0.1, 0
    (found,) = analysis.statistics(write_planted("dead", {"blocks.0": values}))
    assert found.moments.constant.tolist() == [False, True, False, False, True, False]
    assert np.isnan(found.moments.kurtosis).tolist() == [False, True, False, False, True, False]
    tokens_ = found.moments.count
    assert found.moments.zeros.tolist() == [0, 0, 0, 0, tokens_, 0]
    assert found.rankme is not None
    assert 1 < found.rankme < 6


def test_of_nothing_but_zeros() -> None:
    (found,) = analysis.statistics(write_planted("zero", {"blocks.0": [0 * clip for clip in noise(0)]}), k=2)
    assert (found.rankme, found.rankme_centred, found.participation) == (0, 0, 0)
    assert found.components is not None
    np.testing.assert_array_equal(found.components.variance, 0)
    np.testing.assert_array_equal(found.components.share, 0)


def test_a_clip_that_is_missing_in_one_tap_is_left_out_of_all() -> None:
    features = write_planted("some", {"blocks.0": noise(0), "blocks.1": noise(1)}, rows=[0, 2, 4])
    found = analysis.statistics(features)
    assert [each.tap for each in found] == ["blocks.0", "blocks.1"]
    for each in found:
        assert each.clips == 3
        assert_is_numpys(each, all_tokens(features, each.tap, [0, 2, 4]))
    assert analysis.statistics(features, split="test")[0].clips == 1
    assert analysis.statistics(features, limit=2)[0].moments.count == 2 * FRAMES * 12


def test_of_a_fusion() -> None:
    branches = [write_branch("a", [tap("blocks.0")]), write_branch("b", [tap("blocks.1", (2, 2), 3)])]
    fused = fuse(branches, "concat")
    (found,) = analysis.statistics(fused)
    assert_is_numpys(found, all_tokens(fused, "blocks.0+blocks.1"))


def test_tokens_are_drawn_by_the_id_of_their_clip(many: FeatureStore) -> None:
    assert tokens.drawn("clip", 9, 9) is None
    assert tokens.drawn("clip", 9, None) is None
    places = tokens.drawn("clip", 1000, 10)
    assert places is not None
    assert len(set(places.tolist())) == 10
    np.testing.assert_array_equal(places, np.sort(places))
    np.testing.assert_array_equal(places, tokens.drawn("clip", 1000, 10))
    assert places.tolist() != list(tokens.drawn("clop", 1000, 10))  # type: ignore[arg-type]
    (found,) = analysis.statistics(many, taps=["half"], max_tokens=7)
    assert found.moments.count == 77
    kept = []
    for row in many.rows():
        values = many.read("half", row).reshape(-1, 6)
        kept.append(values[tokens.drawn(many.clips[row].id, len(values), 7)])
    assert_is_numpys(found, np.concatenate(kept).astype(np.float64))


def test_components_are_those_of_sklearn(many: FeatureStore) -> None:
    z = all_tokens(many, "brain")
    found = analysis.pca(many, "brain", 3)
    theirs = PCA(3).fit(z)
    np.testing.assert_allclose(found.mean, theirs.mean_, rtol=1e-9)
    np.testing.assert_allclose(found.variance, theirs.explained_variance_ * (len(z) - 1) / len(z), rtol=1e-9)
    np.testing.assert_allclose(found.share, theirs.explained_variance_ratio_, rtol=1e-9)
    for ours, vector in zip(found.vectors, theirs.components_, strict=True):
        np.testing.assert_allclose(ours, vector * np.sign(vector[np.abs(vector).argmax()]), atol=1e-9)
        assert ours[np.abs(ours).argmax()] > 0
    again = analysis.pca(many.path, "brain", 3, rows=many.rows())
    np.testing.assert_array_equal(again.vectors, found.vectors)
    (beside,) = analysis.statistics(many, taps=["brain"], k=3, ranks=False)
    assert beside.components is not None
    np.testing.assert_array_equal(beside.components.vectors, found.vectors)
    assert beside.rankme is None


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_no_scheduler_changes_a_digit(many: FeatureStore, scheduler: str) -> None:
    (expected,) = analysis.statistics(many, taps=["byte"])
    with dask.config.set(scheduler=scheduler, num_workers=2):
        (found,) = analysis.statistics(many, taps=["byte"])
    np.testing.assert_array_equal(found.moments.m4, expected.moments.m4)
    assert found.rankme == expected.rankme


def test_the_scheduler_at_hand_is_used(many: FeatureStore) -> None:
    asked = []

    def get(graph: Any, keys: Any, **options: Any) -> Any:
        asked.append(keys)
        return get_sync(graph, keys)

    with dask.config.set(scheduler=get):
        analysis.statistics(many, taps=["half"])
    assert len(asked) == 2, "a pass for the moments, and one for the covariance"


def test_progress_hears_all_bytes(many: FeatureStore) -> None:
    class Heard:
        total = 0
        done = 0

        def start(self, total: int) -> None:
            self.total += total

        def advance(self, size: int) -> None:
            self.done += size

    heard = Heard()
    analysis.statistics(many, taps=["half"], progress=heard)
    assert heard.total == 2 * int(many.sizes("half").sum())
    assert 0.99 * heard.total < heard.done <= heard.total


def test_pieces_are_merged_in_order() -> None:
    found = over_clips([], list(range(50)), lambda sources, items: list(items), lambda a, b: a + b, clips=3)
    assert found == list(range(50))


def test_memory_does_not_grow_with_clips(store_root: Path) -> None:
    one = 4 * FRAMES * 32 * 32 * 16

    def peak(clips: int) -> int:
        rng = np.random.default_rng(0)
        values = [rng.normal(size=(FRAMES, 32, 32, 16)).astype(np.float32)] * clips
        features = write_planted(f"flat{clips}", {"blocks.0": values}, clips=table(clips))
        del values
        # One worker: with more, the peak also depends on whether theirs coincide.
        with dask.config.set(scheduler="threads", num_workers=1):
            analysis.statistics(features, limit=1)
            tracemalloc.start()
            analysis.statistics(features)
            analysis.cka(features, method="features")
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return found

    few, many = peak(16), peak(96)
    assert many < few + 2 * one, (few, many)
    assert many < 24 * one, "a fourth of the store"


def test_as_a_dataset_and_in_a_file(many: FeatureStore, tmp_path: Path) -> None:
    wide = write_planted("wide", {"narrow": noise(0, channels=3), "wide": noise(1, channels=7)})
    found = analysis.statistics(wide, k=2)
    dataset = analysis.as_dataset(found, {"store": "wide"})
    assert dict(dataset.sizes) == {"tap": 2, "channel": 7, "component": 2}
    narrow = dataset.sel(tap="narrow")
    assert int(narrow.channels) == 3
    assert np.isnan(narrow["mean"].values).tolist() == [False] * 3 + [True] * 4
    np.testing.assert_allclose(narrow["std"].values[:3], all_tokens(wide, "narrow").std(0))
    np.testing.assert_allclose(dataset.components.sel(tap="wide").values, analysis.pca(wide, "wide", 2).vectors)
    opened: dict[str, Callable[[Path], xr.Dataset]] = {"s.nc": xr.open_dataset, "s.zarr": xr.open_zarr}
    for name in ("s.nc", "s.nc", "s.zarr"):  # a file is replaced
        write_dataset(dataset, tmp_path / name)
        with opened[name](tmp_path / name) as read:
            assert read.tap.values.tolist() == ["narrow", "wide"]
            assert read.attrs == {"store": "wide"}
            for variable, values in dataset.data_vars.items():
                np.testing.assert_array_equal(read[variable].values, values.values)
    with pytest.raises(StoreError, match="no folder is overwritten"):
        write_dataset(dataset, tmp_path / "s.zarr")
    with pytest.raises(StoreError, match=r"ends in \.nc or \.zarr"):
        write_dataset(dataset, tmp_path / "s.csv")
    with pytest.raises(StoreError, match="no folder"):
        write_dataset(dataset, tmp_path / "nowhere" / "s.nc")
    assert sorted(path.name for path in tmp_path.glob("[.s]*") if path.name != "stores") == ["s.nc", "s.zarr"]


def test_what_is_wrong_is_said(many: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownArrayError, match=r"unknown tap 'hal'\. Did you mean half"):
        analysis.statistics(many, taps=["hal"])
    with pytest.raises(MissingClipError, match="of split 'test'"):
        analysis.statistics(many, split="test")
    with pytest.raises(StoreError, match="7 principal components: 480 tokens of 6 channels have 6"):
        analysis.statistics(many, taps=["half"], k=7)
    with pytest.raises(StoreError, match="has no 0 principal"):
        analysis.pca(many, "half", 0)
    monkeypatch.setattr(covariance, "MOST_CHANNELS", 5)
    with pytest.raises(StoreError, match=r"half has 6 channels.*--no-ranks"):
        analysis.statistics(many)
    assert len(analysis.statistics(many, ranks=False)) == len(TAPS)


def test_one_token_has_no_spread() -> None:
    features = write_planted("one", {"blocks.0": noise(0)})
    with pytest.raises(StoreError, match="has 1 token"):
        analysis.statistics(features, limit=1, max_tokens=1)
    assert analysis.statistics(features, limit=2, max_tokens=1)[0].moments.count == 2


def test_values_that_are_not_finite_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    features = write_planted("bad", {"blocks.0": noise(0)})
    original = FeatureStore.read

    def read(self: FeatureStore, *arguments: object, **options: object) -> NDArray[np.float64]:
        values = original(self, *arguments, **options).copy()  # type: ignore[arg-type]
        values.reshape(-1)[5] = np.inf
        return values

    monkeypatch.setattr(FeatureStore, "read", read)
    for work in (analysis.statistics, analysis.cka):
        with pytest.raises(ArrayValueError, match=r"blocks\.0 of clip clip\d has values that are not finite"):
            work(features)
