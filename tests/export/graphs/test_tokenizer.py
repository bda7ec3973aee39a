"""The exported CLIP tokenizer against open_clip's own, on words and on random strings."""

from __future__ import annotations

import random
import unicodedata

import numpy as np
import open_clip
import pytest

from mafsar.export.graphs.tokenizer import write_clip_tokenizer
from mafsar.runtime.engines.bundle import TokenizerSpec
from mafsar.runtime.engines.tokenizer import Tokenizer

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


# 24 scripts and the characters between their words, without unassigned, private and surrogate code
# points.
RANGES = {
    "latin": (0x41, 0x24F), "greek": (0x370, 0x3FF), "cyrillic": (0x400, 0x4FF),
    "armenian": (0x531, 0x58F), "hebrew": (0x5D0, 0x5F4), "arabic": (0x600, 0x6FF),
    "syriac": (0x700, 0x74F), "devanagari": (0x900, 0x97F), "bengali": (0x980, 0x9FF),
    "gurmukhi": (0xA00, 0xA7F), "gujarati": (0xA80, 0xAFF), "tamil": (0xB80, 0xBFF),
    "telugu": (0xC00, 0xC7F), "kannada": (0xC80, 0xCFF), "malayalam": (0xD00, 0xD7F),
    "thai": (0xE00, 0xE5B), "lao": (0xE80, 0xEDF), "tibetan": (0xF00, 0xFDA),
    "georgian": (0x10A0, 0x10FF), "hangul": (0xAC00, 0xD7A3), "ethiopic": (0x1200, 0x139F),
    "khmer": (0x1780, 0x17F9), "kana": (0x3041, 0x30FF), "han": (0x4E00, 0x9FFF),
    "digits": (0x30, 0x39), "punctuation": (0x21, 0x2F), "more punctuation": (0x2010, 0x205E),
    "emoji": (0x1F300, 0x1F64F), "symbols": (0x2190, 0x27BF),
}  # fmt: skip


def random_texts(count):
    source = random.Random(1)
    pools = {
        name: [
            chr(code)
            for code in range(low, high + 1)
            if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")
        ]
        for name, (low, high) in RANGES.items()
    }
    pools["mixed"] = [letter for pool in pools.values() for letter in pool]
    for _ in range(count):
        pool = pools[source.choice(list(pools))]
        length = source.randint(1, 40)
        yield "".join(source.choice(pool) if source.random() > 0.15 else " " for _ in range(length))


@pytest.mark.parametrize(("length", "count"), [(77, 10_000), (16, 200)])
def test_ids_are_open_clip_s(length, count, tmp_path):
    path = write_clip_tokenizer(tmp_path / "tokenizer.json")
    ours = Tokenizer(TokenizerSpec(path, length, "clip"))
    theirs = open_clip.SimpleTokenizer(context_length=length)
    for text in [*TEXTS, *random_texts(count)]:
        np.testing.assert_array_equal(ours.encode([text])[0], theirs([text])[0].numpy(), text)
