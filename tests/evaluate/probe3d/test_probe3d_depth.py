"""Depth by Probe3D's rules, against the same in torch with the normal equations solved for each image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.errors import InputError
from evaluate.protocols import get_protocol


def _scene(seed: int, images: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.uniform(0.5, 12, (images, 5, 4)).astype(np.float32)
    prediction = (target * rng.uniform(0.6, 1.7, target.shape)).astype(np.float32)
    target[rng.random(target.shape) < 0.2] = 0
    return prediction, target


def _reduce(*scenes: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    protocol = get_protocol("depth", family="probe3d-2404.08636")
    rows = [protocol.score_scene({"depth": p}, {"depth": g}) for p, g in scenes]
    return protocol.reduce({name: np.stack([row[name] for row in rows]) for name in rows[0]})


def _in_torch(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    truth = torch.from_numpy(target).double()
    truth[truth > 10] = 0
    p, g = torch.from_numpy(prediction).double()[truth > 0], truth[truth > 0]
    fit = torch.linalg.lstsq(torch.stack([p, torch.ones_like(p)], 1), g[:, None]).solution[:, 0]
    result = {}
    for suffix, said in (("", p), ("_affine", fit[0] * p + fit[1])):
        worse = torch.maximum(g / said.clamp(min=1e-9), said / g)
        result |= {f"delta{k}{suffix}": (worse < 1.25**k).double().mean().item() for k in (1, 2, 3)}
        result[f"rmse{suffix}"] = torch.nn.functional.mse_loss(said, g).sqrt().item()
    return result


def test_metrics_are_means_over_the_images_of_all_scenes():
    scenes = [_scene(0, 2), _scene(1, 5), _scene(2, 1)]
    images = [_in_torch(p, g) for scene in scenes for p, g in zip(*scene, strict=True)]
    got = _reduce(*scenes)
    assert list(got) == list(images[0])
    for name, value in got.items():
        assert value == pytest.approx(np.mean([image[name] for image in images]), rel=1e-6), name
    by_scene = np.mean([np.mean([_in_torch(p, g)["delta1"] for p, g in zip(*s, strict=True)]) for s in scenes])
    assert got["delta1"] != pytest.approx(by_scene)


@given(st.floats(0.05, 20), st.floats(-3, 3), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_scale_and_shift_of_an_image_are_forgiven_where_the_name_says_so(scale, shift, seed):
    prediction, target = _scene(seed)
    moved = prediction.astype(np.float64)
    moved[1] = scale * moved[1] + shift
    plain, got = _reduce((prediction, target)), _reduce((moved, target))
    for name in ("delta1_affine", "delta3_affine", "rmse_affine"):
        assert got[name] == pytest.approx(plain[name], rel=1e-5)


def test_what_is_farther_than_ten_metres_and_what_is_unknown_never_counts():
    prediction, target = _scene(3)
    assert (target > 10).any()
    off = (target == 0) | (target > 10)
    assert _reduce((np.where(off, -7, prediction), target)) == _reduce((prediction, target))
    assert _reduce((np.where(off, np.nan, prediction), target)) == _reduce((prediction, target))
    ten = np.full((1, 2, 2), 10, np.float32)
    assert _reduce((ten, ten))["delta1"] == 1


def test_a_negative_prediction_is_wrong_and_no_error():
    target = np.full((1, 4, 4), 2, np.float32)
    got = _reduce((-target, target))
    assert (got["delta1"], got["delta3"], got["rmse"]) == (0, 0, 4)
    assert got["delta1_affine"] == 1


def test_images_without_a_valid_pixel_are_left_out():
    prediction, target = _scene(4)
    blind = target.copy()
    blind[1] = 0
    assert _reduce((prediction, blind)) == pytest.approx(_reduce((prediction[[0, 2]], target[[0, 2]])))
    assert all(math.isnan(value) for value in _reduce((prediction, 0 * target)).values())


def test_depth_that_is_no_number_is_refused():
    prediction, target = _scene(5)
    with pytest.raises(InputError, match="NaN"):
        _reduce((prediction * np.nan, target))
