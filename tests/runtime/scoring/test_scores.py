"""Scores against a float64 restatement of docs/method.md."""

from __future__ import annotations

import numpy as np
import pytest

from mafsar.choices import Scoring
from mafsar.runtime.scoring.scores import class_prototypes, match_features


def softmax(logits):
    shifted = np.exp(logits - np.max(logits))
    return shifted / shifted.sum()


@pytest.mark.parametrize("metric", ["otam", "bimhm", "mean"])
def test_scores_follow_the_method(metric, restated_matching):
    rng = np.random.default_rng(3)
    query = rng.normal(size=(4, 6, 12)).astype(np.float32)
    shots = rng.normal(size=(7, 6, 12)).astype(np.float32)
    class_index = np.array([0, 2, 1, 0, 2, 2, 1])
    pooled = rng.normal(size=(4, 12)).astype(np.float32)
    text = rng.normal(size=(3, 12)).astype(np.float32)
    scoring = Scoring(metric, lam=0.5, alpha=0.3, visual_scale=2.0, text_scale=9.0)
    prototypes = class_prototypes(shots, class_index, 3)
    scores = match_features(query, prototypes, scoring, pooled=pooled, text=text)
    factor = 1 if metric == "otam" else 6
    for q in range(4):
        distances = np.array(
            [
                restated_matching.distance(
                    metric,
                    query[q].astype(float),
                    shots[class_index == c].astype(float).mean(axis=0),
                    0.5,
                )
                for c in range(3)
            ]
        )
        visual = softmax(-2.0 * factor * distances)
        worded = softmax(
            9.0 * np.array([restated_matching.cosine(pooled[q].astype(float), t) for t in text])
        )
        np.testing.assert_allclose(scores.distances[q], distances, rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(scores.visual[q], visual, atol=1e-4)
        np.testing.assert_allclose(scores.text[q], worded, atol=1e-5)
        np.testing.assert_allclose(scores.fused[q], 0.3 * worded + 0.7 * visual, atol=1e-4)
    without = match_features(query, prototypes, scoring)
    assert without.text is None
    np.testing.assert_array_equal(without.fused, scores.visual)
