"""The starter's tokenizer: it encodes and decodes any text, and the end token is the highest id."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from mafsar.training.starter.words import encode, known_words, save_tokenizer, train_tokenizer

TEXTS = ["a person raising both arms", "a red shirt and blue trousers, in the dark", "open lid"]
CONTEXT = 32


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS * 3, vocabulary=300, context=CONTEXT)


@pytest.mark.parametrize(
    "text",
    ["a person raising both arms", "übergrößen", "手を振る", "🙂 ok", "naïve café"],
)
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids).strip() == text


def test_case_and_spaces_do_not_matter(tokenizer: Tokenizer) -> None:
    assert torch.equal(encode(tokenizer, ["  Open   LID "]), encode(tokenizer, ["open lid"]))


@pytest.mark.parametrize("text", ["", "open lid", "word " * 200])
def test_the_end_token_is_the_highest_and_survives_the_cut(tokenizer: Tokenizer, text: str) -> None:
    ids = encode(tokenizer, [text])
    assert ids.shape == (1, CONTEXT)
    assert ids.dtype == torch.int64
    end = tokenizer.get_vocab_size() - 1
    assert (ids == end).sum() == 1
    position = int(ids[0].argmax())
    assert ids[0, position] == end
    assert not ids[0, position + 1 :].any()  # padding is 0
    assert ids[0, 0] == tokenizer.token_to_id("<start>")


def test_saved_tokenizer_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    save_tokenizer(tokenizer, path)
    again = Tokenizer.from_file(str(path))
    assert torch.equal(encode(again, TEXTS), encode(tokenizer, TEXTS))


def test_known_words_are_bare_and_lower_case() -> None:
    assert known_words(["A red shirt, and", "Red: and"]) == ["a", "and", "red", "shirt"]
