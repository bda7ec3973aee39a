"""Losses against float64 restatements of METHOD's formulas."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from mafsar.training.losses import contrastive_loss, episode_loss, text_loss
from mafsar.training.schedule import cosine_schedule
from mafsar.training.starter.augment import augment


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a = a / np.linalg.norm(a, axis=1, keepdims=True)
    b = b / np.linalg.norm(b, axis=1, keepdims=True)
    cosines: np.ndarray = a @ b.T
    return cosines


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    probabilities: np.ndarray = e / e.sum(axis=1, keepdims=True)
    return probabilities


def test_text_loss_is_the_divergence_from_smoothed_targets() -> None:
    rng = np.random.default_rng(0)
    pooled, texts = rng.normal(size=(5, 7)), rng.normal(size=(4, 7))
    labels, scale, smooth = np.array([0, 3, 1, 2, 3]), 9.0, 0.1
    p = _softmax(scale * _cosines(pooled, texts))
    y = np.full((5, 4), smooth / 4) + (1 - smooth) * np.eye(4)[labels]
    wanted = (y * (np.log(y) - np.log(p))).sum(axis=1).mean()
    found = text_loss(
        torch.tensor(pooled), torch.tensor(texts), torch.tensor(labels), scale, smooth
    )
    assert float(found) == pytest.approx(wanted, rel=1e-10)


def test_episode_loss_weighs_words_and_clips() -> None:
    logits, labels = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    probabilities = _softmax(logits.numpy())
    visual = -np.log(probabilities[np.arange(4), labels.numpy()]).mean()
    words = (torch.tensor(0.7), torch.tensor(0.3))
    assert float(episode_loss(logits, labels, 0.4, None)) == pytest.approx(visual)
    wanted = 0.4 * 0.5 * (0.7 + 0.3) + 0.6 * visual
    assert float(episode_loss(logits, labels, 0.4, words)) == pytest.approx(wanted, rel=1e-6)


def test_contrastive_loss_matches_equal_captions() -> None:
    rng = np.random.default_rng(1)
    images, texts = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    texts[2] = texts[0]
    same = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], bool)
    logits = 4.0 * _cosines(images, texts)
    target = same / same.sum(axis=1, keepdims=True)
    wanted = -0.5 * (
        (target * np.log(_softmax(logits))).sum() + (target * np.log(_softmax(logits.T))).sum()
    )
    found = contrastive_loss(
        torch.tensor(images), torch.tensor(texts), torch.tensor(4.0), torch.tensor(same)
    )
    assert float(found) == pytest.approx(wanted / 3, rel=1e-6)


def test_schedule_warms_up_and_ends_at_zero() -> None:
    factors = [cosine_schedule(step, 100, 10) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == pytest.approx(1.0)
    assert factors[55] == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert factors[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))


def test_augmented_points_stay_on_what_they_mark() -> None:
    """A white dot on black is found where the moved point says."""
    frames = torch.zeros(6, 2, 64, 64, 3, dtype=torch.uint8)
    frames[:, :, 39:42, 24:27] = 255
    points = torch.tensor([(24 + 1.5) / 64, (39 + 1.5) / 64]).expand(6, 2, 1, 2)
    generator = torch.Generator().manual_seed(0)
    pixels, moved = augment(frames, points, generator, colour=0.0)
    assert moved is not None
    grid = (torch.arange(64) + 0.5) / 64
    mass = pixels.sum(dim=2)  # (B, T, S, S)
    total = mass.sum(dim=(2, 3))
    x = (mass.sum(dim=2) * grid).sum(dim=-1) / total
    y = (mass.sum(dim=3) * grid).sum(dim=-1) / total
    torch.testing.assert_close(torch.stack([x, y], dim=-1), moved[:, :, 0], atol=0.01, rtol=0)
    assert (moved - points).abs().max() > 0.03  # something was moved
    torch.testing.assert_close(moved[:, 0], moved[:, 1])  # alike in all frames of a clip
