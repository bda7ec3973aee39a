"""Damage that a number draws: bytes of any file, values of a JSON document, words of a text."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

_SPECIAL = (
    -1, 0, 1, 2**31, 2**63 - 1, -(2**63), 10**30, 1e308, -1e308, 1e-320, "", "a" * 300, "\x1b]0;x\x07",
    "../../etc/passwd", "\ud800", [], {}, None, True, [[[[[[]]]]]], {"a": {"b": {}}},
    float("nan"), float("inf"), "hf-hub:a/b", 0.5,
)  # fmt: skip
_WORDS = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"'", b",", b"\t", b";", b"\n", b"\r", b"=1+1",
    b"9" * 400, b"1e999", b"nan", b"-1", b"[" * 300, b"{" * 300, b"/dev/zero", b"a" * 300,
    b"../../../x", b"inf", b"\x1b[2J", b"{}", b"*", b"[a-z]*", b"%s%n", b"http://a/b.mp4",
)  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Flipped, cut, doubled, moved or replaced bytes; the header more often than the rest."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not out:
            return bytes(out)
        reach = len(out) if rng.random() < 0.5 else min(len(out), 1024)
        at, size = rng.randrange(reach), rng.choice((1, 2, 4, 8, 64, 1024))
        kind = rng.randrange(9)
        if kind <= 2:
            out[at] = rng.randrange(256)
        elif kind == 3:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 4:
            out[at : at + size] = rng.choice((b"\x00", b"\xff", b"\x7f")) * size
        elif kind == 5:
            del out[at : at + size]
        elif kind == 6:
            out[at:at] = out[at : at + size]
        elif kind == 7:
            del out[rng.randrange(1, len(out) + 1) :]
        else:
            value = rng.choice((0, 1, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, len(out)))
            out[at : at + 4] = value.to_bytes(4, rng.choice(("big", "little")))
    return bytes(out)


def misspelt(data: bytes, rng: random.Random) -> bytes:
    """A text with words of trouble in it, lines gone, doubled or swapped."""
    lines = data.split(b"\n")
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(lines))
        kind = rng.randrange(6)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, rng.choice(lines) if lines else b"")
        elif kind == 2:
            lines[at] = rng.choice(_WORDS) * rng.choice((1, 1, 50))
        else:
            where = rng.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:where] + rng.choice(_WORDS) + lines[at][where:]
        lines = lines or [b""]
    text = b"\n".join(lines)
    return damaged(text, rng) if rng.random() < 0.2 else text


def changed(document: Any, rng: random.Random) -> Any:
    """A JSON document with entries gone, added, of other types or out of range."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = list(_places(document))
        if not places:
            break
        holder, key = rng.choice(places)
        kind = rng.randrange(5)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[str(rng.choice(_SPECIAL))[:50]] = rng.choice(_SPECIAL)
        elif kind == 2 and isinstance(holder[key], (int, float)):
            holder[key] = holder[key] * rng.choice((-1, 0, 2, 1e9))
        elif kind == 3:
            holder[key] = copy.deepcopy(rng.choice(places)[0])
        else:
            holder[key] = copy.deepcopy(rng.choice(_SPECIAL))
    return document


def written(document: Any, rng: random.Random) -> bytes:
    """As JSON; sometimes nested without end, sometimes damaged as a text."""
    if rng.random() < 0.03:
        return b"[" * rng.choice((500, 100_000))
    text = json.dumps(document).encode("utf-8", "surrogatepass")
    return damaged(text, rng) if rng.random() < 0.1 else text


def _places(value: Any) -> Any:
    if isinstance(value, dict):
        for key in value:
            yield value, key
            yield from _places(value[key])
    elif isinstance(value, list):
        for number in range(min(len(value), 50)):
            yield value, number
            yield from _places(value[number])
