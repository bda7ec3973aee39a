"""Values of configuration fields, checked against their types."""

from __future__ import annotations

import difflib
import os
import types
import typing
from typing import Any, Literal

from mafsar.documents import shortened
from mafsar.errors import InputError


def checked(name: str, value: Any, kind: Any) -> Any:
    """A value of a field's type, from Python; None where the field may be None.

    Args:
        name: The field's dotted name, for messages.
        value: What was given.
        kind: The field's type.

    Raises:
        InputError: The value is of another kind.
    """
    if value is None and type(None) in typing.get_args(kind):
        return None
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return typed(name, value, kind)


def typed(name: str, value: Any, kind: Any, where: str = "") -> Any:
    """A value of a field's type, from TOML, from text as in `key=value`, or from Python.

    Args:
        name: The field's dotted name, for messages.
        value: What was given; not None.
        kind: The field's type.
        where: What a message starts with, as the name of a file.

    Raises:
        InputError: The value is of another kind.
    """
    options = typing.get_args(kind)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(option for option in options if option is not type(None))
        options = typing.get_args(kind)
    word = value if isinstance(value, str) else shortened(value)
    got = shortened(value).replace("{", "{{").replace("}", "}}")
    wrong = f"{where}{name} must be {{}}, got {got}"
    if typing.get_origin(kind) is Literal:
        if isinstance(value, str) and value in options:
            return value
        near = difflib.get_close_matches(word, options, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(wrong.format(f"one of {', '.join(options)}") + hint)
    if typing.get_origin(kind) is tuple:
        items = value.split("|") if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            raise InputError(wrong.format("a list of strings (in key=value joined by |)"))
        return tuple(item for item in items if item)
    if kind is bool:
        words = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
        found = value if isinstance(value, bool) else words.get(word.lower())
        if found is None:
            raise InputError(wrong.format("true or false"))
        return found
    if kind is str:
        if not isinstance(value, str):
            raise InputError(wrong.format("a text"))
        return value
    if isinstance(value, bool) or (kind is int and isinstance(value, float)):
        raise InputError(wrong.format("a whole number" if kind is int else "a number"))
    try:
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(wrong.format("a whole number" if kind is int else "a number")) from None
