"""The last phase: published weights are read or refused, and joined features are those of the network."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mafsar.errors import InputError, MissingError
from mafsar.model.config import named_config
from mafsar.model.network import build_network
from mafsar.model.photo_table import PhotoConfig
from mafsar.training.starter.accuracy import encode_pool
from mafsar.training.starter.photo import _components
from mafsar.training.starter.photo_weights import load_people_weights
from mafsar.training.starter.pool import ClipPool


def test_a_missing_file_names_where_it_comes_from(tmp_path):
    with pytest.raises(MissingError, match="@mediapipe/pose"):
        load_people_weights(tmp_path / "pose.tflite")


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "pose.tflite"
    path.write_bytes(b"TFL3")
    with pytest.raises(InputError, match=r"pose\.tflite: not the file"):
        load_people_weights(path)


def test_components_hold_the_most_variance_at_the_scale_that_is_asked_for():
    rows = torch.randn(400, 6, generator=torch.Generator().manual_seed(1))
    rows = rows * torch.tensor([5.0, 0.1, 3.0, 0.1, 0.1, 1.0]) + 7.0
    weight, bias = _components(rows, 3, variance=2.5)
    out = rows @ weight.T + bias
    assert float(out.mean(0).abs().max()) < 1e-4
    assert float(out.var(0, unbiased=False).sum()) == pytest.approx(2.5, rel=1e-4)
    # Independent: the same subspace by a singular value decomposition.
    centred = (rows - rows.mean(0)).double()
    _, _, vh = torch.linalg.svd(centred, full_matrices=False)
    planes = torch.linalg.qr(weight.double().T)[0]
    assert float((vh[:3] @ planes).square().sum()) == pytest.approx(3.0, abs=1e-6)


@pytest.mark.parametrize("photo", [None, PhotoConfig(things=12, people=5)])
def test_clips_of_a_pool_are_encoded_by_both_branches(photo):
    network = build_network(dataclasses.replace(named_config("tiny"), photo=photo), seed=3)
    rng = np.random.default_rng(0)
    size = network.config.input_size
    frames = rng.integers(0, 256, (3, 8, size, size, 3), dtype=np.uint8)
    texts = network.encode_text(torch.randint(1, 400, (2, 32))).detach()
    pool = ClipPool(["a", "b"], frames, np.array([0, 1, 1]))
    found = encode_pool(network, pool, texts)
    with torch.no_grad():
        query, pooled = network.encode_query(torch.from_numpy(frames))
        support, _ = network.encode_support(torch.from_numpy(frames), texts[[0, 1, 1]])
    torch.testing.assert_close(found.query, query, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.support, support, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.pooled, pooled, atol=1e-4, rtol=1e-4)
    assert torch.equal(encode_pool(network, pool, texts, workers=1).query, found.query)
