"""The loss of an episode against METHOD's formulas in float64, written out in loops."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest
import torch

from mafsar.choices import Scoring
from mafsar.data.loader import EpisodeBatch
from mafsar.training.config import TrainConfig
from mafsar.training.episode import drops_text, run_episode

WAY, SHOT, QUERY, FRAMES, WIDTH = 3, 2, 2, 4, 5


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def log_softmax(values: np.ndarray) -> np.ndarray:
    return values - values.max() - math.log(np.exp(values - values.max()).sum())


def text_term(
    pooled: np.ndarray, texts: np.ndarray, labels: list[int], scale: float, smooth: float
):
    total = 0.0
    for row, label in zip(pooled, labels, strict=True):
        p = log_softmax(np.array([scale * cosine(row, text) for text in texts]))
        y = np.full(WAY, smooth / WAY)
        y[label] += 1 - smooth
        total += sum(y[c] * (math.log(y[c]) - p[c]) for c in range(WAY) if y[c] > 0)
    return total / len(labels)


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_the_loss_is_the_method_s(
    guided: bool, alpha: float, restated_matching: ModuleType
) -> None:
    rng = np.random.default_rng(0)
    clips = WAY * (SHOT + QUERY)
    features = rng.normal(size=(clips, FRAMES, WIDTH))
    pooled = rng.normal(size=(clips, WIDTH))
    texts = rng.normal(size=(WAY, WIDTH))
    calls: list[tuple[list[int], np.ndarray | None]] = []

    def encode(frames, text):
        # A clip's number is its only pixel: features are looked up.
        numbers = frames.reshape(len(frames), -1)[:, 0].tolist()
        calls.append((numbers, None if text is None else text.double().numpy()))
        return torch.tensor(features[numbers]).float(), torch.tensor(pooled[numbers]).float()

    numbers = torch.arange(clips, dtype=torch.uint8).reshape(WAY, SHOT + QUERY, 1, 1, 1, 1)
    batch = EpisodeBatch(0, numbers[:, :SHOT], numbers[:, SHOT:], torch.arange(WAY))
    match = Scoring(alpha=alpha, visual_scale=1.7, text_scale=3.0)
    result = run_episode(
        encode, batch, torch.tensor(texts).float(), match, guided=guided, smooth=0.1
    )

    support = np.arange(clips).reshape(WAY, -1)[:, :SHOT]
    query = np.arange(clips).reshape(WAY, -1)[:, SHOT:].ravel()
    of_query, of_support = (
        np.repeat(range(WAY), QUERY).tolist(),
        np.repeat(range(WAY), SHOT).tolist(),
    )
    prototypes = features[support].mean(axis=1)
    visual = 0.0
    for number, label in zip(query, of_query, strict=True):
        logits = []
        for prototype in prototypes:
            cost = restated_matching.distance("otam", features[number], prototype, 0.5)
            logits.append(-1.7 * cost)
        visual -= log_softmax(np.array(logits))[label] / len(query)
    worded = 0.5 * (
        text_term(pooled[support.ravel()], texts, of_support, 3.0, 0.1)
        + text_term(pooled[query], texts, of_query, 3.0, 0.1)
    )
    assert float(result.visual) == pytest.approx(visual, rel=1e-5)
    assert float(result.text) == pytest.approx(worded, rel=1e-5)
    assert float(result.loss) == pytest.approx(alpha * worded + (1 - alpha) * visual, rel=1e-5)
    if guided:
        np.testing.assert_allclose(calls[0][1], texts[of_support], rtol=1e-6)
        assert calls[0][0] == support.ravel().tolist()
    assert calls[-1][1] is None  # a query never sees a text


def test_without_text_the_loss_is_the_visual_term_alone() -> None:
    def encode(frames, text):
        assert text is None
        generator = torch.Generator().manual_seed(1)
        features = torch.randn(len(frames), FRAMES, WIDTH, generator=generator)
        return features, features.mean(dim=1)

    clips = torch.zeros(WAY, 1, 1, 1, 1, 1, dtype=torch.uint8)
    batch = EpisodeBatch(0, clips, clips, torch.arange(WAY))
    result = run_episode(encode, batch, None, Scoring(alpha=0.9), guided=True, smooth=0.1)
    assert result.text is None
    assert torch.equal(result.loss, result.visual)


def test_text_dropout_depends_on_seed_and_episode_alone() -> None:
    config = TrainConfig(text_dropout=0.2)
    drawn = [drops_text(config, i) for i in range(4000)]
    assert 0.2 * 4000 - 4 * 25.3 < sum(drawn) < 0.2 * 4000 + 4 * 25.3  # 4 σ of a binomial
    assert [drops_text(config, i) for i in reversed(range(4000))] == drawn[::-1]
    assert [drops_text(TrainConfig(seed=1), i) for i in range(4000)] != drawn
    assert not any(drops_text(TrainConfig(text_dropout=0.0), i) for i in range(100))
    assert all(drops_text(TrainConfig(text_dropout=1.0), i) for i in range(100))
