"""What a document from outside may hold, said in tables: types, ranges, lengths.

A table is built of small checks; `check(value, where)` raises an `InputError` that names the entry,
what it should be and what it is. Files are read by `parse_json`, which knows the ways in which a
JSON text can be more than it seems.

    CHECK = record({"lam": number(above=0.0, most=1e6), "metric": one_of("otam", "mean")})
    CHECK({"lam": -1, "metric": "otam"}, "scoring")
    # InputError: scoring.lam must be a number > 0 and ≤ 1e+06, got -1
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mafsar.choices import is_finite
from mafsar.errors import InputError
from mafsar.files import irregular

Check = Callable[[Any, str], None]
"""Called with a value and its place; raises InputError."""

_SHOWN = 60  # characters of a value that a message shows


def parse_json(text: str, where: str) -> Any:
    """Reads a JSON text.

    Args:
        text: The text.
        where: What messages call it.

    Raises:
        InputError: It is no JSON, nests too deeply, has a number of thousands of digits or NaN.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise InputError(f"{where}: JSON that nests too deeply") from None
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error})") from None


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Reads a TOML text.

    Args:
        text: The text.
        where: What messages call it.

    Raises:
        InputError: It is not TOML, or nests too deeply.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{where}: TOML that nests too deeply") from None
    except ValueError as error:
        raise InputError(f"{where}: not TOML ({error})") from None


LARGEST_LIST = 256 << 20
"""Bytes of the largest list or table that is read: millions of lines."""


def read_text(path: Path, *, most_bytes: int = 16 << 20, any_bytes: bool = False) -> str:
    """Reads a UTF-8 file that is small, whatever its size claims to be; a leading BOM is dropped.

    Args:
        path: A regular file.
        most_bytes: The largest file that is read.
        any_bytes: Keep bytes that are not UTF-8, as Python keeps them in names of files.

    Raises:
        InputError: It is a pipe or a device, larger, not UTF-8, or cannot be read.
    """
    kind = irregular(path)
    if kind is not None:
        raise InputError(f"{path}: is {kind}, not a file; give a file")
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
        if len(data) > most_bytes:
            raise InputError(f"{path}: larger than the {most_bytes:,} bytes that are read")
        return data.decode("utf-8-sig", "surrogateescape" if any_bytes else "strict")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def number(
    *, least: float | None = None, above: float | None = None, most: float | None = None
) -> Check:
    """A finite number in a range."""
    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in ((">", above), ("≥", least), ("≤", most))
        if bound is not None
    ]
    wanted = f"a number {' and '.join(bounds)}".rstrip()

    def check(value: Any, where: str) -> None:
        fits = (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and is_finite(value)
            and (least is None or value >= least)
            and (above is None or value > above)
            and (most is None or value <= most)
        )
        _require(fits, where, wanted, value)

    return check


def whole(least: int, most: int) -> Check:
    """A whole number in a range."""

    def check(value: Any, where: str) -> None:
        fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        _require(fits, where, f"a whole number from {least} to {most}", value)

    return check


def text(*, pattern: str = r"[\s\S]*", longest: int = 10_000, wanted: str = "a text") -> Check:
    """A text; `wanted` says in words what the pattern means."""
    compiled = re.compile(pattern)

    def check(value: Any, where: str) -> None:
        fits = isinstance(value, str) and len(value) <= longest and compiled.fullmatch(value)
        _require(bool(fits), where, f"{wanted} of up to {longest} characters", value)

    return check


def sha256(value: Any, where: str) -> None:
    """A check: 64 hexadecimal digits."""
    fits = isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)
    _require(bool(fits), where, "64 hexadecimal digits", value)


def flag(value: Any, where: str) -> None:
    """A check: true or false."""
    _require(isinstance(value, bool), where, "true or false", value)


def anything(value: Any, where: str) -> None:
    """A check that everything passes."""


def one_of(*values: Any) -> Check:
    """One of a few values."""

    def check(value: Any, where: str) -> None:
        fits = any(value == each and type(value) is type(each) for each in values)
        _require(fits, where, f"one of {', '.join(map(str, values))}", value)

    return check


def either(first: Check, second: Check) -> Check:
    """What one of two checks takes; a value that neither takes gets the second one's message."""

    def check(value: Any, where: str) -> None:
        try:
            first(value, where)
        except InputError:
            second(value, where)

    return check


def optional(inner: Check) -> Check:
    """null, or what another check takes."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def items(inner: Check, least: int, most: int) -> Check:
    """A list of `least` to `most` values, each of which fits another check."""
    size = str(least) if least == most else f"{least} to {most}"

    def check(value: Any, where: str) -> None:
        fits = isinstance(value, (list, tuple)) and least <= len(value) <= most
        _require(fits, where, f"a list of {size} entries", value)
        for number_of, each in enumerate(value):
            inner(each, f"{where}[{number_of}]")

    return check


def record(
    required: Mapping[str, Check],
    extra: Mapping[str, Check] | None = None,
    *,
    open_to_more: bool = False,
) -> Check:
    """An object with named entries.

    Args:
        required: Entries that must be there.
        extra: Entries that may be there.
        open_to_more: Other entries are passed over, as newer versions may write them.
    """
    known = {**required, **(extra or {})}

    def check(value: Any, where: str) -> None:
        _require(isinstance(value, dict), where, "an object", value)
        for name in required:
            if name not in value:
                raise InputError(f"{_place(where, name)} is missing")
        for name, each in value.items():
            if name in known:
                known[name](each, _place(where, name))
            elif not open_to_more:
                raise InputError(f"{_place(where, str(name)[:_SHOWN])} is unknown")

    return check


def table(inner: Check, *, keys: str = r"[\s\S]{1,255}", most: int = 10_000) -> Check:
    """An object whose entries all fit one check, by names of one pattern."""
    compiled = re.compile(keys)

    def check(value: Any, where: str) -> None:
        fits = isinstance(value, dict) and len(value) <= most
        _require(fits, where, f"an object of up to {most} entries", value)
        for name, each in value.items():
            _require(bool(compiled.fullmatch(name)), where, "an object of other names", name)
            inner(each, _place(where, name))

    return check


def _place(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _require(fits: bool, where: str, wanted: str, value: Any) -> None:
    if not fits:
        raise InputError(f"{where} must be {wanted}, got {shortened(value)}")


def shortened(value: Any) -> str:
    """A value as Python source of at most some 60 characters, for messages."""
    try:
        shown = repr(value)
    except (ValueError, RecursionError):  # thousands of digits; nested
        return f"a value of type {type(value).__name__}"
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
