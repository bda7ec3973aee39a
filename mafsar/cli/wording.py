"""The one place where the library's Python becomes the command line's flags and commands.

Errors carry the arguments and calls that they name (`mafsar.errors`); here ``text='on'`` becomes
``--text on`` and ``mafsar.enroll(support).save(...)`` becomes ``mafsar enroll SUPPORT -o BANK``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mafsar.errors import ANY, Call, MafsarError, Message, Option, Placeholder

# Arguments whose flag is not their own name with dashes.
FLAGS = {
    "add_to": "--add",
    "calibration": "--calib",
    "class_names": "--class",
    "clip_names": "--clip",
    "out": "-o",
    "path": "-o",
    "workspace_gib": "--workspace",
}
# Arguments of which one value is a flag of its own.
SWITCHES = {("on_error", "skip"): "--skip-bad"}
# Arguments that are given by position: the word that stands for them.
POSITIONAL = {"support": "SUPPORT", "source": "QUERY", "bank": "BANK", "model_name": "MODEL"}
# Functions whose verb has another name.
VERBS = {
    "evaluate": "eval",
    "export_model": "export",
    "list_models": "info",
    "load_model": "info",
    "merge_banks": "bank merge",
    "read_bank": "bank list",
}


def worded(said: object) -> str:
    """An exception or a message as the command line says it; anything else as it is."""
    if isinstance(said, (MafsarError, Message)):
        return "".join(_said(part) for part in said.parts)
    return str(said)


def _said(part: object) -> str:
    if isinstance(part, Option):
        return " ".join(_flags(part.values))
    if isinstance(part, Call):
        words = [VERBS.get(part.function, part.function)]
        words += [_value(value) for value in part.arguments]
        target = [] if part.saved_to is None else ["-o", _value(part.saved_to)]
        return " ".join(["mafsar", *words, *target, *_flags(part.options)])
    return worded(part)


def _flags(values: Mapping[str, Any]) -> Iterable[str]:
    for name, value in values.items():
        if name in POSITIONAL:
            yield POSITIONAL[name] if value is ANY else _value(value)
            continue
        if isinstance(value, str) and (name, value) in SWITCHES:
            yield SWITCHES[name, value]
            continue
        flag = FLAGS.get(name, "--" + name.replace("_", "-"))
        if value is True or value is ANY:
            yield flag
        elif value is None:
            yield f"no {flag}"
        elif value is False:
            yield f"--no-{flag.removeprefix('--')}"
        else:
            yield f"{flag} {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, Placeholder):
        return value.upper()
    if isinstance(value, (str, Path)):
        import shlex

        return shlex.quote(str(value))
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ",".join(_value(item) for item in value)
    return str(value)
