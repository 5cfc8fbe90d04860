"""CKA between taps: what it must be, and what NumPy says with kernels of all tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from store import FeatureStore, FusionError, MissingClipError, StoreError, UnknownArrayError, analysis, fuse
from store.analysis import batches, products, similarity
from store.analysis.batches import hsic_of_batches, unbiased_kernel
from store.analysis.matching import matched, on_grid
from store.analysis.similarity import Similarity
from store.analysis.tokens import drawn
from tests.store.branches import table, tap, write_branch
from tests.store.many_clips import TAPS, write_many_clips
from tests.store.planted import all_tokens, noise, write_planted

Array = NDArray[np.float64]
CROP = [[0.5, 0.0, 0.25], [0.0, 0.5, 0.25]]


def hsic_biased(k: Array, m: Array) -> float:
    """tr(K H L H), Gretton et al. 2005 but for a factor."""
    h = np.eye(len(k)) - 1 / len(k)
    return float(np.trace(k @ h @ m @ h))


def hsic_debiased(k: Array, m: Array) -> float:
    """HSIC_1 of Song et al. 2012, word for word."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    inner = (
        np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
    )
    return float(inner / (n * (n - 3)))


HSIC = {"biased": hsic_biased, "debiased": hsic_debiased}


def by_hand(x: Array, y: Array, estimator: str) -> float:
    hsic = HSIC[estimator]
    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / float(np.sqrt(hsic(k, k) * hsic(m, m)))


def pooled(features: FeatureStore, name: str, grid: tuple[int, int], rows: Sequence[int]) -> Array:
    """Tokens of all clips, pooled by torch."""
    parts = []
    for row in rows:
        values = torch.from_numpy(features.read(name, row).astype(np.float64)).permute(0, 3, 1, 2)
        parts.append(F.adaptive_avg_pool2d(values, grid).permute(0, 2, 3, 1).reshape(-1, values.shape[1]).numpy())
    return np.concatenate(parts)


def value(found: Similarity) -> float:
    assert found.values.shape == (1, 1)
    return float(found.values[0, 0])


