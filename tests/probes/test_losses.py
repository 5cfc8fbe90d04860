"""Every loss against a slow, literal NumPy version, and its gradient where it is delicate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probes.losses import (
    camera_loss,
    depth_loss,
    grouping_loss,
    pair_weights,
    points_loss,
    segmentation_loss,
    tagging_loss,
)

RNG = np.random.default_rng(0)


def tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))


def test_tagging_is_the_mean_negative_log_likelihood() -> None:
    logits, labels = RNG.normal(size=(3, 4)), RNG.random((3, 4)) < 0.5
    terms = []
    for z, y in zip(logits.ravel(), labels.ravel(), strict=True):
        p = 1 / (1 + np.exp(-z))
        terms.append(-np.log(p) if y else -np.log(1 - p))
    assert tagging_loss(tensor(logits), torch.from_numpy(labels)).item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_segmentation_ignores_id_zero() -> None:
    logits, classes = RNG.normal(size=(2, 3, 5, 4)), RNG.integers(0, 5, (2, 3, 5))
    terms = []
    for z, c in zip(logits.reshape(-1, 4), classes.ravel(), strict=True):
        if c:
            terms.append(np.log(np.exp(z).sum()) - z[c - 1])
    loss = segmentation_loss(tensor(logits), torch.from_numpy(classes.astype(np.uint8)))
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_depth_counts_valid_pixels_only() -> None:
    log_depth, target, valid = RNG.normal(size=(2, 7)), RNG.normal(size=(2, 7)), RNG.random((2, 7)) < 0.6
    terms = [abs(p - g) for p, g, v in zip(log_depth.ravel(), target.ravel(), valid.ravel(), strict=True) if v]
    loss = depth_loss(tensor(log_depth), tensor(target), torch.from_numpy(valid))
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-5)


def literal_pull_push(embeddings: np.ndarray, ids: np.ndarray) -> float:
    """IGGT's loss, pair by pair."""
    clips = []
    for clip, clip_ids in zip(embeddings, ids, strict=True):
        unit = clip / np.linalg.norm(clip, axis=1, keepdims=True)
        pull, push = [], []
        for i in range(len(unit)):
            for j in range(i + 1, len(unit)):
                if clip_ids[i] == 0 or clip_ids[j] == 0:
                    continue
                distance = np.linalg.norm(unit[i] - unit[j])
                if clip_ids[i] == clip_ids[j]:
                    pull.append(distance)
                else:
                    push.append(max(0.0, 1.0 - distance))
        clips.append((np.mean(pull) if pull else 0.0) + (np.mean(push) if push else 0.0))
    return float(np.mean(clips))


@pytest.mark.parametrize("ids", ["mixed", "one instance", "nothing"])
def test_grouping_is_pull_and_push_over_pairs(ids: str) -> None:
    embeddings = RNG.normal(size=(2, 9, 3))
    labels = {
        "mixed": RNG.integers(0, 4, (2, 9)),
        "one instance": np.ones((2, 9), int),
        "nothing": np.zeros((2, 9), int),
    }[ids]
    loss = grouping_loss(tensor(embeddings), *pair_weights(torch.from_numpy(labels)))
    assert loss.item() == pytest.approx(literal_pull_push(embeddings, labels), rel=1e-4, abs=1e-6)


def test_grouping_of_equal_embeddings_has_a_finite_gradient() -> None:
    embeddings = torch.ones(1, 4, 3, requires_grad=True)
    grouping_loss(embeddings, *pair_weights(torch.tensor([[1, 1, 2, 2]]))).backward()
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()


def test_points_is_the_mean_distance() -> None:
    points, target, valid = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 3)), np.array([True, False, True, True, False])
    terms = [np.sqrt(((p - g) ** 2).sum()) for p, g, v in zip(points, target, valid, strict=True) if v]
    assert points_loss(tensor(points), tensor(target), torch.from_numpy(valid)).item() == pytest.approx(
        np.mean(terms), rel=1e-5
    )


def literal_huber(x: float) -> float:
    return 0.5 * x * x if abs(x) <= 1 else abs(x) - 0.5


def test_camera_is_huber_and_knows_that_minus_q_is_q() -> None:
    outputs, translation, quaternion = 2 * RNG.normal(size=(6, 7)), RNG.normal(size=(6, 3)), RNG.normal(size=(6, 4))
    known = torch.ones(6, dtype=torch.bool)
    moved = np.mean([literal_huber(x) for x in (outputs[:, :3] - translation).ravel()])
    turned = []
    for out, q in zip(outputs[:, 3:], quaternion, strict=True):
        turned.append(min(np.mean([literal_huber(x) for x in out - s * q]) for s in (1, -1)))
    loss = camera_loss(tensor(outputs), tensor(translation), tensor(quaternion), known)
    assert loss.item() == pytest.approx(moved + np.mean(turned), rel=1e-5)
    flipped = camera_loss(tensor(outputs), tensor(translation), tensor(-quaternion), known)
    assert flipped.item() == pytest.approx(loss.item(), rel=1e-6)
    outputs[3:], known[3:] = np.nan, False
    half = camera_loss(tensor(outputs), tensor(translation), tensor(quaternion), known)
    alone = camera_loss(*(tensor(each[:3]) for each in (outputs, translation, quaternion)), known[:3])
    assert half.item() == pytest.approx(alone.item(), rel=1e-6)


def test_without_anything_valid_losses_and_gradients_are_zero() -> None:
    nowhere = torch.zeros(2, 3, dtype=torch.bool)
    outputs = torch.randn(2, 3, requires_grad=True)
    points = torch.randn(2, 3, 3, requires_grad=True)
    logits = torch.randn(2, 3, 4, requires_grad=True)
    total = (
        depth_loss(outputs, torch.zeros(2, 3), nowhere)
        + points_loss(points, torch.zeros(2, 3, 3), nowhere)
        + segmentation_loss(logits, torch.zeros(2, 3, dtype=torch.uint8))
    )
    total.backward()
    assert total.item() == 0
    for leaf in (outputs, points, logits):
        assert leaf.grad is not None
        assert not leaf.grad.any()
