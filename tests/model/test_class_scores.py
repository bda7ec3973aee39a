"""Prototypes and scores against the float64 restatement, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mafsar.choices import METRICS, Scoring
from mafsar.errors import InputError
from mafsar.model.class_scores import class_scores
from mafsar.model.prototypes import class_prototypes


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("with_text", [True, False])
def test_scores_are_the_restatement(metric, with_text, restatement, restated_matching):
    match = Scoring(metric, lam=0.3, alpha=0.4, visual_scale=1.7, text_scale=9.0)
    query, prototypes = drawn(3, 4, 8, seed=1), drawn(5, 4, 8, seed=2)
    pooled, text = drawn(3, 8, seed=3), drawn(5, 8, seed=4) if with_text else None
    got = class_scores(query, prototypes, match, pooled=pooled, text=text)
    for q in range(3):
        distances = np.array(
            [
                restated_matching.distance(metric, query[q].numpy(), p, 0.3)
                for p in prototypes.numpy()
            ]
        )
        want = restatement.scores(
            distances,
            pooled[q].numpy(),
            None if text is None else text.numpy(),
            factor=restated_matching.logit_factor(metric, 4),
            alpha=0.4,
            visual_scale=1.7,
            text_scale=9.0,
        )
        np.testing.assert_allclose(got.fused[q].numpy(), want, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(got.distances[q].numpy(), distances, rtol=1e-10, atol=1e-12)
    assert (got.text_logits is None) == (text is None)


def test_a_text_score_needs_the_pooled_features():
    with pytest.raises(InputError, match="pooled is missing"):
        class_scores(drawn(1, 4, 8), drawn(2, 4, 8), Scoring(), text=drawn(2, 8))


@pytest.mark.parametrize("metric", METRICS)
def test_gradients_of_the_scores(metric):
    match = Scoring(metric, text_scale=5.0)

    def fused(query, prototypes, pooled, text):
        return class_scores(query, prototypes, match, pooled=pooled, text=text).fused

    inputs = [drawn(2, 3, 4), drawn(3, 3, 4, seed=1), drawn(2, 4, seed=2), drawn(3, 4, seed=3)]
    for tensor in inputs:
        tensor.requires_grad_(True)
    assert torch.autograd.gradcheck(fused, inputs)


def test_a_zero_vector_has_cosine_0_and_no_gradient():
    pooled = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    got = class_scores(
        drawn(1, 3, 4), drawn(2, 3, 4, seed=1), Scoring(), pooled=pooled, text=drawn(2, 4)
    )
    assert not got.text_logits.any()
    got.fused[0, 0].backward()
    assert not pooled.grad.any()


def test_a_prototype_is_the_mean_of_its_shots_frame_by_frame():
    features = drawn(5, 4, 8)
    labels = torch.tensor([2, 0, 2, 1, 0])
    got = class_prototypes(features, labels, 3)
    for label in range(3):
        members = [features[i].numpy() for i in range(5) if int(labels[i]) == label]
        np.testing.assert_allclose(got[label].numpy(), np.mean(members, axis=0), rtol=1e-12)


@pytest.mark.parametrize(
    ("labels", "words"), [([0, 2, 2], "no support clip for class 1"), ([0, 1, 3], r"in 0…2")]
)
def test_wrong_labels_are_refused(labels, words):
    with pytest.raises(InputError, match=words):
        class_prototypes(drawn(3, 4, 8), torch.tensor(labels), 3)