@pytest.mark.parametrize("estimator", HSIC)
@pytest.mark.parametrize("small", [False, True])
def test_one_store_equals_numpy(store_root: Path, estimator: str, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage types of all kinds and short banks; with `small`, panels of one column and a pass for each."""
    if small:
        monkeypatch.setattr("store.analysis.covariance.PANEL", 1)
        monkeypatch.setattr(products, "_PASS", 1)
        monkeypatch.setattr("store.analysis.matching.SLAB", 1)
    features = write_many_clips(store_root / "many" / "clips", lengths=(5, 2, 4))
    found = analysis.cka(features, estimator=estimator)
    z = {name: all_tokens(features, name) for name in TAPS}
    assert (found.a, found.b, found.method, found.grid) == (tuple(TAPS), tuple(TAPS), "features", (3, 4))
    assert (found.clips, found.tokens) == (11, 480)
    for i, a in enumerate(TAPS):
        for j, b in enumerate(TAPS):
            assert found.values[i, j] == pytest.approx(by_hand(z[a], z[b], estimator), abs=1e-9)
    np.testing.assert_array_equal(found.values, found.values.T)
    np.testing.assert_allclose(np.diag(found.values), 1, rtol=1e-12)


@pytest.mark.parametrize("estimator", HSIC)
def test_two_stores_of_other_grids_equal_numpy(estimator: str) -> None:
    """Grids of 5x4 and 3x7 meet at 3x4. One store lacks two clips, the other one."""
    a = write_branch("a", [tap("blocks.0", (5, 4), 5), tap("blocks.1", (5, 4), 3)], rows=[0, 1, 2, 4])
    b = write_branch("b", [tap("blocks.7", (3, 7), 6)], rows=[1, 3, 4])
    found = analysis.cka(a, b, estimator=estimator)
    assert (found.a, found.b, found.grid) == (("blocks.0", "blocks.1"), ("blocks.7",), (3, 4))
    assert (found.clips, found.held, found.tokens) == (2, (4, 3), 6 * 12)
    y = pooled(b, "blocks.7", (3, 4), [1, 4])
    for i, name in enumerate(found.a):
        x = pooled(a, name, (3, 4), [1, 4])
        assert found.values[i, 0] == pytest.approx(by_hand(x, y, estimator), abs=1e-9)
    assert found.values.shape == (2, 1)
    one = analysis.cka(a, b, taps=["blocks.1"], taps_b=["blocks.7"], estimator=estimator)
    np.testing.assert_allclose(one.values, found.values[1:], rtol=1e-12)


def test_clips_are_matched_by_id_not_by_row() -> None:
    clips = table(5)
    turned = [clips[4 - row].model_copy(update={"row": row}) for row in range(5)]
    values = noise(0)
    a = write_planted("a", {"blocks.0": values}, clips=clips)
    b = write_planted("b", {"blocks.0": values[::-1]}, clips=turned)
    assert value(analysis.cka(a, b)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("estimator", HSIC)
def test_rotation_scale_and_shift_change_nothing(estimator: str) -> None:
    values = noise(0)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    stretch = np.diag([1.0, 1, 1, 1, 1, 30])
    other = {
        "turned": [each @ turn for each in values],
        "scaled": [each * 1e-3 for each in values],
        "shifted": [each + 50 for each in values],
        "stretched": [each @ stretch for each in values],
    }
    a = write_planted("a", {"blocks.0": values})
    b = write_planted("b", other)
    found = dict(zip(other, analysis.cka(a, b, estimator=estimator).values[0].tolist(), strict=True))
    assert found.pop("stretched") < 0.9
    assert found == pytest.approx(dict.fromkeys(found, 1), abs=1e-5)


def test_independent_noise_is_0_if_debiased() -> None:
    """120 tokens of 200 channels: the bias alone makes it look alike."""
    clips = table(5)
    taps = {
        f"n{seed}": [np.random.default_rng([seed, row]).normal(size=(4, 2, 3, 200)) for row in range(5)]
        for seed in (0, 1)
    }
    features = write_planted("noise", taps, clips=clips)
    assert analysis.cka(features, estimator="biased").values[0, 1] > 0.5
    assert abs(analysis.cka(features).values[0, 1]) < 0.1


def test_means_of_frames() -> None:
    a = write_branch("a", [tap("blocks.0", (5, 4), 5)])
    b = write_branch("b", [tap("blocks.1", (3, 7), 6, grid_to_image=CROP)])
    found = analysis.cka(a, b, pool="frame")
    x, y = (
        np.concatenate([each.read(name, row).astype(np.float64).mean((1, 2)) for row in range(5)])
        for each, name in ((a, "blocks.0"), (b, "blocks.1"))
    )
    assert (found.grid, found.tokens) == (None, 18)
    assert value(found) == pytest.approx(by_hand(x, y, "debiased"), abs=1e-9)


@pytest.mark.parametrize("grid", [(5, 4), (3, 4), (5, 2), (2, 3), (1, 1)])
def test_pooling_is_that_of_a_fusion(grid: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(size=(2, 5, 4, 3))
    expected = F.adaptive_avg_pool2d(torch.from_numpy(values).permute(0, 3, 1, 2), grid).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(on_grid(values, grid), expected, rtol=1e-12)


def test_tokens_of_all_taps_are_drawn_in_the_same_places() -> None:
    features = write_branch("a", [tap("blocks.0", (5, 4)), tap("blocks.1", (3, 7), 6)])
    found = analysis.cka(features, max_tokens=7)
    assert found.tokens == 35
    parts: dict[str, list[Array]] = {"blocks.0": [], "blocks.1": []}
    for row, clip in enumerate(features.clips):
        for name, kept in parts.items():
            whole = pooled(features, name, (3, 4), [row])
            kept.append(whole[drawn(clip.id, len(whole), 7)])
    x, y = (np.concatenate(each) for each in parts.values())
    assert found.values[0, 1] == pytest.approx(by_hand(x, y, "debiased"), abs=1e-9)


def test_batches_equal_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "CLIPS", 2)
    features = write_planted("a", {"x": noise(0), "y": noise(1, channels=9), "z": noise(2, channels=4)})
    found = analysis.cka(features, method="minibatch", max_tokens=5)
    assert (found.method, found.tokens) == ("minibatch", 25)
    total = np.zeros((3, 3))
    for rows in ([0, 3], [1, 4], [2]):
        z = []
        for name in found.a:
            kept = []
            for row in rows:
                values = features.read(name, row).reshape(-1, features.info(name).shape[-1])
                kept.append(values[drawn(features.clips[row].id, len(values), 5)])
            z.append(np.concatenate(kept).astype(np.float64))
        total += [[hsic_debiased(x @ x.T, y @ y.T) for y in z] for x in z]
    expected = total / np.sqrt(np.outer(np.diag(total), np.diag(total)))
    np.testing.assert_allclose(found.values, expected, atol=1e-9)


def test_one_batch_of_all_tokens_is_the_whole(store_root: Path) -> None:
    features = write_many_clips(store_root / "many" / "clips", lengths=(5, 2, 4))
    plan = matched([features], [list(TAPS)], frames_only=False, most=None)
    rows = [(row,) for row in features.rows()]
    found, tokens = hsic_of_batches([features], rows, plan)
    pairs = [(i, j) for i in range(4) for j in range(i, 4)]
    expected, count = products.hsic_of_products([features], rows, plan, pairs, True)
    assert tokens == count == 480
    for i, j in pairs:
        assert found[i, j] == pytest.approx(expected[i, j], rel=1e-9)


def test_a_centred_kernel_has_rows_that_add_up_to_0() -> None:
    kernel = unbiased_kernel(np.random.default_rng(0).normal(3, 1, size=(9, 4)))
    np.testing.assert_allclose(kernel.sum(0), 0, atol=1e-9)
    np.testing.assert_array_equal(np.diag(kernel), 0)


def test_auto_goes_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    features = write_planted("a", {"x": noise(0), "y": noise(1)})
    monkeypatch.setattr(similarity, "LARGE", 8 * 36 * 3)
    assert analysis.cka(features).method == "features"
    monkeypatch.setattr(similarity, "LARGE", 8 * 36 * 3 - 1)
    assert analysis.cka(features).method == "minibatch"
    assert analysis.cka(features, estimator="biased").method == "features"
    assert analysis.cka(features, method="features").method == "features"


@pytest.mark.parametrize("method", ["features", "minibatch"])
def test_a_constant_tap_cannot_be_compared(method: str) -> None:
    features = write_planted("a", {"x": noise(0), "flat": [0 * each + 0.1 for each in noise(1)]})
    found = analysis.cka(features, method=method)
    assert np.isnan(found.values).tolist() == [[False, True], [True, True]]


def test_stores_that_do_not_fit_are_refused() -> None:
    a = write_branch("a", [tap("blocks.0")])
    with pytest.raises(FusionError, match="different parts of the image"):
        analysis.cka(a, write_branch("crop", [tap("blocks.0", grid_to_image=CROP)]))
    with pytest.raises(StoreError, match=r"clip clip0 differs between a/toys \(.*bank \[0, 2.*bank \[0, 3"):
        analysis.cka(a, write_branch("bank", [tap("blocks.0")], clips=table(step=3)))
    moved = [clip.model_copy(update={"split": "val"}) for clip in table()]
    with pytest.raises(StoreError, match=r"clip clip4 differs.*split test.*split val"):
        analysis.cka(a, write_branch("moved", [tap("blocks.0")], clips=moved), split="test")
    renamed = [clip.model_copy(update={"id": f"other{clip.row}"}) for clip in table()]
    with pytest.raises(MissingClipError, match="have no clip in common"):
        analysis.cka(a, write_branch("renamed", [tap("blocks.0")], clips=renamed))
    with pytest.raises(MissingClipError, match="in common of split 'test'"):
        analysis.cka(a, write_branch("part", [tap("blocks.0")], rows=[0, 1]), split="test")
    with pytest.raises(UnknownArrayError, match=r"a/toys: unknown tap 'blocks.1'\. Did you mean blocks.0"):
        analysis.cka(a, a, taps_b=["blocks.1"])
    with pytest.raises(MissingClipError, match="split 'val'"):
        analysis.cka(a, split="val")


def test_options_that_do_not_go_together_are_refused() -> None:
    a = write_branch("a", [tap("blocks.0")])
    cases: list[tuple[dict[str, Any], str]] = [
        ({"pool": "cell"}, "unknown pool 'cell'"),
        ({"estimator": "unbiased"}, "unknown estimator 'unbiased'. Did you mean biased"),
        ({"method": "feature"}, "Did you mean features"),
        ({"method": "minibatch", "estimator": "biased"}, "batches are not averaged with it"),
        ({"method": "minibatch", "max_tokens": 65}, "at most 64 tokens of a clip, got 65"),
        ({"max_tokens": 3, "limit": 1}, "1 clips have 3 tokens, and the debiased estimator needs 4"),
        ({"max_tokens": 1, "limit": 1, "estimator": "biased"}, "biased estimator needs 2"),
        ({"max_tokens": 1, "limit": 3, "method": "minibatch"}, "a batch of 3 clips has 3 tokens"),
    ]
    for options, message in cases:
        with pytest.raises(StoreError, match=message):
            analysis.cka(a, **options)


def test_of_fusions() -> None:
    branches = [write_branch(name, [tap("blocks.0")]) for name in ("a", "b")]
    found = analysis.cka(fuse(branches, "concat"), branches[0])
    x = all_tokens(branches[0], "blocks.0")
    both = np.concatenate([x, all_tokens(branches[1], "blocks.0")], 1)
    assert value(found) == pytest.approx(by_hand(both, x, "debiased"), abs=1e-9)
