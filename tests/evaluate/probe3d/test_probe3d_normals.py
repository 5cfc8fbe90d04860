"""Normals by Probe3D's rules, against torch's cosine similarity."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from evaluate.errors import InputError
from evaluate.protocols import get_protocol


def _scene(seed: int, images: int = 3, error: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(images, 6, 5, 3))
    target /= np.linalg.norm(target, axis=-1, keepdims=True)
    prediction = target + error * rng.normal(size=target.shape)
    target[rng.random(target.shape[:-1]) < 0.2] = 0
    return prediction, target


def _reduce(*scenes: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    protocol = get_protocol("normals", family="probe3d-2404.08636")
    rows = [protocol.score_scene({"normals": p}, {"normals": g}) for p, g in scenes]
    return protocol.reduce({name: np.stack([row[name] for row in rows]) for name in rows[0]})


def _in_torch(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    valid = torch.from_numpy(target).any(-1)
    cosine = torch.cosine_similarity(torch.from_numpy(prediction), torch.from_numpy(target), dim=-1)[valid]
    angle = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
    found = {f"within{limit:g}": (angle < limit).double().mean().item() for limit in (11.25, 22.5, 30)}
    return found | {"rmse_angle": angle.square().mean().sqrt().item()}


def test_metrics_are_means_over_the_images_of_all_scenes():
    scenes = [_scene(0, 2), _scene(1, 5), _scene(2, 1)]
    images = [_in_torch(p, g) for scene in scenes for p, g in zip(*scene, strict=True)]
    got = _reduce(*scenes)
    assert list(got) == list(images[0])
    for name, value in got.items():
        assert value == pytest.approx(np.mean([image[name] for image in images])), name
    assert 0.1 < got["within11.25"] < got["within22.5"] < got["within30"] < 0.95


@given(st.integers(0, 99), st.floats(0.01, 100))
@settings(deadline=None, max_examples=30)
def test_lengths_of_predictions_and_the_axes_of_the_world_do_not_matter(seed, length):
    prediction, target = _scene(seed)
    turn = Rotation.random(random_state=seed).as_matrix()
    assert _reduce((length * prediction @ turn.T, target @ turn.T)) == pytest.approx(_reduce((prediction, target)))


def test_a_prediction_without_a_direction_is_off_by_a_right_angle():
    target = np.zeros((1, 2, 2, 3))
    target[..., 2] = 1
    assert _reduce((0 * target, target))["rmse_angle"] == 90
    assert _in_torch(0 * target[0], target[0])["rmse_angle"] == pytest.approx(90)
    assert _reduce((-target, target))["rmse_angle"] == 180


def test_images_without_a_normal_are_left_out_and_invalid_pixels_never_count():
    prediction, target = _scene(4)
    blind = target.copy()
    blind[1] = 0
    spoiled = np.where(blind.any(-1, keepdims=True), prediction, np.nan)
    assert _reduce((spoiled, blind)) == pytest.approx(_reduce((prediction[[0, 2]], target[[0, 2]])))
    assert all(math.isnan(value) for value in _reduce((prediction, 0 * target)).values())
    with pytest.raises(InputError, match="NaN"):
        _reduce((prediction * np.nan, target))
