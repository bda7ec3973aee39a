"""Training that continues from the shipped starter, whose weights are in its bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mafsar.errors import InputError, MismatchError
from mafsar.export.graphs.network_bundle import open_network
from mafsar.model.names import SHIPPED_BUNDLE
from mafsar.model.network import TUNABLE_PREFIXES
from mafsar.model.sources import create_network, load_trained
from mafsar.model.weights import base_sha256
from mafsar.runtime.engines.loading import load_model
from mafsar.training.config import build_config
from mafsar.training.loop import train
from mafsar.training.start import start_network


@pytest.fixture
def words(moving_squares: Path) -> dict[str, object]:
    return {
        "model.name": "tiny", "data.folder": str(moving_squares), "data.workers": 0, "way": 3,
        "data.split": str(moving_squares / "split.json"), "episodes": 2, "optim.batch": 2,
        "val.every": 0, "run.tensorboard": False,
    }  # fmt: skip


def test_the_starter_s_adapters_are_tuned_further_or_replaced(words) -> None:
    shipped = create_network("tiny").state_dict()
    further = start_network(build_config(None, words)).state_dict()
    assert all(torch.equal(further[name], value) for name, value in shipped.items())
    fresh = start_network(build_config(None, words | {"model.fresh": True}))
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, shipped[name]) is not name.startswith(TUNABLE_PREFIXES), name
    assert not fresh.adapters.blocks[0].gta.adapter.up.weight.any()
    with pytest.raises(MismatchError, match=r"has shape .*set model\.fresh to true"):
        start_network(build_config(None, words | {"model.ratio": 0.125}))
    smaller = build_config(None, words | {"model.ratio": 0.125, "model.fresh": True})
    assert start_network(smaller).config.adapters.ratio == 0.125


def test_a_run_on_the_starter_is_a_model(words, tmp_path: Path) -> None:
    train(build_config(None, words), tmp_path / "run", device="cpu")
    network = load_trained(tmp_path / "run")
    assert base_sha256(network) == base_sha256(create_network("tiny"))
    encoder = load_model(tmp_path / "run", device="cpu")
    manifest = json.loads((SHIPPED_BUNDLE / "bundle.json").read_text())
    # Its text tower knows the same words as before.
    assert encoder.spec.known_words == set(manifest["known_words"])
    _, extra = open_network(str(tmp_path / "run"), frames=None)
    assert extra["known_words"] == manifest["known_words"]
    assert encoder.encode_text(["waving one hand"]).shape == (1, network.config.feature_dim)


def test_a_run_or_bundle_is_not_a_name_of_towers(words, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give the name of a model"):
        start_network(build_config(None, words | {"model.name": str(tmp_path)}))
