"""Errors as JSON, for the process that waits for the engine builder.

The parts of a message are kept, so that the command line can still show arguments as flags.
"""

from __future__ import annotations

from typing import Any

from mafsar import errors
from mafsar.errors import ANY, Call, MafsarError, Option, Placeholder


def error_to_json(error: MafsarError) -> dict[str, Any]:
    """The kind of an error and the parts of its message."""
    return {"kind": type(error).__name__, "parts": [_part_to_json(part) for part in error.parts]}


def error_from_json(content: dict[str, Any]) -> MafsarError:
    """The error of `error_to_json`."""
    kind: type[MafsarError] = getattr(errors, content["kind"])
    return kind(*(_part_from_json(part) for part in content["parts"]))


def _part_to_json(part: object) -> Any:
    if isinstance(part, Option):
        return {"option": _values_to_json(part.values)}
    if isinstance(part, Call):
        words = [_value_to_json(value) for value in part.arguments]
        return {"call": part.function, "arguments": words, "options": _values_to_json(part.options)}
    if isinstance(part, MafsarError):
        return {"error": error_to_json(part)}
    return str(part)


def _part_from_json(part: Any) -> object:
    if isinstance(part, str):
        return part
    if "option" in part:
        return Option(_values_from_json(part["option"]))
    if "call" in part:
        words = tuple(_value_from_json(value) for value in part["arguments"])
        return Call(part["call"], words, _values_from_json(part["options"]))
    return error_from_json(part["error"])


def _values_to_json(values: Any) -> dict[str, Any]:
    return {name: _value_to_json(value) for name, value in values.items()}


def _values_from_json(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _value_from_json(value) for name, value in values.items()}


def _value_to_json(value: Any) -> Any:
    # `ANY` is recognised by identity, so a placeholder is marked.
    return {"placeholder": str(value)} if isinstance(value, Placeholder) else value


def _value_from_json(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    word = value["placeholder"]
    return ANY if word == ANY else Placeholder(word)
