"""Published weights are read by the recipe, or refused in one line."""

from __future__ import annotations

import pytest
import torch

from mafsar.errors import InputError, MissingError
from mafsar.training.starter.photo import _components
from mafsar.training.starter.photo_weights import load_people_weights


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
