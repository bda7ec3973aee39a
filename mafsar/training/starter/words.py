"""The starter's own tokenizer: byte-level BPE trained on its captions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from torch import Tensor

PAD, START, END = "<pad>", "<start>", "<end>"


def train_tokenizer(texts: Iterable[str], *, vocabulary: int, context: int) -> Tokenizer:
    """Train a tokenizer whose encodings fit the text tower.

    Its alphabet is all bytes, so any Unicode text has tokens. The end token has the highest id, by
    which the text tower finds its feature, as CLIP's does. Padding, which follows it, is id 0.

    Args:
        texts: The training texts.
        vocabulary: Largest number of tokens, including the start and end tokens.
        context: Length of every encoding; longer texts are cut before the end token.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocabulary - 2,
        show_progress=False,
        special_tokens=[PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(START, special=True), AddedToken(END, special=True)])
    start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
    tokenizer.post_processor = TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, start), (END, end)]
    )
    tokenizer.enable_truncation(context)
    tokenizer.enable_padding(length=context, pad_id=0, pad_token=PAD)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Return token ids, int64 (len(texts), context)."""
    return torch.tensor([entry.ids for entry in tokenizer.encode_batch(list(texts))])


def known_words(texts: Iterable[str]) -> list[str]:
    """Return the lower-case words of the texts, sorted, without punctuation."""
    return sorted({word.strip(",.:;") for text in texts for word in text.lower().split()} - {""})


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write ``tokenizer.json``, with the same bytes for the same tokenizer."""
    content = json.loads(tokenizer.to_str())
    path.write_text(json.dumps(content, ensure_ascii=False, indent=None) + "\n", encoding="utf-8")
