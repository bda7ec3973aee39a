"""Banks, bundles, caches and run folders of version 0.1.0 open, and answer as they did.

`files-0.1.0.zip` was made by `make_files.py` beside this file, before the package was divided into
rooms; `expected.json` in it holds that version's answers.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import mafsar
from mafsar.runtime.cache.features import FeatureCache
from mafsar.runtime.encoder import Encoder
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.probe import check_probe
from mafsar.training.config import build_config

LABELS = ("aside", "down", "left", "right", "up")


@pytest.fixture
def encoder(old_files: Path) -> Encoder:
    return mafsar.load_model(old_files / "small.mafsar", engine="onnx", device="cpu")


@pytest.mark.parametrize("text", ["on", "off"])
def test_a_bank_answers_as_it_did(text: str, old_files: Path, encoder: Encoder) -> None:
    bank = mafsar.read_bank(old_files / f"{text}.safetensors")
    assert bank.labels == LABELS
    assert (len(bank), bank.class_index.tolist().count(-1)) == (11, 1)
    assert bank.text_choice.used == (text == "on")
    answer = bank.match(old_files / "clips/left/1", encoder, keep_query=True)
    expected = json.loads((old_files / "expected.json").read_text())[text]
    assert [row.label for row in answer.topk] == list(expected)
    found = [(row.score, row.distance) for row in answer.topk]
    # Float32 features of 4 frames: another processor may round each step of the graph otherwise.
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-4)


def test_a_bank_is_written_as_it_was(old_files: Path) -> None:
    """What older versions read of it, entry by entry."""
    from safetensors import safe_open

    def entries(path: Path) -> tuple[dict, set[str]]:
        with safe_open(path, framework="numpy") as file:
            return json.loads(file.metadata()["mafsar"]), set(file.keys())

    old = entries(old_files / "on.safetensors")
    again = mafsar.read_bank(old_files / "on.safetensors").save(old_files / "again.safetensors")
    new = entries(again)
    for document in (old[0], new[0]):
        del document["made_by"]
        # Where its maker's model lay is no longer in a bank.
        del document["model"]["path"], document["model"]["name"]
    assert new[0] | old[0] == new[0]  # entries may be added
    assert new[1] == old[1]


def test_a_bundle_opens_and_computes_what_its_probe_says(old_files: Path, encoder: Encoder) -> None:
    bundle = Bundle.open(old_files / "small.mafsar")
    assert bundle.precisions() == ["fp32", "fp16"]
    parity = check_probe(encoder, bundle, (1, 3), limit=1.0, again=("never",))
    assert parity.min_cosine > 0.999999
    assert bundle.spec.scoring == mafsar.Scoring(**bundle.manifest["match"])


def test_an_old_cache_does_no_harm(
    old_files: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its entries say what weights they are of, not which files made them: none is used."""
    monkeypatch.setattr("mafsar.runtime.cache.features.__version__", "0.1.0")
    cache = FeatureCache(old_files / "cache")
    held = mafsar.read_bank(old_files / "on.safetensors")
    before = cache.info().entries
    assert before > 0
    found = mafsar.enroll("clips", encoder, text="on", cache=cache, images=False)
    assert cache.info().entries > before
    for name in ("query", "support", "pooled", "text"):
        np.testing.assert_allclose(getattr(found, name), getattr(held, name), atol=1e-4)
    assert cache.clear().entries > before
    assert cache.info().entries == 0


def test_an_old_bank_says_what_it_lacks(old_files: Path) -> None:
    bank = mafsar.read_bank(old_files / "on.safetensors")
    assert bank.maker is None
    assert "kept no checksum and no probe" in bank.notes[0]


def test_a_run_folder_opens(old_files: Path, encoder: Encoder) -> None:
    run = mafsar.load_model(old_files / "run", engine="torch", device="cpu")
    assert run.spec.weights_sha256 == encoder.spec.weights_sha256
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), np.uint8)
    exact, found = run.encode_query(frames).frames, encoder.encode_query(frames).frames
    np.testing.assert_allclose(found, exact, atol=1e-4 * np.abs(exact).max())


def test_a_run_goes_on(old_files: Path) -> None:
    config = build_config(old_files / "run" / "config.toml")
    assert (config.way, config.episodes) == (2, 6)
    result = mafsar.train(out=old_files / "run", resume=True)
    assert result.episodes == 6
