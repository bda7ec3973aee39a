"""The few kinds of error that mafsar raises on purpose.

Each is also a builtin kind, so that callers who know nothing of mafsar can still catch what they
would expect. A message says what is wrong, where, and what to do, in one line.

The library speaks Python: a message names arguments by `option(text="on")` and functions by
`call("enroll", ...)`, and `str(error)` shows them as Python. The command line says the same parts
as flags and commands (`mafsar.cli.wording`).

    raise UnavailableError(
        option(text="on"), f": {name} has no text tower; use ", option(text="off")
    )
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """Arguments that a message names: ``engine='trt', precision='fp16'``.

    Attributes:
        values: Values by argument name. `ANY` stands for a value that the user has to choose:
            only the name is shown.
    """

    values: Mapping[str, Any]

    def __str__(self) -> str:
        return ", ".join(
            name if value is ANY else f"{name}={shown(value)}"
            for name, value in self.values.items()
        )


@dataclass(frozen=True)
class Call:
    """A call that a message advises: ``mafsar.export_model('runs/h', engine='trt')``.

    Attributes:
        function: Its public name.
        arguments: Positional arguments; a `Placeholder` is one that the user has to choose.
        options: Keyword arguments.
        saved_to: Where the result is written, or None.
    """

    function: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    saved_to: Any = None

    def __str__(self) -> str:
        words = [shown(value) for value in self.arguments]
        words += [f"{name}={shown(value)}" for name, value in self.options.items()]
        then = "" if self.saved_to is None else f".save({shown(self.saved_to)})"
        return f"mafsar.{self.function}({', '.join(words)}){then}"


class Placeholder(str):
    """A word that stands for a value: shown without quotes."""

    __slots__ = ()


ANY = Placeholder("ANY")


class Message(str):
    """A sentence that is no error, with its parts: `str` says them in Python's words."""

    parts: tuple[object, ...]

    @classmethod
    def of(cls, *parts: object) -> Message:
        """The sentence of these parts."""
        message = cls("".join(str(part) for part in parts))
        message.parts = parts
        return message


def option(*names: str, **values: Any) -> Option:
    """Arguments for a message: by name alone, or with the value that was given or is advised."""
    return Option(dict.fromkeys(names, ANY) | values)


def call(function: str, *arguments: Any, saved_to: Any = None, **options: Any) -> Call:
    """A call for a message; `saved_to` adds `.save(…)`."""
    return Call(function, arguments, options, saved_to)


def shown(value: Any) -> str:
    """A value as Python source; a path as its text."""
    if isinstance(value, Placeholder):
        return str.__str__(value)
    if isinstance(value, (bool, int, float, str)) or value is None:
        return f"{value:g}" if isinstance(value, float) else repr(value)
    if isinstance(value, (list, tuple)):
        words = ", ".join(shown(item) for item in value)
        return f"[{words}]" if isinstance(value, list) else f"({words}{',' * (len(value) == 1)})"
    return repr(str(value))


class MafsarError(Exception):
    """Base of every error that mafsar raises on purpose.

    Args:
        parts: The message in pieces: text, `option(...)` and `call(...)`.

    Attributes:
        parts: The same pieces, for the command line to word.
    """

    parts: tuple[object, ...]

    def __init__(self, *parts: object) -> None:
        super().__init__("".join(str(part) for part in parts))
        self.parts = parts

    def __str__(self) -> str:
        # OSError, a base of MissingError, would print "[Errno …]" for some argument counts.
        return str(self.args[0]) if self.args else ""


class InputError(MafsarError, ValueError):
    """A value, file or folder that the user named is not what it should be."""


class ArgumentTypeError(MafsarError, TypeError):
    """An argument is of another type or dtype than the function takes."""


class MissingError(MafsarError, FileNotFoundError):
    """A file, folder, model or class that the user named does not exist."""


class VideoError(InputError):
    """A clip cannot be decoded; the message starts with its path."""


class MismatchError(MafsarError, RuntimeError):
    """Two artefacts do not belong together (hash, schema, shape of features)."""


class UnavailableError(MafsarError, RuntimeError):
    """An engine, device, precision, package or feature is missing; says what to install."""


class TrainingError(MafsarError, RuntimeError):
    """Training cannot go on (a loss that is not a number, a process that ended); state is kept."""


class LostProcessError(TrainingError):
    """Another process of a distributed run has ended; what libraries share with it is broken."""
