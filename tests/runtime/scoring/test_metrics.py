"""Every entry point scores by the metric that it is given, and refuses one that does not exist."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from mafsar.choices import METRICS, Scoring
from mafsar.data.episodes import draw_episodes
from mafsar.data.support import read_support
from mafsar.errors import InputError
from mafsar.kernels.metrics import metric_row, visual_distances, visual_logits
from mafsar.runtime.bank.bank import read_bank
from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.encoder import Features
from mafsar.runtime.evaluation.evaluate import evaluate
from mafsar.runtime.evaluation.tally import evaluate_features
from mafsar.runtime.match.matcher import Matcher, match
from mafsar.runtime.scoring.leave_one_out import leave_one_out

UNKNOWN = f"metric must be one of {', '.join(METRICS)}, got 'dtw'"


def random_features(classes: int, shots: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy features, (n, 5, 8), on which the metrics disagree, and their classes."""
    rng = np.random.default_rng(12)
    class_index = np.repeat(np.arange(classes), shots)
    centres = rng.normal(size=(classes, 5, 8))
    features = centres[class_index] + 2.0 * rng.normal(size=(len(class_index), 5, 8))
    return features.astype(np.float32), class_index


def restated_share(restated, metric, features, episodes, lam):
    """Share of queries that are right in each episode, in float64."""
    shares = []
    for support, queries in zip(episodes.support, episodes.queries, strict=True):
        prototypes = [features[shots].astype(float).mean(axis=0) for shots in support]
        right = [
            int(
                np.argmin(
                    [
                        restated.distance(metric, features[clip].astype(float), prototype, lam)
                        for prototype in prototypes
                    ]
                )
            )
            == way
            for way, clips in enumerate(queries)
            for clip in clips
        ]
        shares.append(np.mean(right))
    return np.array(shares)


