"""Text for a terminal: what a name of a class or file says must not steer the terminal.

An escape character in a label could clear the screen, change the title, or type into the shell. An
override of the writing direction could show `gpj.exe` as `exe.jpg`. Everything that the command
line prints passes `plain`: its tables and lines, its messages on stderr; so does what a page shows.
JSON Lines escape most control characters by themselves, `plain_json` the rest.
"""

from __future__ import annotations

from typing import TextIO

_KEPT = "\n\t"
_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
_ESCAPES = {code: f"\\x{code:02x}" for code in _CONTROLS if chr(code) not in _KEPT}
# Embeddings, overrides and isolates of the writing direction, and separators of lines. The marks
# U+200E and U+200F stay: they move only what stands next to them.
_STEERING = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029]
_ESCAPES |= {code: f"\\u{code:04x}" for code in _STEERING}
_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *_STEERING)}


def plain(text: str) -> str:
    r"""The text with control characters (C0, DEL, C1) as \x1b and those that turn it as \u202e.

    Line feeds and tabs stay.
    """
    return text.translate(_ESCAPES)


def plain_json(line: str) -> str:
    r"""JSON with what it allows in strings and `plain` does not show (DEL, C1, U+202E) as \u009b."""
    return line.translate(_JSON_ESCAPES)


def say(stream: TextIO, text: str) -> None:
    """Writes a text to stdout or a file of results."""
    stream.write(plain(text))
