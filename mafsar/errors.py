"""The kinds of error that mafsar raises on purpose, and the parts of their messages.

Each kind is also a built-in one, so that `except ValueError` and the like work as usual. A message
says what is wrong, where, and what to do, in one line.

Messages name arguments by `option(text="on")` and functions by `call("enroll", ...)`. `str(error)`
shows them as Python; the command line shows the same parts as flags and commands
(`mafsar.cli.wording`).

    raise UnavailableError(
        option(text="on"), f": {name} has no text tower; use ", option(text="off")
    )
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


# Plain classes: making a dataclass takes a millisecond, and every command imports this file.
class Option:
    """Arguments that a message names: ``engine='trt', precision='fp16'``.

    Attributes:
        values: Values by argument name. `ANY` stands for a value that the user chooses: only the
            name is shown.
    """

    __slots__ = ("values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def __str__(self) -> str:
        return ", ".join(
            name if value is ANY else f"{name}={shown(value)}"
            for name, value in self.values.items()
        )


class Call:
    """A call that a message suggests: ``mafsar.export_model('runs/h', engine='trt')``.

    Attributes:
        function: Its public name in `mafsar`.
        arguments: Positional arguments; a `Placeholder` stands for one that the user chooses.
        options: Keyword arguments.
        saved_to: File that the result is saved to, or None.
    """

    __slots__ = ("arguments", "function", "options", "saved_to")

    def __init__(
        self,
        function: str,
        arguments: tuple[Any, ...],
        options: Mapping[str, Any],
        saved_to: Any = None,
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.options = options
        self.saved_to = saved_to

    def __str__(self) -> str:
        words = [shown(value) for value in self.arguments]
        words += [f"{name}={shown(value)}" for name, value in self.options.items()]
        then = "" if self.saved_to is None else f".save({shown(self.saved_to)})"
        return f"mafsar.{self.function}({', '.join(words)}){then}"


class Placeholder(str):
    """A word that stands for a value; shown without quotes."""

    __slots__ = ()


ANY = Placeholder("ANY")


class Message(str):
    """A sentence with parts, as those of an error; the text itself shows them as Python."""

    parts: tuple[object, ...]

    @classmethod
    def of(cls, *parts: object) -> Message:
        """Joins parts to a sentence."""
        message = cls("".join(str(part) for part in parts))
        message.parts = parts
        return message


def option(*names: str, **values: Any) -> Option:
    """Arguments in a message: `option("threshold")` by name alone, `option(text="on")` with a value."""
    return Option(dict.fromkeys(names, ANY) | values)


def call(function: str, *arguments: Any, saved_to: Any = None, **options: Any) -> Call:
    """A call in a message, as `call("enroll", path)`; `saved_to` adds `.save(…)`."""
    return Call(function, arguments, options, saved_to)


def shown(value: Any) -> str:
    """A value as Python source; a path as a string."""
    if isinstance(value, Placeholder):
        return str.__str__(value)
    if isinstance(value, int) and value.bit_length() > 256:  # thousands of digits have no repr
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, (bool, int, float, str)) or value is None:
        return f"{value:g}" if isinstance(value, float) else repr(value)
    if isinstance(value, (list, tuple)):
        words = ", ".join(shown(item) for item in value)
        return f"[{words}]" if isinstance(value, list) else f"({words}{',' * (len(value) == 1)})"
    return repr(str(value))


class MafsarError(Exception):
    """The base of all errors that mafsar raises on purpose.

    Args:
        parts: The message in pieces: text, `option(...)` and `call(...)`.

    Attributes:
        parts: The same pieces, which the command line shows as flags and commands.
    """

    parts: tuple[object, ...]

    def __init__(self, *parts: object) -> None:
        super().__init__("".join(str(part) for part in parts))
        self.parts = parts

    def __str__(self) -> str:
        # OSError, a base of MissingError, would print "[Errno …]" for some argument counts.
        return str(self.args[0]) if self.args else ""


class InputError(MafsarError, ValueError):
    """A value, file or folder is not what it should be."""


class ArgumentTypeError(MafsarError, TypeError):
    """An argument has a type or dtype that the function does not take."""


class MissingError(MafsarError, FileNotFoundError):
    """A file, folder, model or class does not exist."""


class VideoError(InputError):
    """A clip cannot be decoded; the message starts with its path."""


class MismatchError(MafsarError, RuntimeError):
    """Two artifacts do not belong together, such as a bank and a model."""


class UnavailableError(MafsarError, RuntimeError):
    """An engine, device, precision, package or feature is not available here."""


class TrainingError(MafsarError, RuntimeError):
    """Training cannot continue, as when the loss is NaN; the saved state is kept."""


class LostProcessError(TrainingError):
    """Another process of a distributed run has ended."""
