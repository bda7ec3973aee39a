"""A bank knows what made it: other files under the same hash of weights are found out."""

from __future__ import annotations

import numpy as np
import pytest

from mafsar.errors import MismatchError
from mafsar.runtime.bank.bank import read_bank
from mafsar.runtime.bank.edit import merge_banks
from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.bank.maker import make_maker, probe_frames
from mafsar.runtime.cache.encoding import encode_clips
from mafsar.runtime.cache.features import FeatureCache
from mafsar.runtime.match.matcher import Matcher


def running(make_encoder, files, *, noise=0.0, precision="fp32"):
    """A model whose files have a hash of their own, and whose features are off by `noise`."""
    encoder = make_encoder()
    encoder.files_sha256, encoder.precision = files, precision
    rng = np.random.default_rng(3)
    scale = noise * np.abs(encoder.projection).mean()
    encoder.projection = encoder.projection + scale * rng.normal(
        size=encoder.projection.shape
    ).astype(np.float32)
    return encoder


@pytest.fixture
def bank(make_encoder, support_folder, tmp_path):
    bank = enroll(support_folder, running(make_encoder, "a"), cache=False)
    return read_bank(bank.save(tmp_path / "bank.safetensors"))


def test_the_probe_is_kept_and_read_back(bank, make_encoder):
    made = make_maker(running(make_encoder, "a"), with_text=True)
    assert (bank.maker.files_sha256, bank.maker.precision) == ("a", "fp32")
    assert sorted(bank.maker.probe) == ["pooled", "query", "support", "text"]
    for name, values in made.probe.items():
        np.testing.assert_array_equal(bank.maker.probe[name], values)
    assert bank.notes == ()


def test_the_probe_clip_is_the_same_everywhere(encoder):
    frames = probe_frames(encoder.spec)
    assert (frames.shape, frames.dtype) == ((1, 4, 32, 32, 3), np.uint8)
    assert int(frames.astype(np.int64).sum()) == 1_322_393
    assert len(np.unique(frames[0], axis=0)) == 4


def test_the_same_files_are_not_encoded_again(bank, make_encoder):
    encoder = running(make_encoder, "a")
    Matcher(bank, encoder)
    assert sum(encoder.calls.values()) == 0


@pytest.mark.parametrize(
    ("precision", "noise", "fits"),
    [("fp32", 0.0, True), ("fp32", 0.1, False), ("int8", 0.1, True), ("int8", 2.0, False)],
)
def test_other_files_must_agree_on_the_probe(bank, make_encoder, precision, noise, fits):
    encoder = running(make_encoder, "b", noise=noise, precision=precision)
    for _ in range(2):
        if fits:
            Matcher(bank, encoder)
        else:
            with pytest.raises(MismatchError, match="computes other features"):
                Matcher(bank, encoder)
    assert encoder.calls["query"] == 1  # the comparison is remembered


def test_other_files_cannot_add_to_a_bank(bank, make_encoder, make_clip, tmp_path):
    clip = make_clip(tmp_path / "more" / "nod" / "0", 5)
    with pytest.raises(MismatchError, match="computes other features"):
        enroll({"nod": [clip]}, running(make_encoder, "b", noise=2.0), add_to=bank)
    grown = enroll({"nod": [clip]}, running(make_encoder, "c"), add_to=bank, cache=False)
    assert grown.maker.files_sha256 == "a"


def test_banks_of_other_files_do_not_merge(bank, make_encoder, make_clip, tmp_path):
    clip = make_clip(tmp_path / "more" / "nod" / "0", 5)
    other = enroll({"nod": [clip]}, running(make_encoder, "b", noise=2.0), cache=False)
    with pytest.raises(MismatchError, match="different features of the same clip"):
        merge_banks(bank, other)
    unknown = enroll({"nod": [clip]}, make_encoder(), cache=False)
    assert unknown.maker is None
    assert merge_banks(bank, unknown).maker is None


def test_the_cache_keeps_files_apart(make_encoder, support_folder, tmp_path):
    """What a model of the same claimed weights has put there is not what this one reads."""
    cache = FeatureCache(tmp_path / "cache")
    bank = enroll(support_folder, running(make_encoder, "a"), cache=cache)
    forged = running(make_encoder, "b", noise=2.0)
    enroll(support_folder, forged, cache=cache)
    again = enroll(support_folder, running(make_encoder, "a"), cache=cache)
    np.testing.assert_array_equal(again.query, bank.query)
    honest = running(make_encoder, "a")
    assert encode_clips(honest, bank.clips, cache=cache).encoded == 0
