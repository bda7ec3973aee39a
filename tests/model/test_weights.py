"""Seeded weights, files of weights, and their hashes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file

from mafsar.errors import InputError, MismatchError, MissingError
from mafsar.model.network import build_network
from mafsar.model.sources import create_network, load_trained
from mafsar.model.weights import (
    base_sha256,
    load_network,
    load_weights,
    save_weights,
    weights_sha256,
)


def same(a, b):
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_the_same_seed_gives_the_same_weights(small_config):
    torch.manual_seed(1)
    first = build_network(small_config, seed=3)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = build_network(small_config, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first, second)
    assert not same(first, build_network(small_config, seed=4))
    assert weights_sha256(first) == weights_sha256(second)
    # The towers do not depend on the adapters.
    assert base_sha256(first) == weights_sha256(build_network(small_config.plain(), seed=3))


def test_a_random_model_by_name():
    network = create_network("tiny:random")
    assert network.config.name == "tiny:random"
    assert network.config.adapters is None
    assert same(network, create_network("tiny:random", seed=0))
    assert len(create_network("tiny:random", adapters=True).tunable_parameters()) > 0


def test_one_changed_number_changes_the_hash(small_config, make_network):
    network = make_network(small_config, dtype=torch.float32)
    before, base = weights_sha256(network), base_sha256(network)
    with torch.no_grad():
        network.tpcm.ffn.c_fc.bias[0] += 1e-3
    assert weights_sha256(network) != before
    assert base_sha256(network) == base


def test_weights_survive_a_file(small_config, make_network, tmp_path):
    network = make_network(small_config, dtype=torch.float32)
    path = tmp_path / "w.safetensors"
    save_weights(network, path)
    assert [item.name for item in tmp_path.iterdir()] == ["w.safetensors"]
    fresh = build_network(small_config)
    load_weights(fresh, path)
    assert same(fresh, network)
    assert all(p.requires_grad for p in fresh.tunable_parameters().values())
    assert not any(p.requires_grad for p in fresh.frozen_parameters().values())
    whole = load_network(path)
    assert same(whole, network)
    assert whole.config == small_config


def test_missing_and_extra_keys_are_listed(small_config, make_network, tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(make_network(small_config, dtype=torch.float32), path)
    state = load_file(path)
    del state["tpcm.ffn.c_fc.weight"]
    state["head.weight"] = torch.zeros(1)
    save_file(state, path)
    network = build_network(small_config)
    before = weights_sha256(network)
    with pytest.raises(MismatchError) as raised:
        load_weights(network, path)
    assert "1 missing: tpcm.ffn.c_fc.weight" in str(raised.value)
    assert "1 extra: head.weight" in str(raised.value)
    assert weights_sha256(network) == before


def test_adapters_load_onto_their_own_towers_only(small_config, make_network, tmp_path):
    network = make_network(small_config, dtype=torch.float32)
    path = tmp_path / "adapters.safetensors"
    save_weights(network, path, tunable_only=True)
    assert set(load_file(path)) == set(network.tunable_parameters())
    other = build_network(small_config, seed=9)
    with pytest.raises(MismatchError, match="trained on other towers"):
        load_weights(other, path, tunable_only=True)
    other.load_state_dict(
        {k: v.detach() for k, v in network.frozen_parameters().items()}, strict=False
    )
    load_weights(other, path, tunable_only=True)
    assert same(other, network)


def test_a_run_folder_finds_its_towers_by_name_and_hash(tmp_path):
    network = create_network("tiny:random", adapters=True)
    with torch.no_grad():
        for parameter in network.tunable_parameters().values():
            parameter.add_(0.1)
    save_weights(network, tmp_path / "adapters.safetensors", tunable_only=True)
    assert same(load_trained(tmp_path), network)
    assert same(load_trained(tmp_path / "adapters.safetensors"), network)
    other = create_network("tiny:random", adapters=True, seed=5)
    save_weights(other, tmp_path / "adapters.safetensors", tunable_only=True)
    with pytest.raises(MismatchError, match="other weights than tiny:random has here"):
        load_trained(tmp_path)


def test_a_file_with_the_name_of_its_model(tmp_path):
    network = create_network("tiny:random")
    path = tmp_path / "towers.safetensors"
    save_weights(network, path)
    assert same(create_network(f"tiny:{path}"), network)
    with pytest.raises(MismatchError, match="contains tiny, not vit-b-32"):
        create_network(f"vit-b-32:{path}")
    tuned = create_network(f"tiny:{path}", adapters=True)
    assert base_sha256(tuned) == weights_sha256(network)


def test_files_that_are_not_weights(small_config, tmp_path):
    network = build_network(small_config)
    with pytest.raises(MissingError, match="no such weights file"):
        load_weights(network, tmp_path / "none.safetensors")
    pickled = tmp_path / "w.pt"
    torch.save({"a": torch.zeros(1)}, pickled)
    with pytest.raises(InputError, match="a pickle, which can run code"):
        load_weights(network, pickled)
    broken = tmp_path / "w.safetensors"
    broken.write_bytes(b"\xff" * 40)
    with pytest.raises(InputError, match="not a safetensors file"):
        load_weights(network, broken)


def test_the_prototype_module_must_be_in_the_file(small_config, make_network, tmp_path):
    path = tmp_path / "w.safetensors"
    parts = dataclasses.replace(small_config.adapters, tpcm=False)
    save_weights(make_network(dataclasses.replace(small_config, adapters=parts)), path)
    with pytest.raises(MismatchError, match="missing: tpcm"):
        load_weights(build_network(small_config), path)
