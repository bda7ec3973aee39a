"""Whether class names are used."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from mafsar.errors import UnavailableError
from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.encoder import Features
from mafsar.runtime.match.matcher import Matcher


def test_off_uses_no_names(encoder, support_folder, make_clip, tmp_path, cache):
    bank = enroll(support_folder, encoder, text="off", cache=cache)
    assert encoder.calls["support"] == encoder.calls["text"] == 0
    assert (bank.support, bank.text) == (None, None)
    assert (bank.text_choice.used, bank.text_choice.alpha) == (False, 0.0)
    (answer,) = Matcher(bank, encoder).stream([make_clip(tmp_path / "q", 1, 9)])
    assert all(item.text_score is None for item in answer.topk)
    renamed = tmp_path / "renamed"
    shutil.copytree(support_folder, renamed)
    for i, folder in enumerate(sorted(renamed.iterdir())):
        folder.rename(renamed / f"{i}{'xyz'[i]}")
    other = enroll(renamed, encoder, text="off", cache=cache)
    (same,) = Matcher(other, encoder).stream([tmp_path / "q"])
    assert [item.score for item in same.topk] == [item.score for item in answer.topk]


def test_on_uses_the_models_alpha(encoder, support_folder, cache):
    choice = enroll(support_folder, encoder, text="on", cache=cache).text_choice
    assert (choice.used, choice.alpha, choice.requested) == (True, 0.3, "on")


def test_unknown_words_switch_it_off(make_encoder, support_folder, cache):
    known = make_encoder(known_words=frozenset({"clap", "hands", "jump"}))
    choice = enroll(support_folder, known, cache=cache).text_choice
    assert not choice.used
    assert "'wave'" in choice.why
    all_known = make_encoder(known_words=frozenset({"clap", "hands", "jump", "wave"}))
    assert "leave-one-out" in enroll(support_folder, all_known, cache=cache).text_choice.why


def test_one_clip_a_class_relies_on_the_words(encoder, make_encoder, tmp_path, make_clip, cache):
    for kind, label in enumerate(("jump", "wave")):
        make_clip(tmp_path / "s" / label / "x", kind)
    choice = enroll(tmp_path / "s", encoder, cache=cache).text_choice
    assert choice.used
    assert choice.alpha == 0.3
    blind = make_encoder(known_words=frozenset({"jump"}))
    assert not enroll(tmp_path / "s", blind, cache=cache).text_choice.used


def test_a_model_with_alpha_zero_uses_no_names(make_encoder, support_folder, cache):
    choice = enroll(support_folder, make_encoder(alpha=0.0), cache=cache).text_choice
    assert not choice.used
    assert "alpha is 0" in choice.why
    # Alpha decides, even if the model does not know the words.
    blind = make_encoder(alpha=0.0, known_words=frozenset({"jump"}))
    assert "alpha is 0" in enroll(support_folder, blind, cache=cache).text_choice.why


class NamesOnly:
    """An encoder whose pictures are random and whose names are right, or all wrong."""

    def __init__(self, inner, *, lies: bool):
        self.inner, self.lies = inner, lies
        self.spec, self.engine, self.device = inner.spec, inner.engine, inner.device
        self.precision, self.choice = inner.precision, inner.choice
        self.kinds: dict[bytes, str] = {}
        self.rng = np.random.default_rng(0)

    def _features(self, frames):
        count = len(frames)
        random = self.rng.normal(size=(count, 4, 16)).astype(np.float32)
        pooled = np.stack([self.inner.word(self.kinds[clip.tobytes()]) for clip in frames])
        return Features(random, pooled)

    def encode_query(self, frames):
        return self._features(frames)

    def encode_support(self, frames, text):  # noqa: ARG002 - part of the protocol
        return self._features(frames)

    def encode_text(self, texts):
        swapped = {"jump": "wave", "wave": "clap hands", "clap hands": "jump"}
        return np.stack([self.inner.word(swapped[t] if self.lies else t) for t in texts])


@pytest.mark.parametrize("lies", [False, True])
def test_leave_one_out_decides(lies, make_encoder, support_folder):
    from mafsar.video import load_clip

    encoder = NamesOnly(make_encoder(alpha=0.9), lies=lies)
    for clip in support_folder.glob("*/*"):
        pixels = load_clip(clip, frames=4, size=32).pixels
        encoder.kinds[pixels.tobytes()] = clip.parent.name.replace("_", " ")
    choice = enroll(support_folder, encoder, cache=False).text_choice
    assert choice.used is not lies
    right = 0 if lies else 9
    assert choice.why.startswith(f"leave-one-out is right on {right} of 9 with text")
    assert choice.alpha == (0.0 if lies else 0.9)


def test_a_model_without_text(make_encoder, support_folder, cache):
    mute = make_encoder(text=False)
    choice = enroll(support_folder, mute, cache=cache).text_choice
    assert not choice.used
    assert "no text tower" in choice.why
    with pytest.raises(UnavailableError, match="use text='off'"):
        enroll(support_folder, mute, text="on", cache=cache)


def test_plain_clip_has_no_support_branch(make_encoder, support_folder, make_clip, tmp_path, cache):
    plain = make_encoder(adapters="none", metric="mean")
    bank = enroll(support_folder, plain, text="on", cache=cache)
    assert plain.calls["support"] == 0
    assert bank.support is None
    (answer,) = Matcher(bank, plain).stream([make_clip(tmp_path / "q", 2, 9)])
    assert answer.adapters == "none"
    assert answer.topk[0].text_score is not None
