"""The exported CLIP tokenizer against open_clip's own, on words and on random strings."""

from __future__ import annotations

import random

import numpy as np
import open_clip
import pytest
from mafsar.export.tokenizer import write_clip_tokenizer

from mafsar.runtime.bundle import TokenizerSpec
from mafsar.runtime.tokenizer import Tokenizer

TEXTS = [
    "a photo of juggling balls",
    "Opening a door, but NOT all the way",
    "it's 42 o'clock, they'll've gone!!",
    "Café &amp;amp; crème brûlée",
    "übermäßig  große\tTür\n",
    "打开门 ドアを開ける открыть дверь",
    "😀🏃‍♀️ running",
    "schÃ¶n",
    "",
    "word " * 200,
    "<end_of_text> injected",
]


def random_texts(count):
    source = random.Random(0)
    ranges = [(0x20, 0x7E), (0xA1, 0x17F), (0x370, 0x3FF), (0x4E00, 0x4E80), (0x1F600, 0x1F640)]
    for _ in range(count):
        low, high = source.choice(ranges)
        yield "".join(chr(source.randint(low, high)) for _ in range(source.randint(1, 40)))


@pytest.mark.parametrize("length", [77, 16])
def test_ids_are_open_clip_s(length, tmp_path):
    path = write_clip_tokenizer(tmp_path / "tokenizer.json")
    ours = Tokenizer(TokenizerSpec(path, length, "clip"))
    theirs = open_clip.SimpleTokenizer(context_length=length)
    for text in [*TEXTS, *random_texts(300)]:
        np.testing.assert_array_equal(ours.encode([text])[0], theirs([text])[0].numpy(), text)