@pytest.mark.parametrize("metric", METRICS)
def test_distances_and_logits(metric, restated_matching):
    features, _ = random_features(3, 1)
    query, prototypes = features[:2], features[1:]
    scoring = Scoring(metric, lam=0.4, visual_scale=3.0)
    distances = visual_distances(query, prototypes, scoring)
    expected = [
        [
            restated_matching.distance(metric, q.astype(float), p.astype(float), 0.4)
            for p in prototypes
        ]
        for q in query
    ]
    np.testing.assert_allclose(distances, expected, rtol=1e-4, atol=1e-5)
    factor = -3.0 if metric == "otam" else -3.0 * 5  # the others are means over T = 5 frames
    np.testing.assert_allclose(visual_logits(distances, 5, scoring), factor * distances, rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_leave_one_out(metric, restated_matching):
    features, class_index = random_features(4, 3)
    found = leave_one_out(features, features, class_index, Scoring(metric, lam=0.4, alpha=0.0))
    for i, query in enumerate(features):
        costs = [
            restated_matching.distance(
                metric,
                query.astype(float),
                np.mean(
                    [features[j].astype(float) for j in np.flatnonzero(class_index == c) if j != i],
                    axis=0,
                ),
                0.4,
            )
            for c in range(4)
        ]
        assert found.answers[i] == int(np.argmin(costs)), i


@pytest.mark.parametrize("metric", METRICS)
def test_episodes(metric, restated_matching):
    features, class_index = random_features(4, 4)
    labels = list("abcd")
    episodes = draw_episodes(class_index, labels, way=3, shot=2, query=1, episodes=40, seed=3)
    scoring = Scoring(metric, lam=0.4, alpha=0.0)
    found = evaluate_features(features, features, class_index, episodes, scoring).right
    shares = {m: restated_share(restated_matching, m, features, episodes, 0.4) for m in METRICS}
    np.testing.assert_allclose(found, shares[metric])
    assert all((found != shares[other]).any() for other in METRICS if other != metric)


@pytest.mark.parametrize("metric", METRICS)
def test_evaluate(metric, encoder, support_folder, cache, restated_matching, monkeypatch):
    def random_clip(frames: np.ndarray) -> Features:
        rows = [
            np.random.default_rng(clip.astype(np.uint64).sum()).normal(size=(4, 16))
            for clip in frames
        ]
        values = np.array(rows, np.float32)
        return Features(values, values.mean(axis=1))

    monkeypatch.setattr(encoder, "encode_query", random_clip)
    result = evaluate(
        encoder, support_folder, way=3, episodes=60, seed=4, metric=metric, text="off", cache=cache
    )
    assert result.metric == metric
    bank = enroll(support_folder, encoder, text="off", cache=cache)
    row = {clip.path: i for i, clip in enumerate(bank.clips)}
    support = read_support(support_folder)
    features = bank.query[[row[clip.path] for clip in support.clips]]
    class_index = np.array([support.labels.index(clip.label) for clip in support.clips])
    episodes = draw_episodes(class_index, list(support.labels), way=3, episodes=60, seed=4)
    expected = restated_share(restated_matching, metric, features, episodes, 0.5)
    assert 0.1 < expected.mean() < 0.9
    assert result.accuracy == pytest.approx(100 * expected.mean())


@pytest.mark.parametrize("metric", METRICS)
def test_training_validates(metric, restated_matching):
    torch = pytest.importorskip("torch")
    from mafsar.training.validate import Validator

    features, class_index = random_features(4, 4)

    class Network(torch.nn.Module):
        """Gives the features of a clip whose pixels are its number."""

        config = SimpleNamespace(
            match=Scoring(metric, lam=0.4, alpha=0.0),
            frames=5,
            input_size=2,
            has_tokens=False,
            adapters=None,
        )

        def encode_query(self, frames):
            found = torch.from_numpy(features[frames[:, 0, 0, 0, 0].numpy()])
            return found, found.mean(dim=1)

    def pixels(number: int, *, frames: int, size: int) -> np.ndarray:
        return np.full((frames, size, size, 3), number, np.uint8)

    data = SimpleNamespace(labels=list("abcd"), clips=range(16), class_index=class_index)
    config = SimpleNamespace(
        way=3, shot=2, seed=5, val=SimpleNamespace(clips=0, episodes=40, fit=False),
        data=SimpleNamespace(workers=1),
    )  # fmt: skip
    validator = Validator(data, SimpleNamespace(testing=pixels), config, None)
    result = validator.run(Network(), contextlib.nullcontext, "cpu")
    own = features[list(validator.clips)]
    shares = restated_share(restated_matching, metric, own, validator.episodes, 0.4)
    assert result.accuracy_visual == result.accuracy == pytest.approx(100 * shares.mean())


def test_an_unknown_metric_is_an_error(encoder, support_folder, cache):
    bank = enroll(support_folder, encoder, cache=cache)
    clip = support_folder / "wave" / "clip0"
    before = dict(encoder.calls)
    for function in (
        lambda: Scoring("dtw"),
        lambda: bank.scoring.with_choices(metric="dtw"),
        lambda: metric_row("dtw"),
        lambda: Matcher(bank, encoder, metric="dtw"),
        lambda: bank.match(clip, encoder, metric="dtw"),
        lambda: match(bank, clip, encoder, metric="dtw"),
        lambda: evaluate(encoder, support_folder, metric="dtw", cache=False),
    ):
        with pytest.raises(InputError) as error:
            function()
        assert str(error.value) == UNKNOWN
    assert encoder.calls == before  # nothing is encoded in vain


def test_a_bank_file_with_an_unknown_metric_is_named(encoder, support_folder, cache, tmp_path):
    path = enroll(support_folder, encoder, cache=cache).save(tmp_path / "b.safetensors")
    with safe_open(path, framework="numpy") as file:
        metadata = json.loads(file.metadata()["mafsar"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    metadata["model"]["scoring"]["metric"] = "dtw"
    del metadata["checksum"]  # as a bank of a version that knows another metric, without it
    save_file(tensors, path, {"mafsar": json.dumps(metadata)})
    with pytest.raises(InputError) as error:
        read_bank(path)
    assert str(error.value).startswith(
        f"{path}: damaged bank: model.scoring.{UNKNOWN}; enroll the clips again with "
    )
