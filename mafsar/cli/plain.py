"""Text for a terminal: what a name of a class or file says must not steer the terminal.

An escape character in a label could clear the screen, change the title, or type into the shell.
Everything that the command line prints passes `plain`: its tables and lines, its messages on
stderr. JSON Lines escape control characters by themselves.
"""

from __future__ import annotations

from typing import TextIO

_KEPT = "\n\t"
_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
_ESCAPES = {code: f"\\x{code:02x}" for code in _CONTROLS if chr(code) not in _KEPT}
_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}


def plain(text: str) -> str:
    r"""The text with its control characters (C0, DEL, C1) as \x1b; line feeds and tabs stay."""
    return text.translate(_ESCAPES)


def plain_json(line: str) -> str:
    r"""JSON with the control characters that JSON allows in strings (DEL, C1) as \u009b."""
    return line.translate(_JSON_ESCAPES)


def say(stream: TextIO, text: str) -> None:
    """Writes a text to stdout or a file of results."""
    stream.write(plain(text))
